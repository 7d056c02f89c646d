"""Recorded runs. A processor records nothing, but the buffers, the ids of runs and what happens when a recording fails
are the same there; and a session that plays the part of a GPU's shows with which options, and where, it is made."""

from __future__ import annotations

import logging
import threading
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

import engine
from engine import graphs
from engine.binding import Binding
from engine.graphs import GRAPH_ID, Graphs, only_items_vary
from engine.providers import PROVIDERS, Device
from engine.sessions import Runtime, Session, Stop

RNG = np.random.default_rng(11)


def session_of(model: engine.StoredModel) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(model.serialize(), providers=["CPUExecutionProvider"])


def rows(count: int) -> dict[str, np.ndarray]:
    return {"x": RNG.normal(size=(count, 3)).astype(np.float32)}


class Watched:
    """A session that notes the graph id of each run, and fails those that would be recorded from `fails_at` on."""

    def __init__(self, session: onnxruntime.InferenceSession, fails_at: int | None = None) -> None:
        self._session, self._fails_at = session, fails_at
        self.ids: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run_with_iobinding(self, binding: Any, options: onnxruntime.RunOptions) -> None:
        self.ids.append(options.get_run_config_entry(GRAPH_ID))
        if self._fails_at is not None and int(self.ids[-1]) >= self._fails_at:
            raise RuntimeError("operation not permitted when stream is capturing")
        self._session.run_with_iobinding(binding, options)


def recorded(session: Any, without: Any = None, alone: threading.Lock | None = None) -> Session:
    def never() -> Any:
        raise AssertionError("recording failed")

    return Session(
        "ab" * 32, session, way=Graphs("abab", session, Device(), without or never, alone or threading.Lock())
    )


def test_each_number_of_items_is_recorded_once_and_replayed(models):
    watched = Watched(session_of(models.affine()))
    session, kept = recorded(watched), []
    for count in (2, 1, 2, 2, 1, 4):
        feeds = rows(count)
        (found,) = session.run(["y"], feeds)
        kept.append((found, models.affine_formula(feeds["x"])))
    for found, expected in kept:  # none of them was written to by a later run
        np.testing.assert_allclose(found, expected, atol=1e-6)
    assert watched.ids == ["-1", *"111", "-1", *"222", "1", "1", "2", "-1", *"333"]


def test_answers_are_those_of_the_session_to_the_bit(models):
    raw = session_of(models.affine())
    session = recorded(raw)
    for count in (3, 3, 3, 5):
        feeds = rows(count)
        assert session.run(["y"], feeds)[0].tobytes() == raw.run(["y"], feeds)[0].tobytes()


def test_there_are_no_more_recordings_than_may_be(models, monkeypatch):
    monkeypatch.setattr(graphs, "MOST", 2)
    watched = Watched(session_of(models.affine()))
    session = recorded(watched)
    for count in (1, 2, 3, 3, 1):
        feeds = rows(count)
        np.testing.assert_allclose(session.run(["y"], feeds)[0], models.affine_formula(feeds["x"]), atol=1e-6)
    assert watched.ids == ["-1", *"111", "-1", *"222", "-1", "-1", "1"]


def test_what_cannot_be_recorded_runs_without_and_says_so_once(models, caplog):
    made: list[Any] = []

    def without() -> Any:
        made.append(session_of(models.affine()))
        return Binding(made[-1], Device())

    watched = Watched(session_of(models.affine()), fails_at=2)
    session = recorded(watched, without)
    with caplog.at_level(logging.WARNING, "glasshouse.engine"):
        for count in (1, 2, 1, 2, 4):
            feeds = rows(count)
            np.testing.assert_allclose(session.run(["y"], feeds)[0], models.affine_formula(feeds["x"]), atol=1e-6)
    assert watched.ids == ["-1", *"111", "-1", "2"]
    assert len(made) == 1
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == "abab runs without CUDA graphs: operation not permitted when stream is capturing"


def test_nothing_is_recorded_while_a_session_is_made(models):
    watched, alone = Watched(session_of(models.affine())), threading.Lock()
    session = recorded(watched, alone=alone)
    with alone:
        session.run(["y"], rows(2))
    session.run(["y"], rows(2))
    session.run(["y"], rows(2))
    assert watched.ids == ["-1", "-1", *"111", "1"]
    assert not alone.locked()


