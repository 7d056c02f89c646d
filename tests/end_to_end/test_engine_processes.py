"""`glasshouse serve --workers 2`: HTTP workers that share an engine process, and what they answer when it is killed."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import numpy as np
import psutil
import pytest
import requests

ENGINE = "glasshouse-engi"


def engine_of(server: Any) -> psutil.Process | None:
    for process in psutil.Process(server.process.pid).children(recursive=True):
        try:
            if process.name() == ENGINE:
                return process
        except psutil.NoSuchProcess:
            continue
    return None


@pytest.fixture
def served(start: Any, house: Any) -> Any:
    return start(house.store, "--workers", "2", "--audit", "off")


def test_workers_share_one_engine_and_hold_no_runtime(served: Any, server: Any, house: Any) -> None:
    rows = [example["instance"] for example in house.examples("tumour")[:3]]
    body = {"instances": rows}
    for path in ("/v1/models/tumour:predict", "/v1/models/tumour:explain"):
        one, many = server.ask(path, body), served.ask(path, body)
        np.testing.assert_array_equal(one["predictions"], many["predictions"])
    family = psutil.Process(served.process.pid).children(recursive=True)
    workers = [process for process in family if process.name() != ENGINE]
    assert len(family) - len(workers) == 1
    for process in workers:
        assert not any("onnxruntime" in mapped.path for mapped in process.memory_maps())


def test_a_killed_engine_is_back_and_the_http_side_never_leaves(served: Any, house: Any) -> None:
    body = {"instances": [house.examples("tumour")[0]["instance"]]}
    right = served.ask("/v1/models/tumour:predict", body)["predictions"]
    stop, seen, wrong = threading.Event(), [], []

    def ask() -> None:
        while not stop.is_set():
            answer = served.post("/v1/models/tumour:predict", body)
            seen.append((time.monotonic(), answer.status_code))
            if answer.status_code == 200 and answer.json()["predictions"] != right:
                wrong.append(answer.text)
            if answer.status_code == 503 and answer.headers.get("Retry-After") is None:
                wrong.append(answer.text)
            live = requests.get(served.address + "/v2/health/live", timeout=10)
            if live.status_code != 200:
                wrong.append(live.text)

    asking = [threading.Thread(target=ask) for _ in range(3)]
    for thread in asking:
        thread.start()
    for _ in range(2):
        victim = engine_of(served)
        assert victim is not None
        victim.kill()
        killed = time.monotonic()
        until = killed + 30
        while (now := engine_of(served)) is None or now.pid == victim.pid or seen[-1][1] != 200:
            assert time.monotonic() < until, "the engine did not come back"
            time.sleep(0.05)
    stop.set()
    for thread in asking:
        thread.join(60)
    assert wrong == []
    assert {status for _, status in seen} <= {200, 503}


def test_nothing_is_left_after_sigterm_or_a_kill(start: Any, house: Any) -> None:
    for end in ("stop", "kill the parent"):
        running = start(house.store, "--engine", "process", "--audit", "off")
        family = psutil.Process(running.process.pid).children(recursive=True)
        assert len(family) >= 2
        if end == "stop":
            assert running.stop() == 0
        else:
            os.kill(running.process.pid, 9)
            running.process.wait(30)
        _, alive = psutil.wait_procs(family, timeout=20)
        assert alive == []
