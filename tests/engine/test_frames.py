"""What crosses between processes comes out as it went in."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

import engine
from engine.errors import EngineError
from engine.frames import UnknownArtifact, answer, answered, ask, asked

ARRAYS = {
    "x": np.arange(6, dtype=np.float32).reshape(2, 3)[:, ::-1],
    "half": np.array([[1.5], [np.nan]], dtype=np.float16),
    "codes": np.array(7, dtype=np.int64),
    "empty": np.zeros((0, 3)),
    "flags": np.array([True, False]),
    "text": np.array([["a", "ä€"], ["", "b"]], dtype=np.object_),
}


def same(one, other):
    assert one.keys() == other.keys()
    for name, array in one.items():
        assert (array.dtype, array.shape) == (other[name].dtype, other[name].shape)
        np.testing.assert_array_equal(array, other[name])


def test_the_comparison_can_fail():
    with pytest.raises(AssertionError):
        same(ARRAYS, {**ARRAYS, "half": ARRAYS["half"].astype(np.float32)})


@pytest.mark.parametrize("whole", [False, True])
def test_a_run_comes_out_as_it_went_in(models, whole):
    knobs = engine.Knobs(max_batch=3, threads=1)
    model = models.affine(max_items=4, knobs=knobs, constants=lambda _: {"w": ARRAYS["x"]})
    head, artifact, feeds = asked(ask(model, ARRAYS, "explain", 12.5, "tag", model.serialize() if whole else None))
    same(ARRAYS, feeds)
    assert (head.lane, head.deadline, head.tag, head.run) == ("explain", 12.5, "tag", True)
    assert (artifact.digest, artifact.inputs, artifact.outputs) == (model.digest, model.inputs, model.outputs)
    assert (artifact.max_items, artifact.knobs) == (4, knobs)
    if whole:
        assert artifact.serialize() == model.serialize()
        same({"w": ARRAYS["x"]}, artifact.constants(b""))
    else:
        with pytest.raises(UnknownArtifact):
            artifact.serialize()


def test_a_result_comes_out_as_it_went_in():
    result = engine.RunResult(ARRAYS, 3, 8, 0.25, 0.5, 2)
    back = answered(answer(result))
    same(ARRAYS, back.outputs)
    assert all(array.flags.writeable for array in back.outputs.values())
    assert (back.shared_with, back.batch_items, back.queue_seconds, back.run_seconds, back.runs) == (3, 8, 0.25, 0.5, 2)


def subclasses(kind):
    return [kind, *(found for each in kind.__subclasses__() for found in subclasses(each))]


@pytest.mark.parametrize("kind", subclasses(EngineError))
def test_every_error_comes_out_as_what_it_is(kind):
    error = kind("x", "[3]", "[4]") if kind is engine.InvalidFeeds else kind("what went wrong")
    with pytest.raises(kind) as raised:
        answered(answer(error))
    assert type(raised.value) is kind
    assert str(raised.value) == str(error)


def test_a_head_that_is_none_is_refused():
    with pytest.raises(msgspec.MsgspecError):
        asked([b"\x93nonsense"])