def test_a_run_that_nobody_wants_is_not_begun(models):
    watched = Watched(session_of(models.affine()))
    session, stop = recorded(watched), Stop()
    session.run(["y"], rows(2))
    stop.now()
    with pytest.raises(engine.RunFailed, match="terminate"):
        session.run(["y"], rows(2), stop)
    assert watched.ids == ["-1", *"111", "-1"]
    session.run(["y"], rows(2))


def test_a_first_run_that_fails_is_an_error_of_that_run_alone(models):
    session = recorded(session_of(models.gather()))
    with pytest.raises(engine.RunFailed, match="77"):
        session.run(["y"], {"index": np.array([77])})
    assert session.run(["y"], {"index": np.array([1])})[0].tolist() == [[2.0, 3.0]]


def test_only_inputs_of_one_shape_but_for_the_items_are_recorded(models, build_model):
    assert only_items_vary(session_of(models.affine()))
    ends = {name: (TensorProto.FLOAT, ["N", "T"]) for name in "xy"}
    free = build_model([helper.make_node("Neg", ["x"], ["y"])], {"x": ends["x"]}, {"y": ends["y"]}, {})
    assert not only_items_vary(session_of(models.stored(free, {"x": "item"}, {"y": "item"})))


class Gpu:
    """What the engine sees of a machine with a GPU, run on the processor: sessions are made with its options."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, refuses: bool = False) -> None:
        self.options: list[dict[str, str]] = []
        self.threads: set[str] = set()  # that run something
        original = onnxruntime.InferenceSession

        def make(payload: bytes, options: Any, providers: Any, enable_fallback: int) -> Any:
            assert enable_fallback == 0
            name, given = providers[0]
            assert name == PROVIDERS["cuda"]
            self.options.append(given)
            if refuses and "enable_cuda_graph" in given:
                raise RuntimeError("This session cannot use the graph capture feature")
            return _OnGpu(original(payload, options, providers=["CPUExecutionProvider"]), self.threads)

        monkeypatch.setattr("engine.sessions.available", lambda *_: tuple(PROVIDERS.values())[::-1])
        monkeypatch.setattr("engine.sessions.Device", lambda: Device())
        monkeypatch.setattr("engine.sessions.device_of", lambda _: Device())
        monkeypatch.setattr(onnxruntime, "InferenceSession", make)


class _OnGpu(Watched):
    def __init__(self, session: onnxruntime.InferenceSession, threads: set[str]) -> None:
        super().__init__(session)
        self._threads = threads

    def get_providers(self) -> list[str]:
        return list(PROVIDERS.values())[::-1]

    def run_with_iobinding(self, binding: Any, options: onnxruntime.RunOptions) -> None:
        self._threads.add(threading.current_thread().name)
        self._session.run_with_iobinding(binding, options)


@pytest.mark.parametrize("cuda_graphs", [True, False])
def test_where_graphs_are_on_all_runs_happen_in_one_thread(models, monkeypatch, cuda_graphs):
    gpu = Gpu(monkeypatch)
    home = engine.InProcessEngine(providers=("cuda",), cuda_graphs=cuda_graphs)
    for model in (models.affine(), models.centred()):
        feeds = {name: np.ones((3, 3), np.float32) for name in model.inputs}
        for _ in range(3):
            found = home.run(model, feeds).outputs["y"]
    np.testing.assert_allclose(found, np.zeros((3, 3)), atol=1e-6)
    home.close()
    recording = [given.get("enable_cuda_graph") for given in gpu.options]
    assert recording == (["1", None] if cuda_graphs else [None, None])  # a shared input is not recorded
    assert {name.startswith("engine-graphs") for name in gpu.threads} == {cuda_graphs}


def test_a_model_that_the_runtime_will_not_record_is_made_without(models, monkeypatch, caplog):
    gpu = Gpu(monkeypatch, refuses=True)
    home = engine.InProcessEngine(providers=("cuda",), cuda_graphs=True)
    x = RNG.normal(size=(3, 3)).astype(np.float32)
    with caplog.at_level(logging.WARNING, "glasshouse.engine"):
        found = home.run(models.affine(), {"x": x})
    home.close()
    np.testing.assert_allclose(found.outputs["y"], models.affine_formula(x), atol=1e-6)
    assert [given.get("enable_cuda_graph") for given in gpu.options] == ["1", None]
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.endswith("runs without CUDA graphs: This session cannot use the graph capture feature")


def test_a_processor_records_nothing(models):
    runtime = Runtime(("cpu",), 1, cuda_graphs=True)
    assert runtime.open(models.affine()).run(["y"], rows(1))[0].shape == (1, 2)
    assert runtime._thread is None
