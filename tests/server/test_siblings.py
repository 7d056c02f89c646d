"""Workers tell each other what they have counted: a scrape says the same whichever of them answers it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from engine import Histogram
from server import Config, create_app, open_service
from server.metrics import Siblings
from server.metrics.samples import Samples, from_json, joined, to_json
from server.repository import worst

ROOT = Path(__file__).parents[2]
ROW = {"petal": 1.5, "sepal": -0.5, "colour": "w"}


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: those of sockets are limited to about 100 characters."""
    with tempfile.TemporaryDirectory(prefix="gh-") as name:
        yield Path(name)


@pytest.fixture
def worker(folder: Path) -> Iterator[Callable[[dict[str, Samples]], Siblings]]:
    made: list[Siblings] = []

    def make(counted: dict[str, Samples]) -> Siblings:
        made.append(Siblings(folder, lambda _: counted))
        return made[-1]

    yield make
    for sibling in made:
        sibling.close()


def rows(count: float, waiting: float = 0) -> Samples:
    return {
        "glasshouse_rows": {("predict", "flowers"): count},
        "glasshouse_engine_queued_items": {("predict",): waiting},
    }


def total(sibling: Siblings) -> tuple[float, float]:
    """Rows counted and items waiting over all workers, as one of them tells it."""
    live, ended = sibling.gather()
    found = joined(live.values(), [ended])
    waiting = found.get("glasshouse_engine_queued_items", {}).get(("predict",), 0)
    return found["glasshouse_rows"]["predict", "flowers"], waiting  # type: ignore[return-value]  # no histograms


def test_every_worker_tells_the_sum(worker: Callable[..., Siblings]) -> None:
    counted = [{"a": rows(3, 1)}, {"b": rows(5, 2)}, {"c": rows(7)}]
    siblings = [worker(one) for one in counted]
    assert [total(one) for one in siblings] == [(15, 3)] * 3
    counted[1]["b"] = rows(6)
    assert [total(one) for one in siblings] == [(16, 1)] * 3


def test_an_engine_that_all_use_counts_once(worker: Callable[..., Siblings]) -> None:
    shared = rows(100, 4)
    siblings = [worker({"a": {}, "engine-1": shared}), worker({"b": {}, "engine-1": shared})]
    assert [total(one) for one in siblings] == [(100, 4)] * 2


def test_what_an_ended_worker_counted_stays_and_its_gauges_go(worker: Callable[..., Siblings]) -> None:
    stays, goes = worker({"a": rows(3, 1)}), worker({"b": rows(5, 2)})
    assert total(stays) == (8, 3)
    goes.close()
    assert total(stays) == (8, 1)
    again = worker({"c": rows(1)})
    assert [total(stays), total(again), total(stays)] == [(9, 1)] * 3


def test_an_engine_that_was_restarted_keeps_what_it_counted(worker: Callable[..., Siblings]) -> None:
    counted = {"a": {}, "engine-1": rows(10, 3)}
    only = worker(counted)
    assert total(only) == (10, 3)
    del counted["engine-1"]
    counted["engine-2"] = rows(2, 1)
    assert [total(only), total(only)] == [(12, 1)] * 2


def test_an_engine_that_is_back_counts_once(worker: Callable[..., Siblings]) -> None:
    counted = {"a": {}, "engine-1": rows(10, 3)}
    only = worker(counted)
    engine = counted.pop("engine-1")
    assert only.gather()[0].keys() == {"a"}
    counted["engine-1"] = engine
    assert total(only) == (10, 3)
    del counted["engine-1"]
    assert total(only) == (10, 0)
    counted["engine-1"] = rows(12, 1)
    assert [total(only), total(only)] == [(12, 1)] * 2


