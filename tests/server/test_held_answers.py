"""An answer leaves when its decision is committed, of a whole server whose database is slow, full, locked or broken."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest

CROWD = 64


@pytest.fixture(scope="module")
def troubled(load_module: Callable[[str], ModuleType]) -> ModuleType:
    return load_module("troubled")


@pytest.fixture
def start(troubled: ModuleType, store_path: Path, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    begun: list[Any] = []

    def start_one(**settings: Any) -> Any:
        begun.append(troubled.Troubled(store_path, tmp_path / "server", **settings))
        return begun[-1]

    yield start_one
    for server in begun:
        server.kill()


@pytest.fixture(scope="module")
def server(troubled: ModuleType, store_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Of tests that leave it as it was."""
    found = troubled.Troubled(store_path, tmp_path_factory.mktemp("held"))
    yield found
    found.kill()


def crowd(server: Any, asked: list[str], times: int) -> list[tuple[Any, int]]:
    """Of `CROWD` connections that each ask so many times: the answers, and the rows then committed of each."""

    def ask(number: int) -> list[tuple[Any, int]]:
        with server.client() as client:
            found = []
            for turn in range(times):
                answer = client.ask(asked[(number + turn) % len(asked)])
                found.append((answer, client.committed(answer.decision)))
            return found

    with ThreadPoolExecutor(CROWD) as pool:
        return [each for found in pool.map(ask, range(CROWD)) for each in found]


def check(answers: list[tuple[Any, int]]) -> int:
    """How many were answered with a decision that was there then; the others were refused, without any."""
    good = [(answer, rows) for answer, rows in answers if answer.status == 200]
    for answer, rows in good:
        assert rows == (900 if len(answer.content) > 10_000 else 1)
    for answer, _ in answers:
        assert answer.status in (200, 429, 503), answer
        assert answer.status == 200 or (answer.decision is None and "retry-after" in answer.headers)
    return len(good)


def test_the_check_notices_an_answer_that_came_first(troubled: ModuleType) -> None:
    good = troubled.Answer(200, {"glasshouse-decision": "a"}, b"")
    refused = troubled.Answer(503, {"retry-after": "1"}, b"")
    assert check([(good, 1), (refused, 0)]) == 1
    with pytest.raises(AssertionError):
        check([(good, 0)])
    with pytest.raises(AssertionError):
        check([(troubled.Answer(503, {**good.headers, **refused.headers}, b""), 0)])


def settled(server: Any) -> bool:
    """Whether nothing is under way but the question, soon."""
    until = time.monotonic() + 30
    while server.sample("glasshouse_requests_in_flight") != 1:
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.parametrize("workers", [1, 2])
def test_an_answer_leaves_when_its_decision_is_committed(
    start: Callable[..., Any], troubled: ModuleType, workers: int
) -> None:
    server = start(workers=workers)
    server.trouble("commit", 0.01)
    before = server.recorded()
    answers = crowd(server, list(troubled.ASKED), 4)
    assert check(answers) > CROWD
    assert server.recorded() - before == {answer.decision for answer, _ in answers if answer.decision}
    assert settled(server)
    assert "Traceback" not in server.log()


def test_what_cannot_be_committed_is_not_answered_and_nothing_is_left_of_it(server: Any, troubled: ModuleType) -> None:
    def rename() -> None:
        with closing(server.database()) as database:
            database.execute("ALTER TABLE payload RENAME TO gone")

    def rename_back() -> None:
        with closing(server.database()) as database:
            database.execute("ALTER TABLE gone RENAME TO payload")

    troubles: list[tuple[Callable[[], Any], Callable[[], Any], int]] = [
        (rename, rename_back, 2),
        (lambda: server.trouble("pages", 1), lambda: server.trouble("pages", None), 2),
    ]
    for begin, end, times in troubles:
        before, counted = server.recorded(), server.sample("glasshouse_requests_total")
        begin()
        answers = crowd(server, list(troubled.ASKED), times)
        end()
        assert check(answers) < CROWD, "what still fits into the last page"
        assert server.recorded() - before == {answer.decision for answer, _ in answers if answer.decision}
        assert server.sample("glasshouse_requests_total") >= counted + len(answers)
        assert settled(server)
        assert check(crowd(server, ["infer"], 2)) >= 32
    assert "INSERT INTO payload" in server.log()
    assert "answered_at" not in server.log()


def test_a_database_that_somebody_locks_is_waited_for_once(server: Any) -> None:
    before = server.recorded()
    with closing(server.database()) as database:
        database.execute("BEGIN IMMEDIATE")
        with server.client() as client:
            assert check([(client.ask(), 0)]) == 0
        assert check(crowd(server, ["infer"], 1)) == 0
        database.execute("ROLLBACK")
    assert server.recorded() == before
    assert check(crowd(server, ["infer"], 1)) >= 32
    assert settled(server)


def request_of(path: str, body: Any, start: bytes = b"POST %s HTTP/1.1") -> bytes:
    content = json.dumps(body).encode()
    head = start % path.encode() + b"\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    return head % len(content) + content


