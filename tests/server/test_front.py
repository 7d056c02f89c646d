"""The front under Granian: bodies that dawdle, break off or do not end, clients that do not read, and full houses."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import resource
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from server.flow import ALWAYS

ROOT = Path(__file__).resolve().parents[2]
MOST, BODY_SECONDS, THREADS, WAITING, QUEUE_SECONDS = 2**20, 1.0, 2, 3, 0.5
PROGRAM = f"""
import json, sys, time
from functools import partial
from pathlib import Path
from server import Config, serving
from server.front import Front

def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path in ("/sleep", "/m:predict"):
        time.sleep(float(environ["QUERY_STRING"]))
    if path == "/stream":
        start_response("200 OK", [("Content-Type", "application/x-ndjson")])
        return lines()
    if path == "/broken":
        raise ZeroDivisionError("inside")
    names = ("REQUEST_METHOD", "PATH_INFO", "QUERY_STRING", "SERVER_PROTOCOL", "CONTENT_LENGTH", "CONTENT_TYPE")
    found = {{name: value for name, value in environ.items() if name in names or name.startswith("HTTP_")}}
    found["body"] = environ["wsgi.input"].read().decode("latin-1")
    content = b"x" * 10_000_000 if path == "/big" else json.dumps(found).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(content)))])
    return [content]

def lines():
    try:
        for number in range(1000):
            yield b"%d\\n" % number
            time.sleep(0.02)
    finally:
        Path(sys.argv[2]).write_text(str(number))

def load():
    limits = dict(threads={THREADS}, waiting=int(sys.argv[3]), max_body={MOST}, body_seconds={BODY_SECONDS})
    return Front(application, **limits, queue_seconds={QUEUE_SECONDS})

