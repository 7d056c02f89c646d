"""What the benchmarks judge by is itself judged: clients, and the verdicts that have no server in them."""

import argparse
import http.server
import json
import math
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import explain
from benchmarks import engine_kills, gpu, soak, swaps
from benchmarks.support import asking, clients, connection, load, models, page
from benchmarks.support.asking import COUNTER, Ask
from benchmarks.support.clients import Answer
from benchmarks.support.worths import Table
from tests.explain.graphs import attribute, mlp, numbers, run


class Echo(http.server.BaseHTTPRequestHandler):
    """Answers the path and body it was sent; /full is refused."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer = json.dumps({"path": self.path, "body": body.decode()}).encode()
        self.send_response(429 if self.path.startswith("/full") else 200)
        if self.path.startswith("/full"):
            self.send_header("Retry-After", "1")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def answer(status: int = 200, done: float = 0.0, body: bytes = b"", sent: float = 0.0) -> Answer:
    return Answer(0, sent, sent, done, status, False, body)


def test_an_open_loop_asks_what_is_due_and_keeps_the_order(port: int) -> None:
    asks = [Ask(f"/a?{COUNTER}", f'{{"seed": {COUNTER}}}'.encode()), Ask("/full", b"{}")]
    found = clients.open_loop(port, asks, rate=200, seconds=0.1, connections=3)
    assert [each.number for each in found] == list(range(20))
    assert Counter((each.status, each.retry_after) for each in found) == {(200, False): 10, (429, True): 10}
    sent = json.loads(found[4].body)
    assert sent == {"path": "/a?000000000004", "body": '{"seed": 000000000004}'}
    assert all(each.due <= each.sent <= each.done for each in found)
    assert clients.statuses(found) == "200: 10, 429: 10"


def test_nobody_there_is_a_connection_that_ended() -> None:
    found = clients.open_loop(1, [Ask("/", b"")], rate=100, seconds=0.05)
    assert {each.status for each in found} == {connection.CONNECTION_LOST}


def test_a_closed_loop_asks_until_it_is_told_to_stop(port: int) -> None:
    found: list[Answer] = []
    clients.closed(port, lambda n: Ask("/a", b"{}") if n < 30 else None, 4, found.append)
    assert sorted(each.number for each in found) == list(range(30))


def test_the_load_generator_counts_answers_and_failures(port: int) -> None:
    good, bad = (load.closed_loop(port, Ask(path, b"{}"), 2, 1) for path in (f"/a?{COUNTER}", "/full"))
    assert good.requests > 0
    assert good.failed == 0
    assert bad.failed == bad.requests > 0


def test_an_answer_is_whole_or_none() -> None:
    whole = b"HTTP/1.1 503 X\r\nRetry-After: 1\r\nContent-Length: 2\r\nConnection: close\r\n\r\nab"
    assert connection.parsed(bytearray(whole)) == (503, True, b"ab", True)
    assert connection.parsed(bytearray(whole[:-1])) is None
    with pytest.raises(ValueError, match="Content-Length"):
        connection.parsed(bytearray(b"HTTP/1.1 200 OK\r\n\r\n"))


def test_a_binary_request_adds_up() -> None:
    x = np.arange(6, dtype=np.float32).reshape(1, 6)
    ask = asking.v2_binary("m", x)
    head = int(ask.headers["Inference-Header-Content-Length"])
    assert json.loads(ask.body[:head])["inputs"][0]["parameters"] == {"binary_data_size": 24}
    assert ask.body[head:] == x.tobytes()


def test_back_is_the_first_good_answer_behind_the_last_failed_one() -> None:
    found = [answer(done=1.0), answer(503, 11.0), answer(done=11.5), answer(503, 12.0), answer(done=13.0)]
    assert engine_kills.back(found, [10.0]) == [3.0]
    assert engine_kills.back([*found, answer(503, 21.0)], [10.0, 20.0]) == [3.0, math.inf]
    body = json.dumps({"predictions": [[1.0, 2.0]]}).encode()
    assert engine_kills.right(answer(body=body), np.array([1.0, 2.0]))
    assert not engine_kills.right(answer(body=body), np.array([1.0, 2.1]))


def test_a_swap_that_mixes_versions_is_caught() -> None:
    expected = swaps.Expected({1: np.array([1.0]), 2: np.array([2.0])}, {1: "a", 2: "b"})

    def told(version: int, value: float, digest: str) -> str:
        body = {"model_version": str(version), "model_digest": digest, "predictions": [[value]]}
        return expected.wrong(answer(body=json.dumps(body).encode()))

    assert told(1, 1.0, "a") == told(2, 2.0, "b") == ""
    assert told(1, 2.0, "a") == "outputs of another version"
    assert told(2, 2.0, "a") == "digest of another version"
    assert expected.wrong(answer(503)) == "failed"


def test_the_versions_that_were_the_default_between_two_moments(tmp_path: Path) -> None:
    switcher = swaps.Switcher(swaps.Store(tmp_path), 0, 0.0)
    switcher.switched = [(10.0, 11.0, 2), (20.0, 21.0, 1)]
    cases = {(1, 2): {1}, (5, 10.5): {1, 2}, (12, 13): {2}, (10.5, 12): {1, 2}, (12, 25): {1, 2}, (22, 23): {1}}
    assert {case: switcher.defaults(*case) for case in cases} == cases


def test_heavy_operators_are_named() -> None:
    assert gpu.heavy(Counter({"Shape": 3, "ConvTranspose": 1, "FusedMatMul": 2, "Cast": 1})) == [
        "ConvTranspose",
        "FusedMatMul",
    ]
    assert gpu.heavy(Counter({"Shape": 3})) == []


def test_the_mixture_of_the_soak_is_as_its_page_says() -> None:
    mixed = soak.mixture()
    assert len(mixed) == 100
    assert sum(good for _, good in mixed) == 90
    assert sum(ask.path.endswith(":explain") and good for ask, good in mixed) == 10


def test_a_page_says_what_it_is_of(tmp_path: Path) -> None:
    given = argparse.Namespace(output=tmp_path / "page.md", quick=True)
    made = page.Page("start", "Title", " About it. ", given)
    made.table("a", "b", title="Lines").add(1, "x")
    made.write()
    text = (tmp_path / "page.md").read_text()
    assert text.startswith("# Title\n")
    assert text.endswith("About it.\n\n## Lines\n\n| a | b |\n| --- | --- |\n| 1 | x |\n")
    made.load = 1000.0
    assert "busy" in str(made)


def test_figures_are_three_digits_without_an_exponent() -> None:
    assert [load.number(value) for value in (0.01234, 1.5, 99.96, 12345.6, 0.0)] == [
        "0.0123",
        "1.50",
        "100.0",
        "12,346",
        "0",
    ]


def test_a_picture_is_a_picture() -> None:
    assert models.picture()[:2] == b"\xff\xd8"


def test_a_table_of_worths_answers_as_the_programs_do() -> None:
    """One row for each mask, and all rows for each; what it cannot know is run."""
    model, x, rows = explain.Model(mlp()), numbers(2, 4, seed=1), numbers(3, 4, seed=2)
    index = np.array([0, 1, 2, 1])
    ran: list[str] = []

    def watched(program: explain.Program, feeds: dict[str, np.ndarray]) -> Any:
        ran.append(program.digest)
        return run(program, feeds)

    table = Table(watched, model, "x", x, rows, index)
    ran.clear()
    masks = (numbers(2, 5, 3, seed=3) > 0).astype(np.float32)
    for background, met in (("paired", rows[[2, 0, 1, 1, 2]]), ("shared", rows[[0, 2]])):
        program = explain.compile(model, "masked_forward", background=background)
        weight = np.ones(1, np.float32) if background == "paired" else np.array([0.25, 0.75], np.float32)
        feeds = {"x": x, "x.groups": index, "x.background": met, "mask": masks, "background.weight": weight}
        right = run(program, feeds)["value"]
        np.testing.assert_allclose(table(program, feeds)["value"], right, rtol=1e-5)
        assert np.abs(right - run(program, feeds | {"mask": 1 - masks})["value"]).max() > 0.1
    assert not ran
    given: dict[str, Any] = {"background": rows, "groups": {"x": index}, "target": 1}
    found = explain.attribute(model, {"x": x}, method="kernel_shap", run=table, **given)
    assert ran  # the first layer alone is no worth
    own = attribute(model, {"x": x}, "kernel_shap", **given)
    np.testing.assert_allclose(found.values["groups"], own.values["groups"], rtol=1e-4, atol=1e-6)
