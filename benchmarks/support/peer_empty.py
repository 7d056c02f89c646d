"""An empty Flask route behind the HTTP server that Glasshouse stands on, with the same settings: what HTTP alone costs.

python -m benchmarks.support.peer_empty PORT THREADS
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import server

# An address at which the front tries to answer in its loop, as it does for predictions.
PATH = "/empty/infer"
ANSWER = b'{"outputs":[]}'


def application() -> Any:
    """A Flask application whose one route reads the body and answers a constant."""
    from flask import Flask, Response, request

    app = Flask("empty")

    @app.route(PATH, methods=["GET", "POST"])
    def empty() -> Response:
        request.get_data()
        return Response(ANSWER, mimetype="application/json")

    return app


def load(threads: int) -> Any:
    """The application behind the server's own front."""
    limits = {"waiting": 256, "max_body": 64 << 20, "body_seconds": 20.0}
    return server.Front(application(), threads=threads, prompt=True, **limits)


def main() -> None:
    """Serve until the process is ended."""
    port, threads = (int(value) for value in sys.argv[1:3])
    loader: Any = partial(load, threads)
    server.listener(server.Config(port=port)).serve(target_loader=loader, wrap_loader=False)


if __name__ == "__main__":
    main()
