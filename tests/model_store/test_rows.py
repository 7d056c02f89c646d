"""JSON instances: lists, objects, pictures, and every way they can be wrong."""

import base64

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from model_store import (
    Feature,
    InputSpec,
    InvalidInput,
    Manifest,
    OutputSpec,
    RowDecoder,
    TooLarge,
    decode_image,
    decode_rows,
)


def test_a_row_is_split_by_each_features_input_and_index(mixed):
    decoded = decode_rows(mixed, [[40, "A2", 1000.5], {"sum": 7, "age": 30.5, "job": "A1"}])
    assert decoded.inputs["numbers"].tolist() == [[1000.5, 40.0], [7.0, 30.5]]
    assert decoded.inputs["codes"].tolist() == [[1], [0]]
    assert (decoded.inputs["numbers"].dtype, decoded.inputs["codes"].dtype) == (np.float32, np.int64)
    assert (decoded.rows, decoded.images) == (2, [None, None])


@given(st.data())
def test_lists_and_objects_mean_the_same(data):
    size = data.draw(st.integers(1, 6))
    order = data.draw(st.permutations(range(size)))
    manifest = Manifest(
        name="p",
        inputs=[InputSpec("x", "tabular", "float64", [None, size], 0)],
        outputs=[OutputSpec("y", "value", "float32", [None], 0)],
        features=[Feature(name=f"f{place}", input="x", index=place) for place in order],
    )
    row = data.draw(st.lists(st.floats(-1e9, 1e9), min_size=size, max_size=size))
    names = [feature.name for feature in manifest.features]
    by_list = decode_rows(manifest, [row]).inputs["x"]
    by_name = decode_rows(manifest, [dict(reversed(list(zip(names, row, strict=True))))]).inputs["x"]
    assert by_list.tolist() == by_name.tolist() == [[row[order.index(place)] for place in range(size)]]


@pytest.mark.parametrize(
    ("row", "field", "told"),
    [
        ([40, "A3", 1], "instances[1].job", "got 'A3', expected one of 'A1', 'A2'"),
        ([40, 1, 1], "instances[1].job", "got 1, expected one of 'A1', 'A2'"),
        ([40, ["A1"], 1], "instances[1].job", "expected one of"),
        ([True, "A1", 1], "instances[1].age", "the boolean true"),
        (["40", "A1", 1], "instances[1].age", "the text '40'"),
        ([float("nan"), "A1", 1], "instances[1].age", "nan"),
        ([40, "A1", float("inf")], "instances[1].sum", "inf"),
        ([40, "A1", 1e39], "instances[1].sum", "1e+39"),
        ([40, "A1"], "instances[1]", "2 values, expected 3"),
        ([40, "A1", 1, 2], "instances[1]", "4 values, expected 3"),
        ({"age": 1, "job": "A1"}, "instances[1].sum", "nothing"),
        ({"age": 1, "job": "A1", "sum": 1, "wage": 3}, "instances[1]", "'wage'"),
        (5, "instances[1]", "a list or an object"),
        (None, "instances[1]", "null"),
        ("row", "instances[1]", "the text 'row'"),
    ],
)
def test_what_is_wrong_in_a_row_is_told_with_row_and_feature(mixed, row, field, told):
    with pytest.raises(InvalidInput) as caught:
        decode_rows(mixed, [[40, "A1", 1], row])
    assert caught.value.field == field
    assert told in str(caught.value)


@pytest.mark.parametrize("instances", [[], None, {}, "rows", 5])
def test_instances_are_a_list_with_rows(mixed, instances):
    with pytest.raises(InvalidInput, match="instances"):
        decode_rows(mixed, instances)


def test_codes_may_stand_among_numbers_in_one_float_input(mixed):
    features = [*mixed.features]
    features[1] = msgspec.structs.replace(features[1], input="numbers", index=2)
    one = [InputSpec("numbers", "tabular", "float32", [None, 3], 0)]
    manifest = msgspec.structs.replace(mixed, inputs=one, features=features).validated()
    assert decode_rows(manifest, [[1, "A2", 3]]).inputs["numbers"].tolist() == [[3.0, 1.0, 1.0]]


def test_tensors_are_nested_lists_with_free_axes(tensor):
    manifest = tensor(shape=(None, 2, "t"))
    decoded = decode_rows(manifest, [[[1, 2, 3], [4, 5, 6]], {"x": [[0, 0, 0], [1, 1, 1]]}])
    assert decoded.inputs["x"].shape == (2, 2, 3)
    with pytest.raises(InvalidInput, match=r"instances\[1\].*send other shapes separately"):
        decode_rows(manifest, [[[1], [2]], [[1, 2], [3, 4]]])


def test_fractions_do_not_enter_whole_numbers(tensor):
    manifest = tensor(dtype="int64", shape=(None, 2))
    assert decode_rows(manifest, [[1, 2.0]]).inputs["x"].tolist() == [[1, 2]]
    with pytest.raises(InvalidInput, match=r"instances\[0\]\[1\]: got 2\.5, expected a whole number"):
        decode_rows(manifest, [[1, 2.5]])


