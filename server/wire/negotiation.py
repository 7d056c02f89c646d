"""What form of answer an ``Accept`` header asks for."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..errors import NotAcceptable

JSON = "application/json"
PNG = "image/png"
SVG = "image/svg+xml"
BINARY = "application/octet-stream"
LINES = "application/x-ndjson"
_QUALITY = re.compile(r"^q=(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)$")


def choose(accept: str | None, offered: Sequence[str]) -> str:
    """The offered media type that the header likes best; the first offered one wins ties.

    A named type counts before ``type/*`` and that before ``*/*``, as RFC 9110 section 12.5.1 has it.

    Raises:
        NotAcceptable: none of the offered types is wanted.
    """
    if accept is None or not accept.strip():
        return offered[0]
    ranges = [_range(part) for part in accept.split(",") if part.strip()]
    best = max(offered, key=lambda kind: _quality(kind, ranges))
    if _quality(best, ranges) <= 0:
        raise NotAcceptable(f"Accept: got {accept[:80]!r}, expected one of {', '.join(offered)}")
    return best


def _range(part: str) -> tuple[str, float]:
    kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
    matches = [match for match in map(_QUALITY.match, parameters) if match]
    return kind, float(matches[0].group(1)) if matches else 1.0


def _quality(kind: str, ranges: Sequence[tuple[str, float]]) -> float:
    wanted = dict(ranges)
    for pattern in (kind, kind.split("/")[0] + "/*", "*/*"):
        if pattern in wanted:
            return wanted[pattern]
    return 0.0
