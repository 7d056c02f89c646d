"""Groups are what their spec says, element by element; every misuse is refused in one sentence."""

# ruff: noqa: ARG005 - a place is given all its coordinates, whether or not its group depends on them

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from explain import InvalidParameter
from explain.segments import SCHEMA, Segments, resolve
from tests.explain.graphs import numbers

IMAGE = {"x": numbers(2, 3, 7, 10)}
SERIES = {"x": numbers(2, 4, 11)}
ROWS = {"x": numbers(3, 5)}
IDS = {"ids": np.array([[101, 5, 6, 102, 0], [101, 7, 102, 0, 0]])}
MIXED = {"image": numbers(2, 3, 8, 8), "row": numbers(2, 4), "ids": np.tile(np.arange(5), (2, 1))}
Place = Callable[..., int]


def by_hand(shape: tuple[int, ...], group: Place) -> np.ndarray:
    """The index of an item, element by element."""
    found = np.empty(shape, dtype=np.int64)
    for at in np.ndindex(*shape):
        found[at] = group(*at)
    return found


def check(segments: Segments, inputs: Mapping[str, np.ndarray]) -> None:
    """What every `Segments` keeps: shapes, dtype, an item's numbers without gaps, G the most of them, one name each."""
    items = len(next(iter(inputs.values())))
    assert set(segments.index) == set(inputs)
    for name, index in segments.index.items():
        assert index.dtype == np.int64
        assert index.shape == (inputs[name].shape if segments.per_item else inputs[name].shape[1:])
    everything = [np.broadcast_to(index, inputs[name].shape) for name, index in segments.index.items()]
    for item, count in enumerate(segments.counts(items)):
        used = {int(group) for index in everything for group in index[item].reshape(-1)} - {-1}
        assert used == set(range(count))
    assert max(segments.counts(items)) == segments.count
    assert segments.names is None or len(set(segments.names)) == segments.count


