"""Arrays that do not fit are named before anything runs; requests are joined and parted exactly."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

import engine
from engine import feeds


@pytest.mark.parametrize(
    ("arrays", "field", "came", "expected"),
    [
        ({}, "x", "nothing", "an array for each of x"),
        ({"x": np.zeros((1, 3), np.float32), "z": np.zeros(1)}, "z", "an input the graph does not have", "only x"),
        ({"x": np.zeros((2, 4), np.float32)}, "x", "float32 [2, 4]", "float32 [N, 3]"),
        ({"x": np.zeros((2, 3), np.float64)}, "x", "float64 [2, 3]", "float32 [N, 3]"),
        ({"x": np.zeros((2, 3), ">f4")}, "x", "float32 [2, 3] of the other byte order", "float32 [N, 3]"),
        ({"x": np.zeros(3, np.float32)}, "x", "float32 [3]", "float32 [N, 3]"),
        ({"x": np.zeros((0, 3), np.float32)}, "x", "float32 [0, 3]", "at least one item on axis 0"),
        ({"x": [[1.0, 2.0, 3.0]]}, "x", "list", "an array, float32 [N, 3]"),
    ],
)
def test_what_does_not_fit_is_named(models, make_engine, arrays, field, came, expected):
    home = make_engine()
    with pytest.raises(engine.InvalidFeeds) as caught:
        home.run(models.affine(), arrays)
    assert (caught.value.field, caught.value.came, caught.value.expected) == (field, came, expected)
    assert str(caught.value) == f"input {field!r}: came {came}, expected {expected}"
    assert home.statistics().runs == 0


def test_a_fixed_batch_takes_only_its_multiples(models, make_engine):
    with pytest.raises(engine.InvalidFeeds, match="came 3 items, expected a multiple of 2, the graph's fixed batch"):
        make_engine().run(models.affine(batch=2), {"x": np.zeros((3, 3), np.float32)})


def test_unequal_item_counts_are_named(models, make_engine):
    model = models.centred()
    twice = engine.StoredModel(model.digest, {"x": "item", "background": "item"}, {"y": "item"}, model.load)
    arrays = {"x": np.zeros((2, 3), np.float32), "background": np.zeros((5, 3), np.float32)}
    with pytest.raises(engine.InvalidFeeds, match="input 'background': came 5 items, expected 2 items"):
        make_engine().run(twice, arrays)


@pytest.mark.parametrize("dtype", ["U", "O"])
def test_text_goes_through(models, make_engine, dtype):
    text = np.array([["grün"], [""]], dtype=dtype)
    assert make_engine().run(models.words(), {"text": text}).outputs["y"].tolist() == [["grün"], [""]]


def test_what_is_no_text_is_named(models, make_engine):
    with pytest.raises(engine.InvalidFeeds, match="came int among the values, expected string"):
        make_engine().run(models.words(), {"text": np.array([["a"], [3]], dtype=object)})


def test_digest_is_over_dtype_shape_and_bytes():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert feeds.digest(array) == hashlib.sha256(b"<f4 (2, 3) " + array.tobytes()).hexdigest()
    assert feeds.digest(array) == feeds.digest(np.asfortranarray(array))
    others = [array.reshape(3, 2), array.astype(np.int32), array + 1, array.view(np.int32)]
    assert len({feeds.digest(other) for other in (array, *others)}) == 5


def test_digest_of_text_keeps_its_borders():
    one, other = np.array(["ab", "c"], dtype=object), np.array(["a", "bc"], dtype=object)
    assert feeds.digest(one) != feeds.digest(other)
    assert feeds.digest(one) == feeds.digest(one.copy())


def test_joined_requests_are_parted_into_what_they_were():
    kinds = {"x": "item", "s": "shared"}
    shared = np.ones(4)
    requests = [{"x": np.full((count, 2), count), "s": shared} for count in (1, 3, 2)]
    joined = feeds.join(kinds, requests)
    assert joined["x"][:, 0].tolist() == [1, 3, 3, 3, 2, 2]
    assert joined["s"] is shared
    for own, request in zip(feeds.part(kinds, joined, [1, 3, 2]), requests, strict=True):
        np.testing.assert_array_equal(own["x"], request["x"])
        np.testing.assert_array_equal(own["s"], shared)


def test_slices_are_stacked_into_the_whole():
    kinds = {"x": "item", "s": "shared"}
    whole = {"x": np.arange(10).reshape(5, 2), "s": np.ones(4)}
    slices = [feeds.cut(kinds, whole, start, min(start + 2, 5)) for start in (0, 2, 4)]
    stacked = feeds.stack(kinds, slices)
    np.testing.assert_array_equal(stacked["x"], whole["x"])
    assert stacked["s"] is whole["s"]


@pytest.mark.parametrize("shape", [(), (1, 2), (4, 2)])
def test_another_number_of_rows_is_refused(shape):
    with pytest.raises(engine.RunFailed, match="for 3 items, expected 3 on axis 0"):
        feeds.check_rows({"y": "item"}, {"y": np.zeros(shape)}, 3)


def test_shared_outputs_may_have_any_rows():
    feeds.check_rows({"y": "item", "s": "shared"}, {"y": np.zeros((3, 1)), "s": np.zeros(())}, 3)
