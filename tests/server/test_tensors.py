"""Tensors on the wire: every datatype there and back, and lengths that are counted."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from server.errors import BadRequest, InvalidOutput
from server.wire import tensors

RNG = np.random.default_rng(3)


def some(datatype: str) -> np.ndarray:
    dtype = tensors.DTYPES[datatype]
    if dtype.kind == "b":
        return np.array([[True, False, True], [False, False, True]])
    if dtype.kind == "f":
        return RNG.normal(size=(2, 3)).astype(dtype)
    limits = np.iinfo(dtype)
    return np.array([[limits.min, limits.max, 0], [1, 2, 3]], dtype=dtype)


@pytest.mark.parametrize("datatype", list(tensors.DTYPES))
def test_binary_there_and_back(datatype: str) -> None:
    array = some(datatype)
    content = tensors.to_bytes(array)
    assert content == array.astype(tensors.DTYPES[datatype]).tobytes()
    back = tensors.from_bytes(content, datatype, [2, 3], "x")
    assert back.dtype == array.dtype
    assert back.tobytes() == array.tobytes()
    assert tensors.datatype_of(array.dtype) == datatype
    for wrong in (content[:-1], content + b"\0", b""):
        with pytest.raises(BadRequest, match="bytes of binary data"):
            tensors.from_bytes(wrong, datatype, [2, 3], "x")


def test_a_big_endian_array_is_written_little_endian() -> None:
    assert tensors.to_bytes(np.array([1.5], dtype=">f4")) == struct.pack("<f", 1.5)
    assert tensors.to_bytes(np.arange(6, dtype=np.int16).reshape(2, 3).T) == struct.pack("<6h", 0, 3, 1, 4, 2, 5)


@pytest.mark.parametrize("datatype", [name for name in tensors.DTYPES if name != "FP16"])
def test_json_there_and_back_flat_and_nested(datatype: str) -> None:
    array = some(datatype)
    flat = tensors.to_json(array, "x")
    assert flat == [element for row in array.tolist() for element in row]
    for data in (flat, array.tolist()):
        back = tensors.from_json(data, datatype, [2, 3], "x")
        assert back.dtype == array.dtype
        np.testing.assert_array_equal(back, array)


def test_text_there_and_back() -> None:
    array = np.array(["", "grün", "\U0001f600"], dtype=object)
    content = tensors.to_bytes(array)
    assert (
        content == b"\0\0\0\0" + struct.pack("<I", 5) + "grün".encode() + struct.pack("<I", 4) + "\U0001f600".encode()
    )
    np.testing.assert_array_equal(tensors.from_bytes(content, "BYTES", [3], "x"), array)
    np.testing.assert_array_equal(tensors.from_json(array.tolist(), "BYTES", [3], "x"), array)
    assert tensors.to_json(array, "x") == array.tolist()


@pytest.mark.parametrize(
    ("content", "shape"),
    [
        (b"", [1]),
        (b"\1\0\0", [1]),
        (b"\5\0\0\0abc", [1]),
        (b"\xff\xff\xff\xffabc", [1]),
        (b"\1\0\0\0a\1", [1]),
        (b"\1\0\0\0a", [2]),
        (b"\1\0\0\0a\1\0\0\0b", [1]),
        (b"\1\0\0\0\xff", [1]),
    ],
)
def test_text_with_lengths_that_lie_is_refused(content: bytes, shape: list[int]) -> None:
    with pytest.raises(BadRequest):
        tensors.from_bytes(content, "BYTES", shape, "x")


@pytest.mark.parametrize(
    ("data", "datatype", "shape", "said"),
    [
        ([1, 2, 3], "FP32", [2, 2], "3 elements, expected 4"),
        ([[1, 2], [3]], "FP32", [2, 2], "along axis 1"),
        ([[1, 2, 3], [4]], "FP32", [2, 2], "nested as shape"),
        ([[[1, 2]], [[3, 4]]], "FP32", [2, 2], "a list of 1 along axis 1"),
        ([[1, 2], 3], "FP32", [2, 2], "along axis 1"),
        ([1, "2"], "FP32", [2], "data[1]: got the text '2', expected numbers (FP32)"),
        ([1, True], "FP32", [2], "true"),
        ([1, None], "FP32", [2], "null"),
        ([1, 2.5], "INT32", [2], "whole numbers"),
        ([1, 2**31], "INT32", [2], "fit INT32"),
        ([-1], "UINT8", [1], "fit UINT8"),
        ([256], "UINT8", [1], "fit UINT8"),
        ([1], "BOOL", [1], "true or false"),
        ([1], "BYTES", [1], "text"),
        ([0.5], "FP16", [1], "binary tensor data"),
        ({"a": 1}, "FP32", [1], "a list"),
        (None, "FP32", [1], "a list"),
        ([], "FP32", [2**62, 4], "0 elements"),
    ],
)
def test_json_that_does_not_fit_is_refused(data: object, datatype: str, shape: list[int], said: str) -> None:
    with pytest.raises(BadRequest) as refused:
        tensors.from_json(data, datatype, shape, "input x")
    assert said in str(refused.value)


@pytest.mark.parametrize("shape", [None, 3, "3", [-1], [1.0], [True], ["2"], [2**63], [1] * 33])
def test_wrong_shapes_are_refused(shape: object) -> None:
    with pytest.raises(BadRequest, match="shape"):
        tensors.shape_of(shape, "input x")


@pytest.mark.parametrize("name", [None, 1, "FLOAT", "fp32", "BF16"])
def test_wrong_datatypes_are_refused(name: object) -> None:
    with pytest.raises(BadRequest, match="datatype"):
        tensors.datatype_named(name, "input x")


def test_not_a_number_is_named_by_output_and_row() -> None:
    array = np.ones((4, 2), dtype=np.float32)
    array[2, 1] = np.nan
    with pytest.raises(InvalidOutput, match="output y, row 2"):
        tensors.to_json(array, "output y")
    array[2, 1] = -np.inf
    with pytest.raises(InvalidOutput):
        tensors.to_json(array, "output y")
    assert len(tensors.to_bytes(array)) == 32


def test_a_byte_other_than_0_and_1_is_no_bool() -> None:
    with pytest.raises(BadRequest, match="other than 0 and 1"):
        tensors.from_bytes(b"\0\2", "BOOL", [2], "x")
