"""Numbers from JSON: exact, in range, finite, and named where they are not."""

import fractions
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_store import InvalidInput
from model_store.values import array, number

NUMBERS = st.one_of(st.integers(), st.floats(), st.integers(-300, 300), st.integers(-300, 300).map(float))
DTYPES = st.sampled_from(["float16", "float32", "float64", "int8", "uint8", "int32", "int64", "uint64"])


def allowed(value: float, dtype: str) -> bool:
    """The rule once more, in exact fractions."""
    if isinstance(value, float) and not math.isfinite(value):
        return False
    exact = fractions.Fraction(value)
    if dtype.startswith("float"):
        return abs(exact) <= fractions.Fraction(float(np.finfo(dtype).max))
    return exact.denominator == 1 and int(np.iinfo(dtype).min) <= exact <= int(np.iinfo(dtype).max)


@given(NUMBERS, DTYPES)
def test_a_number_passes_exactly_when_its_dtype_holds_it(value, dtype):
    if not allowed(value, dtype):
        with pytest.raises(InvalidInput) as caught:
            number(value, dtype, "field")
        assert caught.value.field == "field"
        return
    got = number(value, dtype, "field")
    if dtype.startswith("float"):
        assert np.dtype(dtype).type(got) == np.dtype(dtype).type(float(value))
    else:
        assert int(got) == value


@given(st.lists(st.lists(NUMBERS, min_size=2, max_size=2), min_size=1, max_size=4), DTYPES)
def test_nested_lists_agree_with_their_numbers_one_by_one(rows, dtype):
    bad = [(i, j) for i, row in enumerate(rows) for j, value in enumerate(row) if not allowed(value, dtype)]
    if bad:
        with pytest.raises(InvalidInput) as caught:
            array(rows, dtype, (None, 2), "x")
        assert caught.value.field == f"x[{bad[0][0]}][{bad[0][1]}]"
        return
    got = array(rows, dtype, (None, 2), "x")
    assert (got.dtype, got.shape) == (np.dtype(dtype), (len(rows), 2))
    for i, row in enumerate(rows):
        for j, value in enumerate(row):
            assert got[i, j] == np.dtype(dtype).type(number(value, dtype, ""))


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (True, "the boolean true"),
        (None, "null"),
        ("1", "the text '1'"),
        ([1], "a list of 1"),
        ({}, "an object"),
        pytest.param(10**5000, "bits", id="huge"),
        (1e39, "1e+39"),
        (float("nan"), "nan"),
    ],
)
def test_what_is_no_number_is_told(value, told):
    with pytest.raises(InvalidInput) as caught:
        number(value, "float32", "field")
    assert told in str(caught.value)
    with pytest.raises(InvalidInput):
        array([1.0, value], "float32", (2,), "field")


def test_booleans_are_for_boolean_inputs_alone():
    assert array([True, False], "bool", (2,), "x").tolist() == [True, False]
    for value in (1, 1.0, "true", None):
        with pytest.raises(InvalidInput, match="true or false"):
            array([True, value], "bool", (2,), "x")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ([[1, 2], [3]], "depth 1"),
        ([[1, 2], 3], "depth 1"),
        ([1, 2], r"shape \[2\]"),
        ([[1, 2, 3]], r"shape \[1, 3\]"),
        ([[[1], [2]]], "more than 2 deep"),
        ([], "empty list"),
        ([[], []], "empty list"),
        (5, r"shape \[\]"),
    ],
)
def test_lists_of_a_wrong_shape_are_told(value, told):
    with pytest.raises(InvalidInput, match=told):
        array(value, "float32", (None, 2), "x")


def test_deep_nesting_is_refused_without_following_it():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(InvalidInput, match="deep"):
        array(deep, "float32", (2, 2), "x")
