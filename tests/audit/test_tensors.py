"""Arrays come back as they went in, byte for byte, whatever their layout."""

import json
import struct

import numpy as np
import pytest

import audit
from audit.tensors import as_json, pack, unpack

ARRAYS = [
    np.array([1.5, -0.0, np.nan, np.inf], np.float32),
    np.array([[1, 2], [3, 4]], ">i4"),
    np.asfortranarray(np.arange(12, dtype=np.float16).reshape(3, 4)),
    np.arange(24, dtype=np.int64).reshape(2, 3, 4)[:, ::2],
    np.array([True, False]),
    np.array(3.25),
    np.zeros((0, 4), np.uint8),
    np.array(["aé", "b"]),
    np.array([b"raw", b""]),
    np.array([["ends with nul\x00", "né"], ["", "x" * 50]], object),
    np.zeros((2, 0), object),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype}{list(a.shape)}")
def test_round_trip(array: np.ndarray) -> None:
    payload = pack("input", "x", array)
    again = unpack(payload)
    assert again.shape == array.shape
    assert again.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(again, array)
    assert pack("input", "x", again) == payload


def test_content_is_little_endian_row_major() -> None:
    payload = pack("input", "x", np.array([[1, 3], [2, 4]], ">f4").T)
    assert payload.content == struct.pack("<4f", 1, 2, 3, 4)
    assert payload.dtype == "<f4"


@pytest.mark.parametrize("array", [np.array([1j]), np.array([1, "a"], object), np.array(["\ud800"], object)])
def test_refuses_what_has_no_portable_bytes(array: np.ndarray) -> None:
    with pytest.raises(audit.InvalidDraft, match=r"input\.x"):
        pack("input", "x", array)


@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype}{list(a.shape)}")
def test_json_counts_what_it_cannot_say(array: np.ndarray) -> None:
    shown, nulls = as_json(array)
    text = json.dumps(shown, allow_nan=False)
    flat = np.asarray(array).ravel().tolist()
    assert nulls == sum(isinstance(v, float) and v - v != 0 for v in flat)
    assert text.count("null") == nulls
