"""The store of kept explanations by itself: its bound, its order, many threads, and what it hands out."""

from __future__ import annotations

import random
import sys
import threading
import tracemalloc
from typing import Any

import numpy as np
import pytest

from server import Config, Service, open_service
from server.messages import ExplainAnswer, ExplainRequest, Rows, Runs
from server.results import KEPT, Results, repeatable, size_of


def answer(size: int = 1000, **more: Any) -> ExplainAnswer:
    """An explanation of `size` numbers."""
    values: dict[str, Any] = {"values": {"x": np.arange(size, dtype=np.float64)}, "quality": [{"stopped_by": None}]}
    version: Any = None
    return ExplainAnswer(version, {}, {"y": np.ones(1)}, 1, None, Runs(), **(values | more))


def weight(size: int = 1000) -> int:
    """What one of them weighs."""
    alone = Results(1 << 30)
    alone.keep("a", answer(size))
    return alone.statistics().bytes


def kept(results: Results, names: str) -> str:
    return "".join(name for name in names if results.get(name) is not None)


def test_the_least_recently_used_leaves() -> None:
    results = Results(3 * weight())
    for name in "abc":
        results.keep(name, answer())
    assert results.get("a") is not None
    results.keep("d", answer())
    assert kept(results, "abcd") == "acd"
    figures = results.statistics()
    assert (figures.entries, figures.bytes, figures.hits, figures.misses) == (3, 3 * weight(), 4, 1)


def test_what_is_larger_than_all_room_leaves_the_others_where_they_are() -> None:
    results = Results(3 * weight())
    results.keep("a", answer())
    results.keep("b", answer(100_000))
    assert kept(results, "ab") == "a"


def test_a_large_one_takes_the_room_of_several() -> None:
    results = Results(weight(3000))
    for name in "abc":
        results.keep(name, answer())
    results.keep("d", answer(3000))
    assert kept(results, "abcd") == "d"
    assert results.statistics().bytes == results.limit


def test_the_first_answer_stays() -> None:
    results = Results(1 << 20)
    results.keep("a", answer(values={"x": np.array([1.0])}))
    results.keep("a", answer(values={"x": np.array([2.0])}))
    found = results.get("a")
    assert found is not None
    assert found["values"]["x"].tolist() == [1.0]
    assert results.statistics().entries == 1


@pytest.mark.parametrize(
    ("more", "whole"),
    [
        ({}, True),
        ({"quality": [{"stopped_by": "tolerance"}, {"stopped_by": "max_evals"}]}, True),
        ({"quality": [{"stopped_by": "tolerance"}, {"stopped_by": "budget_ms"}]}, False),
        ({"values": {"x": np.array([1.0, np.nan])}}, False),
        ({"values": {"x": np.array([np.inf])}}, False),
        ({"errors": {"x": np.array([np.nan])}}, True),
    ],
)
def test_only_what_can_be_repeated_is_kept(more: dict[str, Any], whole: bool) -> None:
    results = Results(1 << 20)
    results.keep("a", answer(**more))
    assert (results.get("a") is not None) == whole == repeatable(answer(**more))


def test_what_is_kept_is_its_own_and_cannot_be_written() -> None:
    results, batch = Results(1 << 30), np.zeros((1_000_000, 2))
    given = answer(values={"x": batch[3:4]})
    results.keep("a", given)
    batch[:] = 7
    given.values["x"][:] = 8
    found = results.get("a")
    assert found is not None
    array = found["values"]["x"]
    assert array.tolist() == [[0.0, 0.0]]
    assert array.base is None, "the run's whole batch would be held"
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1.0


def test_the_weight_is_about_what_memory_says() -> None:
    results, quality = Results(1 << 30), {"stopped_by": None, "curve": [float(step) for step in range(50)]}
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(50):
        figures = [{name: np.copy(value).tolist() for name, value in quality.items() if value} for _ in range(4)]
        results.keep(str(number), answer(5000, quality=figures))
        del figures
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert 0.9 * taken < results.statistics().bytes < 1.3 * taken


def test_text_weighs_too() -> None:
    text = "x" * 10_000
    assert size_of(np.array([text], dtype=object)) > sys.getsizeof(text)
    assert size_of({"a": (text, text)}) > 2 * sys.getsizeof(text)


def test_many_threads_keep_within_the_bound() -> None:
    room, wrong = 5 * weight(), []
    results = Results(room)

    def use(seed: int) -> None:
        draw = random.Random(seed)  # no secret
        for _ in range(400):
            name = draw.randrange(12)
            found = results.get(str(name))
            if found is None:
                results.keep(str(name), answer(values={"x": np.full(1000, float(name))}))
            elif not (found["values"]["x"] == name).all():
                wrong.append(name)
            if results.statistics().bytes > room:
                wrong.append(-1)

    threads = [threading.Thread(target=use, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    figures = results.statistics()
    assert wrong == []
    assert figures.hits + figures.misses == 8 * 400
    assert figures.bytes == figures.entries * weight() <= room


def test_rows_and_models_of_a_request_are_not_held(config: Config) -> None:
    """Only the digest of what a client sent, so that nothing here outlives a model or an erased decision's row."""
    assert not {"version", "inputs", "images", "features", "decisions"} & set(KEPT)
    service: Service = open_service(config)
    row = [123456.789, -0.5, "w"]
    service.explain(ExplainRequest("flowers", None, Rows([row]), method="kernel_shap"))
    (entry,) = service.results._entries.values()
    assert "123456" not in repr(entry)
    service.close()


def test_one_question_of_many_threads_has_one_answer_from_then_on(config: Config) -> None:
    service = open_service(config)
    asked = ExplainRequest("flowers", None, Rows([[1.5, -0.5, "w"]]), method="exact_shap")
    came: list[ExplainAnswer] = []
    threads = [threading.Thread(target=lambda: came.append(service.explain(asked))) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({decision for found in came for decision in found.decisions}) == 12
    for found in came:
        np.testing.assert_allclose(found.values["x"], came[0].values["x"], rtol=0, atol=1e-6)
    hits = [found for found in (*came, service.explain(asked)) if found.cached]
    assert {found.values["x"].tobytes() for found in hits} == {hits[0].values["x"].tobytes()}
    assert service.results.statistics().entries == 1
    service.close()
