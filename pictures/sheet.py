"""The parts every sheet shares: its margin, the title above and the caption below."""

from __future__ import annotations

from . import text as words
from .drawing import INK, MUTED, Mark, Text

MARGIN = 24


def header(marks: list[Mark], title: str, subtitle: str, room: float) -> float:
    """Title and subtitle at the top of a sheet; returns the height they end at."""
    y = 40.0
    for line in words.wrap(title, 19, room / 1.04, 2):
        marks.append(Text(MARGIN, y, line, 19, INK, bold=True, hint=title if line.endswith("…") else ""))
        y += 25
    y -= 2
    for line in words.wrap(subtitle, 13, room, 3):
        marks.append(Text(MARGIN, y, line, 13, MUTED))
        y += 18
    return y + 2


def footer(marks: list[Mark], caption: str, y: float, room: float) -> float:
    """The caption at the bottom of a sheet; returns the baseline of its last line."""
    for line in words.wrap(caption, 12, room, 5):
        y += 16
        marks.append(Text(MARGIN, y, line, 12, MUTED))
    return y