def test_axes_of_one_name_agree_across_inputs():
    manifest = Manifest(
        name="two",
        inputs=[InputSpec(name, "tensor", "int64", ["n", "t"], 0) for name in ("ids", "mask")],
        outputs=[OutputSpec("y", "tensor", "float32", ["n"], 0)],
    )
    assert decode_rows(manifest, [{"ids": [1, 2], "mask": [1, 1]}]).rows == 1
    with pytest.raises(InvalidInput, match="1 for axis 't', expected 2, as in 'ids'"):
        decode_rows(manifest, [{"ids": [1, 2], "mask": [1]}])
    with pytest.raises(InvalidInput, match=r"instances\[0\]\.mask: got nothing"):
        decode_rows(manifest, [{"ids": [1, 2]}])


def test_text_is_refused_where_tokens_are_taken(tensor):
    manifest = tensor(dtype="int64", shape=(None, "t"))
    text = msgspec.structs.replace(manifest, inputs=[msgspec.structs.replace(manifest.inputs[0], kind="text")])
    assert decode_rows(text, [[1, 2, 3]]).inputs["x"].tolist() == [[1, 2, 3]]
    with pytest.raises(InvalidInput, match="token numbers"):
        decode_rows(text, ["hello"])


def test_a_picture_in_base64_is_the_picture_in_the_body(grey, picture_file):
    body = picture_file(Image.linear_gradient("L"))
    instance = {"b64": base64.b64encode(body).decode()}
    by_row, by_body = decode_rows(grey, [instance, {"x": instance}]), decode_image(grey, body)
    for row in (0, 1):
        assert np.array_equal(by_row.inputs["x"][row], by_body.inputs["x"][0])
        assert by_row.images[row].size == (256, 256)


def test_an_array_may_stand_for_a_picture(grey):
    values = (np.arange(24).reshape(1, 4, 6) * 10 / 255 - 0.5).tolist()
    decoded = decode_rows(grey, [values])
    assert np.allclose(decoded.inputs["x"][0], values)
    assert np.asarray(decoded.images[0]).tolist() == (np.arange(24).reshape(4, 6) * 10).tolist()


@pytest.mark.parametrize("value", [{"b64": "%%%"}, {"b64": 5}, {"b64": "", "more": 1}, {"b64": "é"}, {}, "text", 5])
def test_what_is_no_picture_is_refused(grey, value):
    with pytest.raises(InvalidInput, match=r"instances\[0\]"):
        decode_rows(grey, [value])


def test_the_pictures_of_a_request_share_one_limit(grey, picture_file):
    instance = {"b64": base64.b64encode(picture_file(Image.new("L", (10, 10)))).decode()}
    assert decode_rows(grey, [instance] * 3, max_pixels=300).rows == 3
    with pytest.raises(TooLarge, match=r"instances\[3\]"):
        decode_rows(grey, [instance] * 4, max_pixels=300)


ANYTHING = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.integers(-(10**400), 10**400),
    st.booleans(),
    st.text(max_size=2),
    st.none(),
    st.lists(st.integers(), max_size=1),
)


@given(st.data())
def test_rows_of_numbers_are_read_at_once_as_they_are_one_by_one(data):
    """Numbers alone take a shorter way; it must give the same arrays, and leave every refusal to the longer one."""
    dtype = data.draw(st.sampled_from(["float16", "float32", "float64"]))
    manifest = Manifest(
        name="p",
        inputs=[InputSpec("x", "tabular", dtype, [None, 2], 0), InputSpec("z", "tabular", "float64", [None, 1, 1], 0)],
        outputs=[OutputSpec("y", "value", "float32", [None], 0)],
        features=[
            Feature(name="b", input="x", index=1),
            Feature(name="c", input="z", index=0),
            Feature(name="a", input="x", index=0),
        ],
    )
    numbers = st.one_of(st.floats(-1e300, 1e300), st.integers(-(2**70), 2**70), ANYTHING)
    row = data.draw(st.lists(numbers, min_size=3, max_size=3))
    named = data.draw(st.dictionaries(st.sampled_from("abcd"), numbers, min_size=2, max_size=4))
    rows = data.draw(st.permutations([row, dict(zip("cab", row, strict=True)), named]))[: data.draw(st.integers(1, 3))]
    assert outcome(rows, RowDecoder(manifest)) == outcome(rows, one_by_one(manifest))


def one_by_one(manifest):
    decoder = RowDecoder(manifest)
    decoder._tables.plain = lambda _instances: None
    return decoder


def outcome(rows, decoder):
    try:
        inputs = decoder.decode(rows).inputs
    except InvalidInput as error:
        return str(error)
    return {name: (array.dtype, array.tolist()) for name, array in inputs.items()}


def test_rows_of_numbers_do_take_the_shorter_way(mixed):
    numbers = msgspec.structs.replace(mixed, inputs=mixed.inputs[:1], features=[mixed.features[0], mixed.features[2]])
    assert RowDecoder(numbers)._tables.plain([[1, 2.5]])["numbers"].tolist() == [[2.5, 1.0]]
    assert RowDecoder(numbers)._tables.plain([[1, True]]) is None
    assert RowDecoder(mixed)._tables.plain([[1, "A1", 2]]) is None
    assert outcome([[1, 2]], RowDecoder(numbers)) != outcome([[2, 1]], one_by_one(numbers)), "a difference would show"
