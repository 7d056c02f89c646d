"""The binary tensor data extension cuts a body where its lengths say, and only if they add up."""

from __future__ import annotations

import pytest

from server.errors import BadRequest
from server.wire import binary


def test_the_header_says_where_json_ends() -> None:
    assert binary.split(b"{}rest", None) == (b"{}rest", b"")
    assert binary.split(b"{}rest", "2") == (b"{}", b"rest")
    assert binary.split(b"rest", "0") == (b"", b"rest")


@pytest.mark.parametrize("header", ["", "-1", "+2", "2.0", "7", "99999999999", "9" * 400, "٣", "0x2", " 2", "a"])
def test_a_header_outside_the_body_is_refused(header: str) -> None:
    with pytest.raises(BadRequest, match="Inference-Header-Content-Length"):
        binary.split(b"{}rest", header)


def test_pieces_in_order_and_nothing_left() -> None:
    reader = binary.Reader(b"aabbb")
    assert reader.take(2, "x") == b"aa"
    assert reader.take(0, "x") == b""
    assert reader.take(3, "x") == b"bbb"
    reader.finish()


@pytest.mark.parametrize("size", [-1, 6, 2**70, True, 1.0, "1", None])
def test_sizes_that_cannot_be_are_refused(size: object) -> None:
    with pytest.raises(BadRequest, match="binary_data_size"):
        binary.Reader(b"aabbb").take(size, "x")


def test_bytes_that_nobody_claims_are_refused() -> None:
    reader = binary.Reader(b"aabbb")
    reader.take(2, "x")
    with pytest.raises(BadRequest, match="3 bytes more"):
        reader.finish()


def test_joining_says_how_long_the_json_is() -> None:
    assert binary.join(b"{}", []) == (b"{}", {"Content-Type": "application/json"})
    body, headers = binary.join(b"{}", [b"ab", b"", b"c"])
    assert body == b"{}abc"
    assert headers == {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": "2"}