def test_many_that_are_gone_are_still_counted(
    worker: Callable[..., Siblings], monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.setattr("server.metrics.siblings.MOST_GONE", 3)
    counted: dict[str, Samples] = {}
    only = worker(counted)
    for number in range(10):
        counted.clear()
        counted[f"engine-{number}"] = rows(1, 1)
        assert total(only) == (number + 1, 1)
    assert len(json.loads((folder / "known.json").read_text())["gone"]) == 3


def test_a_worker_too_busy_to_answer_is_taken_at_its_last_word(
    worker: Callable[..., Siblings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.metrics.siblings.ANSWER_SECONDS", 0.2)
    counted = {"b": rows(5, 2)}
    asks, busy = worker({"a": rows(3)}), worker(counted)
    assert total(asks) == (8, 2)

    def stuck(_: str) -> Any:
        raise ValueError("not now")

    busy._sources = stuck
    assert [total(asks), total(asks)] == [(8, 2)] * 2
    busy._sources = lambda _: {"b": rows(6, 0)}
    assert total(asks) == (9, 0)


def entry(version: int, state: str, reason: str = "") -> dict[str, str]:
    return {"name": "flowers", "version": str(version), "state": state, "reason": reason}


def test_workers_tell_what_they_can_say_of_the_models(folder: Path) -> None:
    views = {name: [entry(1, "READY", name)] for name in "abc"}
    made = {name: Siblings(folder, lambda _: {}, lambda view=view: view) for name, view in views.items()}
    assert sorted(view[0]["reason"] for view in made["b"].others()) == ["a", "c"]
    made["c"].close()
    assert made["b"].others() == [views["a"]]
    views["a"].append(entry(2, "LOADING"))
    assert made["b"].others() == [views["a"]]
    made["a"]._states = lambda: {}[1]
    assert made["b"].others() == []
    for one in ("a", "b"):
        made[one].close()


@pytest.mark.parametrize("first", [0, 1, 2])
def test_the_worst_of_several_views_counts(first: int) -> None:
    views = [
        [entry(1, "READY"), entry(2, "LOADING")],
        [entry(1, "READY"), entry(2, "UNAVAILABLE", "damaged"), entry(3, "READY")],
        [entry(1, "LOADING"), entry(2, "READY")],
    ]
    found = worst(views[first:] + views[:first])
    assert sorted(found, key=lambda one: one["version"]) == [
        entry(1, "LOADING"),
        entry(2, "UNAVAILABLE", "damaged"),
        entry(3, "READY"),
    ]


def test_the_index_is_that_of_all_workers(config: Config, folder: Path) -> None:
    service = open_service(config)
    own = service.index()
    assert {one["state"] for one in own} == {"READY"}
    other = Siblings(folder, lambda _: {}, lambda: [{**own[0], "state": "UNAVAILABLE", "reason": "no memory"}])
    service.siblings = Siblings(folder, lambda _: {}, service.models.index)
    client = create_app(config, service).test_client()
    told = client.post("/v2/repository/index", json={}).get_json()
    assert told == [{**own[0], "state": "UNAVAILABLE", "reason": "no memory"}, *own[1:]]
    assert client.post("/v2/repository/index", json={"ready": True}).get_json() == own[1:]
    other.close()
    assert client.post("/v2/repository/index", json={}).get_json() == own
    service.close()


def test_samples_travel_as_json() -> None:
    histogram = Histogram((1.0, 2.0), (1, 0, 4), 20.5)
    samples: Samples = {"glasshouse_engine_run_seconds": {("predict",): histogram}, "glasshouse_workers": {(): 1.0}}
    assert from_json(json.loads(json.dumps(to_json(samples)))) == samples


def test_each_kind_joins_in_its_way() -> None:
    histogram = Histogram((1.0,), (1, 2), 9.0)
    one: Samples = {
        "glasshouse_engine_run_seconds": {("predict",): histogram},
        "glasshouse_model": {("flowers", "1", "d"): 1},
        "process_start_time_seconds": {(): 50.0},
    }
    other: Samples = {**one, "process_start_time_seconds": {(): 40.0}}
    assert joined([one, other], [one]) == {
        "glasshouse_engine_run_seconds": {("predict",): Histogram((1.0,), (3, 6), 27.0)},
        "glasshouse_model": {("flowers", "1", "d"): 1},
        "process_start_time_seconds": {(): 40.0},
    }


class Running:
    """`glasshouse serve --workers 2`."""

    def __init__(self, folder: Path, store: Path, temporary: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"http://127.0.0.1:{probe.getsockname()[1]}"
        settings = ["--store", str(store), "--database", str(folder / "decisions.sqlite"), "--threads", "1"]
        flags = ["--workers", "2", "--port", self.address.rpartition(":")[2]]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("GLASSHOUSE_")}
        self.log, self.temporary = folder / "log.txt", temporary
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cli", "serve", *settings, *flags],
                cwd=ROOT,
                env={**kept, "OMP_NUM_THREADS": "1", "TMPDIR": str(temporary)},
                stdout=log,
                stderr=log,
            )

    def get(self, path: str) -> requests.Response:
        """Over a connection of its own, so that either worker may answer."""
        return requests.get(self.address + path, timeout=30)

    def predict(self) -> requests.Response:
        return requests.post(f"{self.address}/v1/models/flowers:predict", json={"instances": [ROW]}, timeout=30)

    def samples(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        families = text_string_to_metric_families(self.get("/metrics").text)
        return {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples}

    def total(self, name: str, **labels: str) -> float:
        wanted = labels.items()
        return sum(value for (n, found), value in self.samples().items() if n == name and wanted <= dict(found).items())

    def workers(self) -> set[int]:
        """The ids of those that meet in the server's folder and live."""
        found = {int(path.name.partition("-")[0]) for path in self.temporary.glob("glasshouse-*/*.sock")}
        return {pid for pid in found if psutil.pid_exists(pid)}

    def engine(self) -> psutil.Process:
        (found,) = [child for child in psutil.Process(self.process.pid).children() if child.name().startswith("glass")]
        return found

    def wait(self, holds: Callable[[], bool]) -> None:
        until = time.monotonic() + 100
        while time.monotonic() < until:
            with suppress(requests.ConnectionError):
                if holds():
                    return
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.1)
        raise AssertionError(self.log.read_text())


@pytest.fixture
def running(tmp_path: Path, folder: Path, store_path: Path) -> Iterator[Running]:
    server = Running(tmp_path, store_path, folder)
    try:
        server.wait(lambda: server.get("/v2/health/ready").ok and server.total("glasshouse_workers") == 2)
        yield server
    finally:
        server.process.terminate()
        assert server.process.wait(60) == 0
        assert list(folder.glob("glasshouse-*")) == [], "the server leaves nothing behind"


def test_two_workers_give_sums_whichever_answers(running: Running) -> None:
    for _ in range(40):
        assert running.predict().status_code == 200
    labels = {"route": "v1.predict", "model": "flowers", "status": "200"}
    told = {running.total("glasshouse_requests_total", **labels) for _ in range(12)}
    assert told == {40}
    assert running.total("glasshouse_stage_seconds_count", operation="predict", stage="run") == 40
    warm_up = running.total("glasshouse_engine_batch_items_sum", lane="predict") - 40
    assert warm_up % 2 == 0, "each worker has run the same examples"
    before = running.workers()
    resident = running.total("process_resident_memory_bytes")
    counted = [*map(psutil.Process, before), running.engine()]
    assert resident == pytest.approx(sum(process.memory_info().rss for process in counted), rel=0.2)

    too_large = requests.post(f"{running.address}/v2", headers={"Content-Length": str(2**40)}, timeout=30)
    assert too_large.status_code == 413
    assert running.total("glasshouse_requests_total", route="front", status="413") == 1
    assert running.total("glasshouse_request_errors_total", reason="BodyTooLarge") == 1

    victim = min(before)
    os.kill(victim, signal.SIGKILL)
    running.wait(lambda: len(running.workers() - {victim}) == 2)
    running.wait(lambda: running.total("glasshouse_workers") == 2)
    assert running.total("glasshouse_requests_total", **labels) == 40, "a dead worker's requests stay counted"
    assert running.predict().status_code == 200
    assert {running.total("glasshouse_requests_total", **labels) for _ in range(6)} == {41}


def test_what_a_killed_engine_had_counted_stays(running: Running) -> None:
    for _ in range(5):
        assert running.predict().status_code == 200
    before = running.total("glasshouse_engine_batch_items_sum", lane="predict")
    os.kill(running.engine().pid, signal.SIGKILL)
    running.wait(lambda: running.predict().status_code == 200)
    assert running.total("glasshouse_engine_batch_items_sum", lane="predict") > before
    assert running.total("glasshouse_engine_sessions") >= 1


def test_the_folder_of_temporary_files_may_have_a_long_path(tmp_path: Path, store_path: Path) -> None:
    """Longer than the address of a socket may be."""
    long = tmp_path / ("d" * 100)
    long.mkdir()
    server = Running(tmp_path, store_path, long)
    try:
        server.wait(lambda: server.get("/v2/health/ready").ok and server.total("glasshouse_workers") == 2)
        assert server.predict().status_code == 200
    finally:
        server.process.terminate()
        assert server.process.wait(60) == 0