def statuses(connection: socket.socket, count: int) -> list[int]:
    """Of so many answers on one connection, in order."""
    found = []
    for _ in range(count):
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        content = answer.read()
        found.append(answer.status)
        del content
    return found


def test_clients_that_leave_lose_their_answers_and_nothing_else(server: Any, troubled: ModuleType) -> None:
    server.trouble("commit", 0.3)
    before, asked = server.recorded(), request_of(*troubled.ASKED["infer"])
    leaving = [server.connect() for _ in range(20)]
    for connection in leaving:
        connection.sendall(asked)
    time.sleep(0.1)
    for connection in leaving:
        connection.close()
    with server.client() as client:
        answer = client.ask()
        assert client.committed(answer.decision) == 1
    assert settled(server)
    server.trouble("commit", None)
    assert 1 <= len(server.recorded() - before) <= 21
    assert check(crowd(server, ["infer"], 1)) >= 32
    assert "Traceback" not in server.log()


def test_requests_in_a_row_old_clients_and_other_methods(server: Any, troubled: ModuleType) -> None:
    before, (path, body) = server.recorded(), troubled.ASKED["infer"]
    with server.connect() as connection:
        connection.sendall(request_of(path, body) * 3)
        pieces = b""
        while pieces.count(b"HTTP/1.1 200") < 3 or not pieces.endswith(b"}"):
            pieces += connection.recv(65536)
    assert pieces.lower().count(b"\r\nglasshouse-decision: ") == 3
    with server.connect() as connection:
        connection.sendall(request_of(path, body, b"POST %s HTTP/1.0"))
        old = b"".join(iter(lambda: connection.recv(65536), b""))
    assert old.split(b" ")[1] == b"200"
    assert len(server.recorded() - before) == 4
    for method in ("HEAD", "GET", "PUT"):
        with server.client() as client:
            assert client.ask(method=method).status == 405
    assert len(server.recorded() - before) == 4
    assert settled(server)


def test_sigterm_answers_all_that_is_held(start: Callable[..., Any], troubled: ModuleType) -> None:
    server = start()
    server.trouble("commit", 0.5)
    before = server.recorded()
    connections = [server.connect() for _ in range(40)]
    asked = [request_of(*troubled.ASKED[("infer", "infer in a thread", "predict")[n % 3]]) for n in range(40)]
    for connection, content in zip(connections, asked, strict=True):
        connection.sendall(content)
    until = time.monotonic() + 30
    while server.sample("glasshouse_requests_in_flight") < 41 and time.monotonic() < until:
        if server.recorded() != before:
            break
        time.sleep(0.01)
    server.terminate()
    found = [statuses(connection, 1)[0] for connection in connections]
    for connection in connections:
        connection.close()
    assert server.process.wait(60) == 0
    assert set(found) <= {200, 429, 503}
    assert len(server.recorded() - before) == found.count(200) >= 1
    assert "Traceback" not in server.log()


def test_a_worker_that_is_killed_has_committed_what_it_answered(start: Callable[..., Any]) -> None:
    server = start()
    (worker,) = (p for p in psutil.Process(server.process.pid).children() if p.is_running())
    answered: list[str] = []

    def ask(_: int) -> None:
        try:
            with server.client() as client:
                while (answer := client.ask()).status == 200:
                    answered.append(answer.decision)
        except (OSError, http.client.HTTPException):
            return

    with ThreadPoolExecutor(16) as pool:
        asking = pool.map(ask, range(16))
        while len(answered) < 300:
            time.sleep(0.01)
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait(30)
        server.kill()
        list(asking)
    assert len(answered) >= 300
    assert set(answered) <= server.recorded()


def test_a_slow_disk_stops_neither_the_loop_nor_those_who_have_time(start: Callable[..., Any]) -> None:
    server = start(queue_seconds=0.3)
    server.trouble("commit", 0.3)
    answers = crowd(server, ["infer"], 4)
    assert check(answers) >= 32
    assert any(answer.status == 503 for answer, _ in answers)
    assert settled(server)
    server.trouble("commit", None)
    for _ in range(4):
        crowd(server, ["infer"], 2)
    assert check(crowd(server, ["infer"], 1)) >= 32


def test_others_are_answered_while_an_answer_is_held_and_it_is_given_late(server: Any, troubled: ModuleType) -> None:
    """Its deadline has passed when its decision is there: it is a decision all the same, so it is told."""
    with server.client() as waiting, server.client() as other, ThreadPoolExecutor(1) as pool:
        waiting.ask()
        server.trouble("commit", 2)
        held = pool.submit(waiting.ask, Glasshouse_Timeout_Ms="1500")
        assert all(other.get("/v2/health/live").status == 200 for _ in range(5))
        assert not held.done()
        server.trouble("commit", None)
        answer = held.result()
        assert check([(answer, waiting.committed(answer.decision))]) == 1
