"""Versions take each other's place under load: nothing fails, every answer is its version's, and memory comes back."""

from __future__ import annotations

import dataclasses
import gc
import shutil
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import engine
import model_store
from model_store import Store
from server import Config, Service, open_service
from server.errors import NotReady
from server.messages import ExplainRequest, PredictRequest, Rows

ROW = Rows([[1.0, 0.0, 0.0]])
ASK = PredictRequest("price", None, ROW)


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Waits for something that another thread does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.002)


def test_what_never_comes_about_is_a_failure() -> None:
    with pytest.raises(AssertionError, match="come about"):
        until(lambda: False, 0.01)


@pytest.fixture
def store(own_store: Path) -> Store:
    return Store(own_store)


@pytest.fixture
def open_own(own_store: Path, config: Config) -> Iterator[Callable[..., Service]]:
    opened = []

    def open_one(shared: Path | None = None, **changes: Any) -> Service:
        own = dataclasses.replace(config, store=own_store, audit="off", required_models=("price",), **changes)
        service = open_service(own, shared=shared)
        opened.append(service)
        return service

    yield open_one
    for service in opened:
        service.close()


@pytest.fixture
def publish(store: Store, models: ModuleType) -> Callable[..., int]:
    """Publishes a version of ``price`` that answers 2 · factor for the row above; its number."""

    def one(factor: float, **files: bytes) -> int:
        return store.publish(models.price(), {"model": models.tabular_price(factor), **files}).version

    return one


def answered(service: Service, ask: PredictRequest = ASK) -> tuple[int, float]:
    answer = service.predict(ask)
    return answer.version.version, float(answer.outputs["price"][0, 0])


def digests(store: Store, name: str = "price") -> list[str]:
    return [version.model_digest for version in store.versions(name)]


def test_versions_swap_under_load(store: Store, open_own: Callable[..., Service], publish: Any) -> None:
    publish(10)
    store.set_alias("price", "default", 1)
    service = open_own()
    answers: list[list[tuple[int, float]]] = [[] for _ in range(4)]
    ended = threading.Event()

    def ask(mine: list[tuple[int, float]]) -> None:
        while not ended.is_set():
            mine.append(answered(service))

    threads = [threading.Thread(target=ask, args=(mine,)) for mine in answers]
    for thread in threads:
        thread.start()
    try:
        for turn in range(60):
            number = 2 - turn % 2
            store.set_alias("price", "default", number)
            if turn % 3:  # now and then the next change comes before this one is through
                until(lambda number=number: answered(service)[0] == number)  # type: ignore[misc]
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    seen = {answer for mine in answers for answer in mine}
    assert seen == {(1, 2.0), (2, 20.0)}, "each answer is the one of the version it names"
    assert all(len(mine) > 60 for mine in answers), "no thread met an error"


