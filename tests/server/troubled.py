"""A whole server whose database can be given trouble while it runs: by the files of a folder, read at each transaction.

``commit`` holds the seconds that a commit takes, ``pages`` the most pages that the database may grow to. As a program:
``python troubled.py PORT STORE FOLDER WORKERS``; tests use :class:`Troubled`.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DATABASE = "decisions.sqlite"
BUSY_SECONDS = 1
ROW = {"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1.5, -0.5, 1.0]}
LARGE = {"name": "x", "datatype": "FP32", "shape": [900, 3], "data": [1.5, -0.5, 1.0] * 900}  # begun in a thread
TABLE = {"instances": [{"petal": 1.5, "sepal": -0.5, "colour": "w"}]}
INFER = "/v2/models/flowers/infer"
ASKED: dict[str, tuple[str, Any]] = {
    "infer": (INFER, {"inputs": [ROW]}),
    "infer in a thread": (INFER, {"inputs": [LARGE]}),
    "predict": ("/v1/models/flowers:predict", TABLE),
    "explain": ("/v1/models/flowers:explain", {**TABLE, "method": "saliency"}),
    "explain by v2": ("/v2/models/flowers/explain", {"inputs": [ROW], "explain": {"method": "input_x_gradient"}}),
}


@dataclass(frozen=True)
class Answer:
    """``decision`` is what the rows of the answer share; None where the headers name none."""

    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def decision(self) -> str | None:
        return self.headers.get("glasshouse-decision")


class Client:
    """One connection, kept for all it asks; and one of its own to the database."""

    def __init__(self, server: Troubled) -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        self._database = server.database()

    def ask(self, what: str = "infer", method: str = "POST", **headers: str) -> Answer:
        path, body = ASKED[what]
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._http.request(method, path, json.dumps(body), {"Content-Type": "application/json", **named})
        got = self._http.getresponse()
        return Answer(got.status, {name.lower(): value for name, value in got.getheaders()}, got.read())

    def get(self, path: str) -> Answer:
        self._http.request("GET", path)
        got = self._http.getresponse()
        return Answer(got.status, {name.lower(): value for name, value in got.getheaders()}, got.read())

    def committed(self, decision: str | None) -> int:
        """How many rows of an answer the database holds, as somebody else sees it."""
        found = self._database.execute("SELECT count(*) FROM decision WHERE id LIKE ? || '.%'", (decision,))
        return int(found.fetchone()[0])

    def close(self) -> None:
        self._http.close()
        self._database.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Troubled:
    """The program below in a process group of its own, ready to answer."""

    def __init__(self, store: Path, folder: Path, workers: int = 1, **settings: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._log = (folder / "log.txt").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, __file__, str(self.port), str(store), str(folder), str(workers), json.dumps(settings)],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        until = time.monotonic() + 60
        while not self._ready():
            assert time.monotonic() < until, self.log()
            assert self.process.poll() is None, self.log()
            time.sleep(0.05)

    def _ready(self) -> bool:
        try:
            with self.client() as client:
                return client.get("/v2/health/ready").status == 200
        except (OSError, sqlite3.Error):
            return False

    def client(self) -> Client:
        return Client(self)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def database(self) -> sqlite3.Connection:
        """A connection of somebody else, who takes no part in transactions unless asked to."""
        return sqlite3.connect(
            f"file:{self.folder / DATABASE}?mode=rw",
            uri=True,
            isolation_level=None,
            timeout=60,
            check_same_thread=False,
        )

    def recorded(self) -> set[str]:
        """All that is committed: what the rows of each answer share."""
        with contextlib.closing(self.database()) as database:
            return {found.partition(".")[0] for (found,) in database.execute("SELECT id FROM decision")}

    def trouble(self, kind: str, value: float | None) -> None:
        """From the next transaction on; None ends it."""
        path = self.folder / kind
        if value is None:
            path.unlink(missing_ok=True)
        else:
            path.with_suffix(".new").write_text(str(value))
            path.with_suffix(".new").replace(path)

    def sample(self, name: str) -> float:
        """The sum of a metric over its labels."""
        with self.client() as client:
            lines = client.get("/metrics").content.decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.partition("{")[0].partition(" ")[0] == name)

    def log(self) -> str:
        return (self.folder / "log.txt").read_text(errors="replace")

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(60)
        self._log.close()


def _told(path: Path) -> float:
    try:
        return float(path.read_text())
    except FileNotFoundError:
        return 0.0


def main(port: str, store: str, folder: str, workers: str, settings: str) -> None:
    """Serves, like the command; worker processes are forked, so what is replaced here is replaced there."""
    import sqlalchemy as sa

    from server import Config, serving

    at, opened = Path(folder), serving.open_database

    def checkout(connection: Any, *_: object) -> None:
        connection.execute(f"PRAGMA busy_timeout = {1000 * BUSY_SECONDS}").close()
        connection.execute(f"PRAGMA max_page_count = {int(_told(at / 'pages')) or 1 << 30}").close()

    def commit(_: sa.Connection) -> None:
        time.sleep(_told(at / "commit"))

    def open_troubled(url: Any) -> sa.Engine:
        engine = opened(url)
        sa.event.listen(engine, "checkout", checkout)
        sa.event.listen(engine, "commit", commit)
        return engine

    serving.open_database = open_troubled  # type: ignore[assignment]
    own = {"threads": 1, "workers": int(workers), "required_models": ("flowers",), **json.loads(settings)}
    serving.serve(Config(store=Path(store), database=at / DATABASE, port=int(port), **own))


if __name__ == "__main__":
    main(*sys.argv[1:])