serving.allow_files(2000)
serving.HEADER_MILLISECONDS = 1000
serving.listener(Config(port=int(sys.argv[1]))).serve(target_loader=load, wrap_loader=False)
"""


class Served:
    """The program above, running."""

    def __init__(self, folder: Path, waiting: int = WAITING) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self.left = folder / "left"
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(self.port), str(self.left), str(waiting)],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                self.connect().close()
                return
            except OSError:
                time.sleep(0.02)
        raise AssertionError("the program never listened")

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def get(self, path: str = "/") -> requests.Response:
        return requests.get(self.address + path, timeout=60)

    def raw(self, *parts: bytes, half: bool = False) -> bytes:
        """All that the server answers to these very bytes before it closes."""
        with self.connect() as connection:
            for part in parts:
                connection.sendall(part)
            if half:
                connection.shutdown(socket.SHUT_WR)
            return read_to_end(connection)


def read_to_end(connection: socket.socket) -> bytes:
    answer = b""
    with connection, contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            answer += piece
    return answer


def refused(answer: bytes, status: int) -> str:
    """The message of a refusal, after checking its shape."""
    head, _, content = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), answer[:200]
    headers = {name.lower(): value for name, _, value in (line.partition(b": ") for line in head.split(b"\r\n")[1:])}
    assert headers[b"content-type"] == b"application/json"
    assert headers[b"x-content-type-options"] == b"nosniff"
    assert len(headers[b"x-request-id"]) == 32
    assert (b"retry-after" in headers) == (status in (429, 503))
    (message,) = json.loads(content).values()
    assert isinstance(message, str)
    return message


@contextlib.contextmanager
def serving(folder: Path, waiting: int) -> Iterator[Served]:
    found = Served(folder, waiting)
    yield found
    found.process.terminate()
    assert found.process.wait(60) == 0


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("front"), WAITING) as found:
        yield found


HEAD = b"POST /x HTTP/1.1\r\nHost: x\r\n"
LAST = HEAD + b"Connection: close\r\n"


def test_the_application_sees_the_request_as_it_was_sent(served: Served) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
    connection.putrequest("PUT", "/a%2Fb/%C3%BC?c=%20d&e", skip_accept_encoding=True)
    for name, value in [
        ("Content-Type", "a/b"),
        ("X-Two", "1"),
        ("X-Two", "2"),
        ("X_Two", "3"),
        ("Content-Length", "3"),
    ]:
        connection.putheader(name, value)
    connection.endheaders(b"\x00\xff!")
    seen = json.loads(connection.getresponse().read())
    connection.close()
    assert seen == {
        "REQUEST_METHOD": "PUT",
        "PATH_INFO": "/a/b/ü".encode().decode("latin-1"),
        "QUERY_STRING": "c=%20d&e",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "CONTENT_LENGTH": "3",
        "CONTENT_TYPE": "a/b",
        "HTTP_HOST": f"127.0.0.1:{served.port}",
        "HTTP_X_TWO": "1,2",
        "body": "\x00ÿ!",
    }


def body_of(answer: bytes) -> Any:
    return json.loads(answer.partition(b"\r\n\r\n")[2])


def test_bodies_in_chunks_on_request_and_of_old_clients_are_read_whole(served: Served) -> None:
    chunks = b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    seen = body_of(served.raw(LAST + b"Transfer-Encoding: chunked\r\n\r\n" + chunks))
    assert (seen["body"], seen["CONTENT_LENGTH"]) == ("abcde", "5")
    assert "HTTP_TRANSFER_ENCODING" not in seen
    old = served.raw(b"POST /x HTTP/1.0\r\nContent-Length: 2\r\n\r\nab")
    assert body_of(old)["SERVER_PROTOCOL"] == "HTTP/1.0"
    with served.connect() as connection:
        connection.sendall(LAST + b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        connection.sendall(b"ab")
        assert body_of(read_to_end(connection))["body"] == "ab"


def test_too_large_a_body_is_refused_before_it_is_there(served: Served) -> None:
    said = refused(served.raw(HEAD + b"Content-Length: %d\r\n\r\n" % (MOST + 1)), 413)
    assert said == f"body: got {MOST + 1} bytes, expected at most {MOST}"
    endless = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    with served.connect() as connection:
        connection.sendall(endless)
        with pytest.raises(OSError, match=r"reset|Broken pipe"):
            connection.sendall((b"1000\r\n" + b"x" * 4096 + b"\r\n") * 10_000)
    whole = b"".join(b"1000\r\n" + b"x" * 4096 + b"\r\n" for _ in range(MOST // 4096 + 1))
    assert "expected at most" in refused(served.raw(endless + whole), 413)


def test_a_body_that_breaks_off_never_reaches_the_application(served: Served) -> None:
    for head in (b"Content-Length: 10\r\n\r\n{}", b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"):
        answer = served.raw(LAST + head, half=True)
        assert b"HTTP/1.1 200" not in answer
        assert b"REQUEST_METHOD" not in answer
    trailers = b"Transfer-Encoding: chunked\r\nTrailer: X-A\r\n\r\n2\r\n{}\r\n0\r\nX-A: b\r\n\r\n"
    assert "trailers" in refused(served.raw(LAST + trailers), 400)


def test_a_body_that_dawdles_is_cut(served: Served) -> None:
    for head in (b"Content-Length: 10\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"):
        said = refused(served.raw(HEAD + head), 408)
        assert said == f"body: got a part of it, expected all of it in {BODY_SECONDS:g} s"
    assert served.raw(b"GET / HTTP/1.1\r\nHo") == b""


def test_a_full_house_refuses_at_once_and_then_takes_again(served: Served) -> None:
    waiting = [served.connect() for _ in range(THREADS + WAITING + 1)]
    for connection in waiting:
        connection.sendall(b"GET /sleep?1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    (first, *_), _, _ = select.select(waiting, [], [])
    waiting.remove(first)
    assert "may be under way" in refused(read_to_end(first), 503)
    assert all(body_of(read_to_end(connection))["PATH_INFO"] == "/sleep" for connection in waiting)
    assert served.get().status_code == 200


def test_readers_that_do_not_read_hold_no_thread(served: Served) -> None:
    connections = [served.connect() for _ in range(4 * THREADS)]
    for connection in connections:
        connection.sendall(b"GET /big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        time.sleep(0.05)  # one after the other: the house holds few
    assert all(served.get().status_code == 200 for _ in range(10))
    for connection in connections:
        assert len(read_to_end(connection)) > 10_000_000


def test_a_failure_of_the_application_is_an_answer(served: Served) -> None:
    for _ in range(2 * THREADS):
        answer = served.get("/broken")
        assert answer.status_code == 500
        assert "inside" not in answer.text


def test_a_stream_comes_as_it_is_made_and_ends_when_the_client_leaves(served: Served) -> None:
    with requests.get(f"{served.address}/stream", stream=True, timeout=60) as answer:
        lines = answer.iter_lines()
        assert [next(lines) for _ in range(3)] == [b"0", b"1", b"2"]
        assert not served.left.exists()
    until = time.monotonic() + 60
    while not served.left.exists() and time.monotonic() < until:
        time.sleep(0.02)
    time.sleep(0.1)
    assert int(served.left.read_text()) < 900


@pytest.mark.parametrize("count", [200, pytest.param(1000, marks=pytest.mark.slow)])
def test_slow_sockets_starve_nobody(served: Served, count: int) -> None:
    """Half of them dawdle with the body, half with the headers; all are cut."""
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed < count + 100:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(count + 100, most), most))
    connections = [served.connect() for _ in range(count)]
    for number, connection in enumerate(connections):
        connection.sendall(HEAD + (b"Content-Length: 100\r\n\r\n{" if number % 2 else b"X-A: "))
    assert all(served.get().status_code == 200 for _ in range(50))
    for number, connection in enumerate(connections):
        answer = read_to_end(connection)
        assert answer.startswith(b"HTTP/1.1 408 ") if number % 2 else answer == b""


def test_predictions_that_would_wait_too_long_are_refused_and_their_connections_kept(tmp_path: Path) -> None:
    """Two threads answer 40 a second, so half a second is 20 of them; but 32 may always wait."""

    def ask(connection: http.client.HTTPConnection, path: str = "/m:predict?0.05") -> tuple[int, str | None]:
        connection.request("POST", path, b"{}")
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.getheader("Retry-After")

    with serving(tmp_path, waiting=200) as served:
        connections = [http.client.HTTPConnection("127.0.0.1", served.port, timeout=60) for _ in range(60)]
        with ThreadPoolExecutor(60) as pool:
            assert {status for status, _ in pool.map(ask, connections[:30])} == {200}, "as many as may always wait"
            own = {connection: connection.sock for connection in connections[:30]}
            found = list(pool.map(ask, connections))
            assert {status for status, _ in found} == {200, 503}
            assert sum(status == 200 for status, _ in found) >= ALWAYS
            assert all((retry is not None) == (status == 503) for status, retry in found)
            assert all(connection.sock is sock for connection, sock in own.items())
            crowd = [pool.submit(ask, connection) for connection in connections[:40]]
            assert ask(connections[50], "/sleep?0.01")[0] == 200, "only predictions are told by predictions"
            assert {each.result()[0] for each in crowd} <= {200, 503}
        assert ask(connections[0])[0] == 200
        for connection in connections:
            connection.close()