def test_a_request_ends_on_the_version_it_began_with(
    store: Store, open_own: Callable[..., Service], publish: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, real = open_own(), engine.InProcessEngine.run
    began, go_on, got = threading.Event(), threading.Event(), []

    def slow(self: Any, artifact: Any, *arguments: Any, **options: Any) -> Any:
        if threading.current_thread().name == "slow":
            began.set()
            assert go_on.wait(30)
        return real(self, artifact, *arguments, **options)

    monkeypatch.setattr(engine.InProcessEngine, "run", slow)
    thread = threading.Thread(target=lambda: got.append(answered(service)), name="slow")
    thread.start()
    assert began.wait(30)
    publish(10)
    service.models.load("price")
    assert answered(service) == (2, 20.0)
    old, new = digests(store)
    assert {old, new} <= set(service.engine.statistics().sessions), "a request under way still needs the old one"
    go_on.set()
    thread.join()
    assert got == [(1, 2.0)]
    until(lambda: old not in service.engine.statistics().sessions)
    assert new in service.engine.statistics().sessions


def test_memory_of_the_old_version_comes_back(store: Store, open_own: Callable[..., Service], publish: Any) -> None:
    service = open_own()
    for method in ("saliency", "integrated_gradients"):
        service.explain(ExplainRequest("price", None, ROW, method=method))
    loaded = service.models.resolve("price", None)
    left = [weakref.ref(loaded), weakref.ref(loaded.source), weakref.ref(loaded.backgrounds)]
    assert len(service.engine.statistics().sessions) == 2, "its own and that of a program"
    del loaded
    gc.disable()  # it must not need cycles to be looked for
    try:
        publish(10)
        service.models.load("price")
        until(lambda: [reference() for reference in left] == [None] * 3)
    finally:
        gc.enable()
    until(lambda: service.engine.statistics().sessions == (digests(store)[1],))
    service.explain(ExplainRequest("price", None, ROW, method="saliency"))
    service.models.unload("price")
    until(lambda: service.engine.statistics().sessions == ())


def test_a_graph_that_two_models_share_stays_for_the_other(
    store: Store, open_own: Callable[..., Service], models: ModuleType, publish: Any
) -> None:
    twin = model_store.Manifest(**{**_fields(models.price()), "name": "twin"})
    store.publish(twin, {"model": models.tabular_price()})
    service = open_own()
    service.predict(PredictRequest("twin", None, ROW))
    (shared,) = set(digests(store))
    publish(10)
    service.models.load("price")
    until(lambda: digests(store)[1] in service.engine.statistics().sessions)
    assert shared in service.engine.statistics().sessions
    service.models.unload("twin")
    until(lambda: shared not in service.engine.statistics().sessions)


def _fields(manifest: Any) -> dict[str, Any]:
    return {name: getattr(manifest, name) for name in manifest.__struct_fields__}


def test_process_memory_does_not_grow_with_swaps(
    store: Store, open_own: Callable[..., Service], models: ModuleType
) -> None:
    """Each version holds 32 MiB of weights: eight that stayed would be 256."""

    def wide(factor: float) -> bytes:
        weight = np.full((3, 1), factor, np.float32)
        nodes = [
            models.helper.make_node("MatMul", ["x", "w"], ["h"]),
            models.helper.make_node("Mul", ["h", "one"], ["p"]),
        ]
        nodes += [models.helper.make_node("Gather", ["table", "first"], ["t"], axis=0)]
        nodes += [models.helper.make_node("Add", ["p", "t"], ["price"])]
        table = np.random.default_rng(int(factor)).normal(size=(8 * 2**20, 1)).astype(np.float32)
        table[0] = 0
        weights = {"w": weight, "one": np.ones(1, np.float32), "table": table, "first": np.zeros(1, np.int64)}
        return bytes(models.serialize(nodes, [models.value("x", ["N", 3])], [models.value("price", ["N", 1])], weights))

    service = open_own()
    used = []
    for factor in range(1, 9):
        store.publish(models.price(), {"model": wide(factor)})
        service.models.load("price")
        assert answered(service) == (factor + 1, float(factor))
        until(lambda: len(service.engine.statistics().sessions) == 1)
        used.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20)
    assert max(used[2:]) - min(used[2:]) < 100, used


def test_a_number_is_answered_by_its_version_whatever_is_in_service(
    store: Store, open_own: Callable[..., Service], publish: Any
) -> None:
    service = open_own()
    publish(10)
    store.set_alias("price", "next", 2)
    assert answered(service, PredictRequest("price", "2", ROW)) == (2, 20.0)
    assert answered(service, PredictRequest("price", "next", ROW)) == (2, 20.0)
    service.models.load("price")
    assert answered(service, PredictRequest("price", "1", ROW)) == (1, 2.0)


def test_the_store_is_followed_where_a_name_stands_for_nothing_any_more(
    store: Store, open_own: Callable[..., Service], publish: Any
) -> None:
    service = open_own()
    publish(10)
    store.set_alias("price", "next", 2)
    ask = PredictRequest("price", "next", ROW)
    assert answered(service, ask) == (2, 20.0)
    store.remove_alias("price", "next")
    with pytest.raises(model_store.UnknownAlias):
        service.predict(ask)
    store.archive("price", 2)
    service.models.load("price")
    assert answered(service) == (1, 2.0)
    store.archive("price", 1)
    with pytest.raises(model_store.UnknownVersion):
        service.predict(ASK)
    until(lambda: service.engine.statistics().sessions == ())
    store.archive("price", 2, archived=False)
    assert answered(service) == (2, 20.0)


