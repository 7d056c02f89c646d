"""Explanations asked for at the same moment: their chunks share runs, each gets what it gets alone, and one that goes
wrong goes wrong alone. Over HTTP, with a thread for each client."""

from __future__ import annotations

import dataclasses
import importlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from flask import Flask

import engine
import explain
from model_store import Store
from server import Config, Service, create_app, results

CLIENTS = 6
POISON = 77.0
Run = Callable[[], list[Any]]
Step = Callable[[Run, Mapping[str, Any], Any], list[Any]]
Through = Callable[[Step], list[int]]
Shelf = tuple[Path, dict[str, str]]
OutOfMemory = importlib.import_module("engine.errors").OutOfMemory


class House:
    """A server without HTTP's sockets, whose engine does one run at a time and lets any number share it."""

    def __init__(self, store: Path, config: Config, **settings: Any) -> None:
        told = {
            "threads": 1,
            "explain_quantum_ms": 1e9,
            "predict_quantum_ms": 1e9,
            "at_once_us": 0,
            "queue_seconds": 1e9,
            **settings,
        }
        self.config = dataclasses.replace(config, store=store, audit="off", cache_mib=0)
        self.engine = engine.InProcessEngine(**told)
        self.service = Service(Store(store, create=False), self.engine, None, self.config)
        self.app: Flask = create_app(self.config, self.service)

    def ask(self, path: str, body: Any) -> tuple[int, Any]:
        answer = self.app.test_client().post(path, json=body)
        return answer.status_code, answer.get_json()

    def together(self, asked: list[tuple[str, Any]]) -> list[tuple[int, Any]]:
        """What each gets when all ask at the same moment."""
        answers: list[Any] = [None] * len(asked)
        barrier = threading.Barrier(len(asked))

        def one(index: int) -> None:
            barrier.wait()
            answers[index] = self.ask(*asked[index])

        threads = [threading.Thread(target=one, args=(index,)) for index in range(len(asked))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return answers


@pytest.fixture(scope="module")
def shelf(models: ModuleType, load_module: Any, tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    """A store of models for every method, and which model each method is asked of."""
    root = tmp_path_factory.mktemp("shelf")
    return root, load_module("shelf").publish(Store(root), models)


@pytest.fixture
def house(shelf: Shelf, config: Config) -> Iterator[House]:
    found = House(shelf[0], config)
    yield found
    found.service.close()


def slowly(run: Run, *_: Any) -> list[Any]:
    """So that others come meanwhile."""
    time.sleep(0.02)
    return run()


def question(name: str, method: str, seed: int) -> tuple[str, Any]:
    """One row of its own, and a target."""
    shape = [1, 1, 4, 4] if name == "picture" else [1, 3]
    row = np.random.default_rng(seed).normal(size=shape).round(3) * 2
    tensor = {"name": "x", "datatype": "FP32", "shape": shape, "data": row.ravel().tolist()}
    return f"/v2/models/{name}/explain", {"inputs": [tensor], "explain": {"method": method, "target": 0}}


def apart(one: Any, other: Any) -> float:
    """The largest difference of two answers' attributions, as a share of the largest of them."""
    found = [[np.array(tensor["data"]) for tensor in each["explanation"]["attributions"]] for each in (one, other)]
    largest = max(float(np.abs(array).max()) for array in found[0])
    return max(float(np.abs(a - b).max()) for a, b in zip(*found, strict=True)) / (largest or 1.0)


def test_what_lies_apart_is_seen() -> None:
    one, other = (
        {"explanation": {"attributions": [{"data": [100.0, value]}, {"data": [1.0]}]}} for value in (1.0, 1.001)
    )
    assert apart(one, one) == 0.0
    assert apart(one, other) == pytest.approx(1e-5)


def test_every_method_is_asked_for(shelf: Shelf) -> None:
    assert set(shelf[1]) == set(explain.METHODS)


@pytest.mark.parametrize("method", explain.METHODS)
def test_in_company_runs_are_shared_and_answers_are_those_of_a_request_alone(
    house: House, shelf: Shelf, through: Through, method: str
) -> None:
    asked = [question(shelf[1][method], method, seed) for seed in range(CLIENTS)]
    alone = [house.ask(*each) for each in asked]
    sizes = through(slowly)
    together = house.together(asked)
    assert [status for status, _ in (*alone, *together)] == [200] * (2 * CLIENTS), together
    for (_, one), (_, other) in zip(alone, together, strict=True):
        assert one["explanation"]["runs"]["shared_with_max"] == 0
        assert apart(one, other) <= 1e-6
        assert one["explanation"]["program_digest"] == other["explanation"]["program_digest"]
    assert max(other["explanation"]["runs"]["shared_with_max"] for _, other in together) >= 1
    assert max(sizes) > 1
    assert len({str(answer["outputs"]) for _, answer in alone}) > CLIENTS // 2, "each has a row of its own"


@pytest.mark.parametrize("lane", ["predict", "explain"])
@pytest.mark.parametrize("poison", ["raises", "no memory", "no number"])
def test_one_of_32_goes_wrong_alone(config: Config, shelf: Shelf, through: Through, poison: str, lane: str) -> None:
    house = House(shelf[0], config, max_batch=32)
    asked = [question("columns", "integrated_gradients", seed) for seed in range(32)]
    if lane == "predict":
        asked = [(path.replace("explain", "infer"), {"inputs": body["inputs"]}) for path, body in asked]
    alone = [house.ask(*each) for each in asked]
    asked[13][1]["inputs"][0]["data"][0] = POISON
    met = list[int]()

    def step(run: Run, feeds: Mapping[str, Any], outputs: Any) -> list[Any]:
        slowly(list)
        bad = feeds["x"][:, 0] == np.float32(POISON)
        if not bad.any() or (lane == "explain" and "alpha" not in feeds):
            return run()
        met.append(len(bad))
        if poison == "raises":
            raise engine.RunFailed("a poisoned item")
        if poison == "no memory":
            raise OutOfMemory("a poisoned item")
        arrays = run()
        for array in arrays:
            array[bad] = np.nan
        return arrays

    through(step)
    together = house.together(asked)
    house.service.close()
    assert max(met) > 1, "it was in company"
    statuses = [status for status, _ in together]
    assert statuses.pop(13) == (422 if poison == "no number" else 500)
    assert statuses == [200] * 31
    for place, ((_, one), (_, other)) in enumerate(zip(alone, together, strict=True)):
        if place != 13:
            compare(one, other, lane)


def compare(one: Any, other: Any, lane: str) -> None:
    assert np.allclose(one["outputs"][0]["data"], other["outputs"][0]["data"], rtol=0, atol=1e-6)
    assert lane == "predict" or apart(one, other) <= 1e-6


def test_the_comparison_can_fail() -> None:
    one, other = (
        {"outputs": [{"data": [value]}], "explanation": {"attributions": [{"data": [value]}]}} for value in (1.0, 1.1)
    )
    with pytest.raises(AssertionError):
        compare(one, other, "predict")
    with pytest.raises(AssertionError):
        compare(one, other | {"outputs": one["outputs"]}, "explain")


def test_a_poisoned_explanation_is_not_kept_and_the_others_are(config: Config, shelf: Shelf, through: Through) -> None:
    house = House(shelf[0], config)
    house.service.results = house.service.flights.results = results.Results(1 << 20)
    asked = [question("columns", "saliency", seed) for seed in range(4)]
    asked[2][1]["inputs"][0]["data"][0] = POISON

    def step(run: Run, feeds: Mapping[str, Any], outputs: Any) -> list[Any]:
        arrays = slowly(run)
        if "alpha" in feeds:
            for array in arrays:
                array[feeds["x"][:, 0] == np.float32(POISON)] = np.nan
        return arrays

    through(step)
    assert [status for status, _ in house.together(asked)] == [200, 200, 422, 200]
    assert house.service.results.statistics().entries == 3
    house.service.close()