CASES: list[tuple[Any, dict[str, np.ndarray], Place, int]] = [
    ("elements", IMAGE, lambda c, y, x: (c * 7 + y) * 10 + x, 210),
    ("inputs", IMAGE, lambda *at: 0, 1),
    ("channels", IMAGE, lambda c, y, x: c, 3),
    ({"channels": {"layout": "HWC"}}, IMAGE, lambda y, x, c: c, 10),
    ({"channels": {"axis": 1}}, SERIES, lambda c, t: t, 11),
    ("positions", IMAGE, lambda c, y, x: y * 10 + x, 70),
    ({"positions": {"layout": "NHWC"}}, IMAGE, lambda y, x, c: y * 7 + x, 21),
    ("positions", SERIES, lambda c, t: t, 11),
    ({"positions": {"layout": "TC"}}, SERIES, lambda t, c: t, 4),
    ({"windows": {"size": 4}}, SERIES, lambda c, t: t // 4, 3),
    ({"windows": {"count": 3}}, SERIES, lambda c, t: sum(t >= cut for cut in (4, 8)), 3),
    ({"windows": {"size": 2, "layout": "TC"}}, SERIES, lambda t, c: t // 2, 2),
    ({"windows": {"size": 2, "axis": 0}}, SERIES, lambda t, c: t // 2, 2),
    ({"windows": {"size": 2}}, ROWS, lambda t: t // 2, 3),
    ({"patches": {"size": [3, 5]}}, IMAGE, lambda c, y, x: y // 3 * 2 + x // 5, 6),
    ({"patches": {"size": 4}}, IMAGE, lambda c, y, x: y // 4 * 3 + x // 4, 6),
    ({"patches": {"size": [2, 3], "layout": "HWC"}}, IMAGE, lambda y, x, c: y // 2 * 3 + x // 3, 6),
    ({"patches": {"count": 6}}, IMAGE, lambda c, y, x: (y >= 4) * 3 + sum(x >= cut for cut in (4, 7)), 6),
    ({"patches": {"size": [2, 6]}}, SERIES, lambda y, x: y // 2 * 2 + x // 6, 4),
    ("tokens", IDS, lambda t: t, 5),
    ({"blocks": [[0, 3], [1], [4, 2]]}, ROWS, lambda f: [0, 1, 2, 0, 2][f], 3),
    ({"blocks": {"colour": [4, 3, 2], "age": [0], "sex": [1]}}, ROWS, lambda f: [1, 2, 0, 0, 0][f], 3),
    ({"blocks": {"x": [[0, 1], [2, 3, 4]]}}, ROWS, lambda f: f >= 2, 2),
]


@pytest.mark.parametrize(("spec", "inputs", "group", "count"), CASES, ids=[str(case[0]) for case in CASES])
def test_groups_are_what_the_spec_says(spec: Any, inputs: dict[str, np.ndarray], group: Place, count: int) -> None:
    found = resolve(spec, inputs)
    (array,), (index,) = inputs.values(), found.index.values()
    check(found, inputs)
    assert found.count == count
    assert not found.per_item
    np.testing.assert_array_equal(index, by_hand(array.shape[1:], group))


@pytest.mark.parametrize(
    "spoiled",
    [
        Segments({"x": np.array([0, 0, 1, 1, 3])}, 4, tuple("abcd")),
        Segments({"x": np.array([0, 0, 1, 1, 1])}, 3, tuple("abc")),
        Segments({"x": np.array([0, 0, 1, 1, 1])}, 2, ("a", "a")),
        Segments({"x": np.array([0, 0, 1, 1, 1], dtype=np.int32)}, 2, tuple("ab")),
        Segments({"x": np.array([[0, 0, 1, 1, 1]])}, 2, tuple("ab")),
        Segments({"x": np.array([[0, 0, 0, 1, 1], [0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])}, 2, tuple("ab"), per_item=True),
    ],
)
def test_the_check_of_groups_fails_where_it_must(spoiled: Segments) -> None:
    check(Segments({"x": np.array([0, 0, 1, 1, -1])}, 2, tuple("ab")), ROWS)
    with pytest.raises(AssertionError):
        check(spoiled, ROWS)


def test_what_is_named() -> None:
    assert resolve("elements", ROWS).names is None
    assert resolve("inputs", MIXED).names == ("image", "row", "ids")
    assert resolve({"windows": {"size": 4}}, SERIES).names == ("steps 0-3", "steps 4-7", "steps 8-10")
    assert resolve({"patches": {"size": [4, 10]}}, IMAGE).names == ("patch 0,0", "patch 1,0")
    assert resolve("positions", IMAGE).names[11:13] == ("row 1, column 1", "row 1, column 2")  # type: ignore[index]
    assert resolve({"blocks": {"colour": [4, 3, 2], "age": [0, 1]}}, ROWS).names == ("colour", "age")


def test_tokens_that_are_kept_are_no_groups_and_differ_per_item() -> None:
    found = resolve({"tokens": {"keep": [101, 102, 0]}}, IDS)
    check(found, IDS)
    assert found.per_item
    assert found.index["ids"].tolist() == [[-1, 0, 1, -1, -1], [-1, 0, -1, -1, -1]]
    assert found.counts(2).tolist() == [2, 1]


def test_words_are_the_tokens_of_one_number() -> None:
    found = resolve({"words": {"of": [[-1, 3, 3, 8, -1], [-1, 2, 5, 2, -1]]}}, IDS)
    check(found, IDS)
    assert found.index["ids"].tolist() == [[-1, 0, 0, 1, -1], [-1, 0, 1, 0, -1]]
    shared = resolve({"words": {"of": [0, 0, 1, 1, -1]}}, IDS)
    assert shared.index["ids"].tolist() == [[0, 0, 1, 1, -1]] * 2


def test_other_inputs_are_one_group_each_or_never_masked() -> None:
    grouped = resolve({"patches": {"size": 4}}, MIXED)
    check(grouped, MIXED)
    assert grouped.names == ("patch 0,0", "patch 0,1", "patch 1,0", "patch 1,1", "row", "ids")
    assert [np.unique(grouped.index[name]).tolist() for name in ("row", "ids")] == [[4], [5]]
    kept = resolve({"patches": {"size": 4, "rest": "keep"}}, MIXED)
    check(kept, MIXED)
    assert [np.unique(kept.index[name]).tolist() for name in ("row", "ids")] == [[-1], [-1]]


def test_other_inputs_come_first_where_groups_differ_per_item() -> None:
    found = resolve({"tokens": {"keep": [0, 4], "rest": "group"}}, MIXED)
    check(found, MIXED)
    assert found.names == ("image", "row", "token 0", "token 1", "token 2")
    assert found.index["ids"].tolist() == [[-1, 2, 3, 4, -1]] * 2
    assert (resolve("tokens", MIXED).index["row"] == -1).all()


def test_elements_and_blocks_span_inputs() -> None:
    two = {"a": numbers(2, 3), "b": numbers(2, 2)}
    assert [index.tolist() for index in resolve("elements", two).index.values()] == [[0, 1, 2], [3, 4]]
    found = resolve({"blocks": {"a": {"id": [0, 1], "age": [2]}, "b": {"id": [0], "sex": [1]}}}, two)
    check(found, two)
    assert found.names == ("id", "age", "sex")
    assert [index.tolist() for index in found.index.values()] == [[0, 0, 1], [0, 2]]
    only = resolve({"blocks": {"b": [[0], [1]]}}, two)
    check(only, two)
    assert [index.tolist() for index in only.index.values()] == [[2, 2, 2], [0, 1]]


def test_which_input_is_meant_is_inferred_or_said() -> None:
    two = {"a": numbers(2, 3, 4, 4), "b": numbers(2, 3, 4, 4), "t": numbers(2, 2, 6)}
    assert np.unique(resolve({"windows": {"size": 3}}, two).index["t"]).tolist() == [0, 1]
    said = resolve({"patches": {"size": 2, "input": "b", "rest": "keep"}}, two)
    assert said.count == 4
    assert (said.index["a"] == -1).all()
    known = resolve({"patches": {"size": [2, 3]}}, two, main="b", layout="HWC")
    np.testing.assert_array_equal(known.index["b"], by_hand((3, 4, 4), lambda y, x, c: y // 2 * 2 + x // 3))
    with pytest.raises(InvalidParameter, match="inputs a, b may be meant; say which with input"):
        resolve({"patches": {"size": 2}}, two)


REFUSED: list[tuple[Any, dict[str, np.ndarray], str]] = [
    ("patch", IMAGE, "groups: came 'patch', expected one of elements, inputs"),
    (None, IMAGE, "came None, expected one of elements"),
    ({"patches": {}, "windows": {}}, IMAGE, "its only member"),
    ({"patches": [3]}, IMAGE, "expected an object with size, count, input, layout, rest"),
    ({"patches": {"sise": 3}}, IMAGE, "option 'sise' is unknown; expected size, count"),
    ("patches", IMAGE, "groups: patches of 'x': expected either size or count"),
    ({"patches": {"size": 2, "count": 2}}, IMAGE, "expected either size or count"),
    ({"patches": {"size": 0}}, IMAGE, r"size: came 0, expected a whole number, or \[rows, columns\]"),
    ({"patches": {"size": True}}, IMAGE, "size: came True"),
    ({"patches": {"size": [1, 2, 3]}}, IMAGE, r"size: came \[1, 2, 3\]"),
    ({"patches": {"size": [8, 1]}}, IMAGE, r"came size \[8, 1\], but the image has \[7, 10\] pixels"),
    ({"patches": {"count": 71}}, IMAGE, "came count 71, but the image has only 70 pixels"),
    ({"patches": {"count": 4}}, ROWS, r"items of shape \[5\], expected HW \(rank 2\) or CHW \(rank 3\)"),
    ({"patches": {"count": 4}}, {"x": numbers(1, 8, 8, 3)}, "may be images HWC; give layout"),
    ({"patches": {"count": 4, "layout": "HWX"}}, IMAGE, "came layout 'HWX', expected 3 of the letters"),
    ({"patches": {"count": 4, "layout": "HH"}}, SERIES, "came layout 'HH'"),
    ({"patches": {"count": 4, "layout": "CTW"}}, IMAGE, "layout 'CTW' has no axis of rows"),
    ("superpixels", IMAGE, "superpixels: count is missing; expected a whole number of at least 1"),
    ({"superpixels": {"count": 4, "compactness": 0}}, IMAGE, "compactness: came 0, expected a number above 0"),
    ({"superpixels": {"count": 4}}, {"x": IMAGE["x"] * np.nan}, "the image holds NaN or infinity"),
    ({"windows": {"size": 12}}, SERIES, "came 12, but there are only 11 steps"),
    ({"windows": {"size": 2, "axis": 2}}, SERIES, r"came axis 2, expected an axis of items \[4, 11\]"),
    ({"windows": {"size": 2}}, IMAGE, r"expected T \(rank 1\) or CT \(rank 2\)"),
    ({"channels": {"axis": 3}}, IMAGE, "came axis 3"),
    ("channels", ROWS, "layout 'T' has no axis of channels"),
    ("tokens", ROWS, r"came float32 \[3, 5\], expected whole numbers \[N, T\]"),
    ({"tokens": {"keep": [0.5]}}, IDS, r"keep: came \[0.5\], expected a list of token ids"),
    ({"tokens": {"keep": [101, 5, 6, 7, 102, 0]}}, IDS, "no group is left that could be masked"),
    ({"words": {"of": [[0, 1], [2]]}}, IDS, "of: expected the number of each token's word"),
    ({"words": {"of": [0, 1, -2, 0, 0]}}, IDS, "-1 for none"),
    ({"tokens": {"input": "id"}}, IDS, "input 'id' is unknown; expected ids"),
    ({"tokens": {"rest": "drop"}}, IDS, "rest: came 'drop', expected group or keep"),
    ({"windows": {"size": 2, "rest": "keep"}}, {"a": numbers(1, 2, 2, 2), "b": numbers(1, 2, 2, 2)}, "looks like one"),
    ({"blocks": [[0, 1], [2]]}, ROWS, "position 3 is in no block; list it"),
    ({"blocks": [[0, 1], [1, 2, 3, 4]]}, ROWS, "position 1 is in two blocks"),
    ({"blocks": [[0, 1], [2, 3, 4, 5]]}, ROWS, "came position 5, expected 0 to 4"),
    ({"blocks": []}, ROWS, r"came \[\], expected lists of positions"),
    ({"blocks": [[0, 1.5]]}, ROWS, "expected lists of positions"),
    ({"blocks": {"y": [[0]]}}, ROWS, "input 'y' is unknown; expected x"),
    ({"blocks": {"x": [["a"]]}}, ROWS, "groups: blocks of 'x': came"),
    ({"blocks": [[0]]}, MIXED, "give the blocks of each, by name"),
    ("elements", {"x": np.zeros((0, 3))}, r"came inputs x \[0, 3\], expected the same number of items"),
    ("elements", {"x": np.zeros((2, 0))}, "expected the same number of items"),
    ("elements", {"x": np.zeros((2, 3)), "y": np.zeros((3, 3))}, "expected the same number of items"),
    ("elements", {}, "came inputs nothing"),
]


@pytest.mark.parametrize(("spec", "inputs", "message"), REFUSED, ids=[str(case[0]) for case in REFUSED])
def test_what_makes_no_sense_is_refused(spec: Any, inputs: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        resolve(spec, inputs)


def test_the_schema_is_json_and_names_every_kind() -> None:
    kinds = [next(iter(one["properties"])) for one in json.loads(json.dumps(SCHEMA))["anyOf"][1:]]
    refusal = ""
    try:
        resolve("nothing of the kind", ROWS)
    except InvalidParameter as error:
        refusal = str(error)
    assert refusal.endswith(", ".join(kinds))