def test_a_store_that_cannot_be_read_does_not_matter_to_what_is_in_service(
    open_own: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    service = open_own()

    def gone(*_: object) -> None:
        raise model_store.StoreUnavailable("the store cannot be read")

    monkeypatch.setattr(service.models.store, "changed_at", gone)
    monkeypatch.setattr(service.models.store, "resolve", gone)
    assert [answered(service) for _ in range(3)] == [(1, 2.0)] * 3
    monkeypatch.undo()
    assert answered(service) == (1, 2.0)


def test_what_no_request_asks_for_is_swapped_too(
    store: Store, own_store: Path, tmp_path: Path, open_own: Callable[..., Service], publish: Any
) -> None:
    service = open_own()
    publish(10)
    until(lambda: service.models.version("price", None).version == 2)
    elsewhere = Store(shutil.copytree(own_store, tmp_path / "elsewhere"))
    elsewhere.set_alias("price", "default", 1)
    aliases = own_store / "models" / "price" / "aliases"
    shutil.copytree(elsewhere.root / "models" / "price" / "aliases", aliases)
    service.models.look(fully=True)
    until(lambda: answered(service) == (1, 2.0))


def test_each_process_follows_the_store_and_all_know_what_was_unloaded(
    store: Store, tmp_path: Path, open_own: Callable[..., Service], publish: Any
) -> None:
    (tmp_path / "shared").mkdir()
    one, other = open_own(tmp_path / "shared"), open_own(tmp_path / "shared")
    publish(10)
    for service in (one, other):
        until(lambda service=service: answered(service) == (2, 20.0))  # type: ignore[misc]
    one.models.unload("price")
    for service in (one, other):
        for version in (None, "1"):
            with pytest.raises(NotReady, match="model price was taken out of service"):
                service.predict(PredictRequest("price", version, ROW))
        assert {e["state"] for e in service.models.index() if e["name"] == "price"} == {"UNAVAILABLE"}
        until(lambda service=service: service.engine.statistics().sessions == ())  # type: ignore[misc]
    other.models.load("price")
    assert answered(one) == answered(other) == (2, 20.0)


def test_a_server_started_again_serves_what_the_store_says(
    store: Store, open_own: Callable[..., Service], publish: Any
) -> None:
    publish(10)
    first = open_own()
    store.set_alias("price", "default", 1)
    first.models.unload("price")
    assert answered(open_own()) == (1, 2.0)


def test_more_models_than_may_be_kept_take_turns(open_own: Callable[..., Service]) -> None:
    service = open_own(model_cache=1)
    other = PredictRequest("single", None, Rows([[1, 2, 3]]))
    for _ in range(3):
        assert answered(service) == (1, 2.0)
        np.testing.assert_array_equal(service.predict(other).outputs["y"], [[3, 6, 9]])
        until(lambda: len(service.engine.statistics().sessions) == 1)


def test_a_request_looks_at_the_time_of_one_folder_and_reads_nothing(
    store: Store, open_own: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    service = open_own()
    service.predict(ASK)
    asked: list[str] = []
    for name in ("changed_at", "resolve", "numbers", "aliases", "models"):
        real = getattr(Store, name)

        def counting(self: Any, *arguments: Any, _name: str = name, _real: Any = real) -> Any:
            if threading.current_thread() is threading.main_thread():  # the watching looks for itself
                asked.append(_name)
            return _real(self, *arguments)

        monkeypatch.setattr(Store, name, counting)
    for _ in range(5):
        service.predict(ASK)
    assert asked == ["changed_at"] * 5
    monkeypatch.setattr("server.in_service.FRESH_NS", 10**12)
    service.predict(ASK)
    assert asked == ["changed_at"] * 5, "not again so soon"
    monkeypatch.setattr("server.in_service.FRESH_NS", -1)
    store.set_alias("price", "default", 1)
    asked.clear()
    service.predict(ASK)
    assert "resolve" in asked, "a change is looked at"
