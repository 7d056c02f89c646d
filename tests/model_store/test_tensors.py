"""Named tensors, checked against the manifest, and the two layouts."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_store import (
    Batching,
    ExplanationDefaults,
    InputSpec,
    InvalidInput,
    Manifest,
    OutputSpec,
    decode_tensors,
    from_model_layout,
    to_model_layout,
)


def good(rows: int = 2) -> dict:
    return {"numbers": np.ones((rows, 2), np.float32), "codes": np.zeros((rows, 1), np.int64)}


def test_good_tensors_pass_as_they_are(mixed):
    decoded = decode_tensors(mixed, good(3))
    assert (decoded.rows, decoded.images) == (3, [None] * 3)
    assert all(np.array_equal(decoded.inputs[name], tensor) for name, tensor in good(3).items())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"numbers": np.ones((2, 2), np.float64)}, "'numbers': got dtype float64, expected float32"),
        ({"codes": np.zeros((2, 1), np.int32)}, "'codes': got dtype int32, expected int64"),
        ({"numbers": np.ones((2, 3), np.float32)}, r"shape \[2, 3\], expected shape \[items, 2\]"),
        ({"numbers": np.ones((2,), np.float32)}, r"shape \[2\]"),
        ({"numbers": np.ones((3, 2), np.float32)}, "'codes': got 2 items, expected 3"),
        ({"numbers": np.ones((0, 2), np.float32), "codes": np.zeros((0, 1), np.int64)}, "at least one element"),
        ({"codes": np.array([[0], [2]])}, "row 1 feature 'job': got 2, expected a whole number from 0 to 1"),
        ({"codes": np.array([[-1], [0]])}, "row 0 feature 'job': got -1"),
        ({"numbers": np.array([[1, 2], [np.nan, 1]], np.float32)}, "row 1 feature 'sum': got nan"),
        ({"numbers": np.array([[1, -np.inf], [2, 1]], np.float32)}, "row 0 feature 'age': got -inf"),
        ({"more": np.ones(1)}, "'more'"),
    ],
)
def test_what_is_wrong_in_a_tensor_is_told(mixed, change, told):
    with pytest.raises(InvalidInput, match=told):
        decode_tensors(mixed, {**good(), **change})


def test_a_missing_tensor_is_named(mixed):
    with pytest.raises(InvalidInput, match="'codes': got nothing"):
        decode_tensors(mixed, {"numbers": good()["numbers"]})


def test_codes_in_a_float_input_are_whole(mixed):
    features = [*mixed.features]
    features[1] = msgspec.structs.replace(features[1], input="numbers", index=2)
    one = [InputSpec("numbers", "tabular", "float32", [None, 3], 0)]
    manifest = msgspec.structs.replace(mixed, inputs=one, features=features).validated()
    assert decode_tensors(manifest, {"numbers": np.ones((1, 3), np.float32)}).rows == 1
    with pytest.raises(InvalidInput, match=r"feature 'job': got 0\.5"):
        decode_tensors(manifest, {"numbers": np.full((1, 3), 0.5, np.float32)})


def test_a_tensor_without_features_names_the_place(tensor):
    values = np.ones((2, 2, 4), np.float32)
    values[1, 0, 3] = np.nan
    with pytest.raises(InvalidInput, match=r"row 1 at \[0, 3\]: got nan"):
        decode_tensors(tensor(), {"x": values})


def test_pictures_are_made_of_image_tensors(grey):
    decoded = decode_tensors(grey, {"x": np.full((2, 1, 4, 6), 0.5, np.float32)})
    assert [picture.size for picture in decoded.images] == [(6, 4), (6, 4)]
    assert np.asarray(decoded.images[1]).min() == 255


def layout_model(rank: int, axis: int | None, mode: str) -> Manifest:
    shape = [None] * rank
    return Manifest(
        name="l",
        inputs=[InputSpec("x", "tensor", "float64", shape, axis)],
        outputs=[OutputSpec("y", "tensor", "float64", shape, axis)],
        batching=Batching(mode),
    ).validated()


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.data())
def test_items_go_to_the_models_axis_and_back(shape, data):
    axis = data.draw(st.integers(0, len(shape) - 1))
    manifest = layout_model(len(shape), axis, "item")
    own = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    items = decode_tensors(manifest, {"x": own}).inputs["x"]
    assert items.shape == (shape[axis], *shape[:axis], *shape[axis + 1 :])
    for position in range(shape[axis]):
        assert np.array_equal(items[position], np.take(own, position, axis=axis))
    back = to_model_layout(manifest, {"x": items})["x"]
    assert np.array_equal(back, own)
    assert back.flags.c_contiguous
    assert np.array_equal(from_model_layout(manifest, {"y": own})["y"], items)


def test_a_model_without_a_batch_axis_takes_one_item():
    manifest = layout_model(2, None, "row")
    own = np.arange(6.0).reshape(2, 3)
    decoded = decode_tensors(manifest, {"x": own})
    assert (decoded.rows, decoded.inputs["x"].shape) == (1, (1, 2, 3))
    assert np.array_equal(to_model_layout(manifest, decoded.inputs)["x"], own)
    assert from_model_layout(manifest, {"y": own})["y"].shape == (1, 2, 3)
    with pytest.raises(InvalidInput, match="2 items at once"):
        to_model_layout(manifest, {"x": np.ones((2, 2, 3))})


def test_a_fixed_batch_of_one_takes_rows_one_by_one(tensor):
    manifest = tensor(shape=(1, 2), batching=Batching("row", "fixed at 1")).validated()
    decoded = decode_tensors(manifest, {"x": np.ones((3, 2), np.float32)})
    assert decoded.rows == 3
    assert to_model_layout(manifest, {"x": decoded.inputs["x"][1:2]})["x"].shape == (1, 2)
    with pytest.raises(InvalidInput):
        to_model_layout(manifest, decoded.inputs)


@pytest.mark.parametrize(
    ("shape", "held", "told"),
    [
        ((2, 0, 4), True, None),
        ((2, 0, 4), False, "at least one element"),
        ((0, 3, 4), True, "at least one element"),
        ((0, 0, 4), True, "at least one element"),
        ((2, 3, 0), True, r"shape \[items, \?, 4\]"),
    ],
)
@pytest.mark.parametrize("axis", [0, 1])
def test_what_is_no_feature_may_be_empty_along_a_free_axis(shape, held, told, axis):
    def laid(sizes):
        front, *rest = sizes
        return [*rest[:axis], front, *rest[axis:]]

    inputs = [
        InputSpec("x", "tensor", "float32", [None, 2], 0),
        InputSpec("past", "tensor", "float32", laid([None, None, 4]), axis),
    ]
    outputs = [OutputSpec("y", "value", "float32", [None, 1], 0)]
    explanation = ExplanationDefaults(held=["past"] if held else [])
    manifest = Manifest(name="m", inputs=inputs, outputs=outputs, explanation=explanation).validated()
    tensors = {"x": np.ones((2, 2), np.float32), "past": np.zeros(laid(shape), np.float32)}
    if told is None:
        assert decode_tensors(manifest, tensors).inputs["past"].shape == shape
        return
    with pytest.raises(InvalidInput, match=told if axis == 0 else "input 'past': got .*expected"):
        decode_tensors(manifest, tensors)
