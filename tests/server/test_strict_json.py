"""JSON from clients means one thing or is refused; JSON of ours is valid."""

from __future__ import annotations

import json
from typing import Any

import pytest

from server.errors import BadRequest
from server.wire import strict_json


def slow_depth(text: str) -> int:
    """How deep brackets nest, character by character."""
    level = deepest = 0
    inside = escaped = False
    for character in text:
        if inside:
            inside = escaped or character != '"'
            escaped = character == "\\" and not escaped
        elif character == '"':
            inside = True
        elif character in "[{":
            level += 1
            deepest = max(deepest, level)
        elif character in "]}":
            level -= 1
    return deepest


@pytest.mark.parametrize(
    "text",
    [
        "1",
        "[]",
        '{"a":[{"b":[1,2,{"c":[[]]}]}]}',
        r'["[[[", "\"[{", "\\", [1], "a\n[", "\\\"[["]',
        json.dumps({"\\[": ['"', "\\", "]]", {"x": [[["\\\\"]]]}]}),
    ],
)
def test_depth_is_that_of_counting_by_hand(text: str) -> None:
    assert strict_json.depth(text.encode()) == slow_depth(text)


def test_depth_up_to_the_limit_is_read() -> None:
    deep = b"[" * strict_json.MAX_DEPTH + b"]" * strict_json.MAX_DEPTH
    assert strict_json.loads(deep) is not None
    with pytest.raises(BadRequest, match="nested deeper"):
        strict_json.loads(b"[" + deep + b"]")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "got nothing"),
        (b"  ", "got nothing"),
        (b"{", "line 1 column 2"),
        (b"[1,]", "expected a JSON value"),
        (b"NaN", "NaN"),
        (b"[Infinity]", "Infinity"),
        (b"[-Infinity]", "-Infinity"),
        (b"[1e999]", "1e999"),
        (b"[-1E+400]", "a double can hold"),
        (b"[1e0400]", "a double can hold"),
        (b"[" + b"9" * 5000 + b"]", "an integer of 5000 digits"),
        (b"[" + b"9" * 330 + b".5]", "a double can hold"),
        (b'{"a":1,"a":2}', "member 'a': got it twice"),
        (b'{"x":{"b":1,"c":2,"b":1}}', "member 'b'"),
        (b"\xef\xbb\xbf{}", "expected a JSON value"),
        (b'["\xff"]', "UTF-8"),
        (b'["\\ud800"]', "UTF-8"),
        (b"[" * 250_000, "nested deeper"),
        (b'{"a":' * 250_000, "nested deeper"),
        ("[1]".encode("utf-16"), "UTF-8"),
    ],
)
def test_what_is_not_strict_json_is_refused(body: bytes, said: str) -> None:
    with pytest.raises(BadRequest) as refused:
        strict_json.loads(body)
    assert said in str(refused.value)
    assert len(str(refused.value)) < 400


def test_ordinary_json_is_read_as_python_reads_it() -> None:
    body = json.dumps({"a": [1, 2.5, -3e10, 1e-300, None, True, "ü\U0001f600"], "b": {"c": '\\["'}})
    assert strict_json.loads(body.encode()) == json.loads(body)
    assert strict_json.loads(b'["\\ud83d\\ude00"]') == ["\U0001f600"]


@pytest.mark.parametrize(
    "text",
    [
        '{"a":[{"b":1},{"b":1}],"c":{"a":{},"b":[]},"d":[[[]],{}]}',
        '{"time":"12:30","{":"}","[":["]"]}',
        "[" + ",".join(['{"a":[0.1,-0,-0.0,1e-400,1E5]}'] * 300) + "]",
        "[18446744073709551616,-9223372036854775809,1.7976931348623157e308]",
        "[" + "9" * 308 + "]",
        '"\\ud83d\\ude00\\u0000"',
        " 7 ",
        "null",
    ],
)
def test_the_quick_way_reads_what_the_standard_library_reads(text: str) -> None:
    read = strict_json.loads(text.encode())
    assert repr(read) == repr(json.loads(text))


@pytest.mark.parametrize("text", ['[{"a":1},{"b":{"c":[{"a":1,"a":1}]}}]', '{"a":[1,{"x":[],"x":[]}],"b":":"}'])
def test_a_repeated_key_is_found_wherever_it_is(text: str) -> None:
    with pytest.raises(BadRequest, match="twice"):
        strict_json.loads(text.encode())


@pytest.mark.parametrize("value", [{"a": None, "b": [1.5, "ü", True]}, [2**70], ["null", {"x": "a/b"}], (1, (2,))])
def test_what_is_written_is_read_back(value: object) -> None:
    assert json.loads(strict_json.dumps(value)) == json.loads(json.dumps(value))


@pytest.mark.parametrize("value", [[None, float("inf")], {"a": [float("-inf")]}, [2**70, float("nan")]])
def test_no_infinity_hides_behind_a_null(value: object) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        strict_json.dumps(value)


def test_nan_is_never_written() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        strict_json.dumps({"a": float("nan")})
    assert strict_json.dumps({"ü": [1, 0.1]}) == '{"ü":[1,0.1]}'.encode()


def test_values_in_messages_are_short() -> None:
    for value in ["x" * 10_000, [0] * 10_000, {"k": 1}, 10**300, None, True]:
        assert len(strict_json.kind_of(value)) < 90


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", [lambda x: x, lambda x: [1.0, x], lambda x: {"a": [None, [[2.0, x], [3.0]]]}])
def test_a_null_beside_it_hides_no_number_that_is_none(bad: float, place: Any) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        strict_json.dumps({"null": None, "found": place(bad)})


def test_what_has_nulls_is_written_as_the_standard_library_writes_it() -> None:
    value = {"a": None, "b": [[1.5, 2], [True, None]], "c": [], "d": ["x", "null"], "e": (1e308, 1e308), "f": 10**400}
    expected = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    assert strict_json.dumps(value) == expected
    del value["f"], value["e"]
    assert json.loads(strict_json.dumps(value)) == value
