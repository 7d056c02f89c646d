"""The binary tensor data extension: a JSON object followed by raw tensors, cut at lengths that must add up.

``Inference-Header-Content-Length`` says where the JSON ends. Absent, the whole body is JSON; 0, the whole body is one
tensor and there is no JSON. The sum of all ``binary_data_size`` must be exactly what follows the JSON.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import BadRequest

HEADER = "Inference-Header-Content-Length"


def split(body: bytes, header: str | None) -> tuple[bytes, memoryview]:
    """The JSON part and, not copied, the binary part of a body; the JSON part is empty for a raw tensor.

    Raises:
        BadRequest: a length that is no number, or lies outside the body.
    """
    if header is None:
        return body, memoryview(b"")
    if not (header.isascii() and header.isdigit() and len(header) <= 18) or int(header) > len(body):
        raise BadRequest(HEADER, repr(header[:40]), f"a whole number from 0 to the body's length, {len(body)}")
    return body[: int(header)], memoryview(body)[int(header) :]


class Reader:
    """Hands out the binary part piece by piece, in the order of the JSON."""

    def __init__(self, content: memoryview) -> None:
        self._content = content
        self._at = 0

    def take(self, size: object, what: str) -> memoryview:
        """The next ``size`` bytes.

        Raises:
            BadRequest: the size is no whole number or more than what is left.
        """
        if isinstance(size, bool) or not isinstance(size, int) or size < 0:
            raise BadRequest(f"{what}.parameters.binary_data_size", repr(size)[:40], "a whole number, not negative")
        left = len(self._content) - self._at
        if size > left:
            raise BadRequest(
                f"{what}.parameters.binary_data_size", str(size), f"at most the {left} bytes that are left"
            )
        self._at += size
        return self._content[self._at - size : self._at]

    def finish(self) -> None:
        """Raises BadRequest when bytes are left that no input claimed."""
        if left := len(self._content) - self._at:
            raise BadRequest("binary data", f"{left} bytes more than the inputs name", "sizes that add up to the body")


def join(head: bytes, tensors: Iterable[bytes]) -> tuple[bytes, dict[str, str]]:
    """A body of JSON and raw tensors, with the headers that describe it; plain JSON where there are no tensors."""
    parts = list(tensors)
    if not parts:
        return head, {"Content-Type": "application/json"}
    return b"".join([head, *parts]), {"Content-Type": "application/octet-stream", HEADER: str(len(head))}
