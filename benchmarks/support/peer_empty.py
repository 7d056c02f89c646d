"""An empty Flask route behind the HTTP server that Glasshouse stands on, with the same settings: what HTTP alone costs.

python -m benchmarks.support.peer_empty PORT THREADS
"""

from __future__ import annotations

import sys
from typing import Any

ANSWER = b'{"outputs":[]}'


def application() -> Any:
    """A Flask application whose one route reads the body and answers a constant."""
    from flask import Flask, Response, request

    app = Flask("empty")

    @app.route("/empty", methods=["GET", "POST"])
    def empty() -> Response:
        request.get_data()
        return Response(ANSWER, mimetype="application/json")

    return app


def main() -> None:
    """Serve until the process is ended."""
    from granian import Granian
    from granian.constants import HTTPModes, Interfaces
    from granian.log import LogLevels

    port, threads = (int(value) for value in sys.argv[1:3])
    server = Granian(
        "empty",
        address="127.0.0.1",
        port=port,
        interface=Interfaces.WSGI,
        http=HTTPModes.http1,
        websockets=False,
        workers=1,
        blocking_threads=threads,
        backpressure=threads + 1024,
        log_level=LogLevels.error,
    )
    server.serve(target_loader=application, wrap_loader=False)


if __name__ == "__main__":
    main()
