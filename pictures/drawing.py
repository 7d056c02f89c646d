"""One description of a drawing, rendered by two back ends.

`heatmap` and `waterfall` place a handful of marks in CSS pixels (origin top left, y downwards); `svg.py` and `png.py`
each turn the same list into bytes, so that the two formats cannot tell different stories.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from PIL import Image

Anchor: TypeAlias = Literal["start", "middle", "end"]

INK = "#1b1f24"
MUTED = "#57606a"
FAINT = "#d0d7de"
PAPER = "#ffffff"


@dataclass(frozen=True)
class Rect:
    """A filled rectangle, optionally outlined by a one-pixel line."""

    x: float
    y: float
    width: float
    height: float
    fill: str | None
    stroke: str | None = None


@dataclass(frozen=True)
class Line:
    """A straight line; `dash` is (on, off) in pixels."""

    x1: float
    y1: float
    x2: float
    y2: float
    colour: str
    width: float = 1.0
    dash: tuple[float, float] | None = None


@dataclass(frozen=True)
class Polygon:
    """A filled shape; `hint` is what a screen reader or a tooltip says about it."""

    points: tuple[tuple[float, float], ...]
    fill: str
    hint: str = ""


@dataclass(frozen=True)
class Text:
    """One line of text on the baseline `y`; `hint` holds the full wording where `text` was shortened."""

    x: float
    y: float
    text: str
    size: float
    colour: str = INK
    anchor: Anchor = "start"
    bold: bool = False
    hint: str = ""


@dataclass(frozen=True)
class Raster:
    """Pixels (RGB) stretched over a box; `crisp` keeps the edges of enlarged pixels sharp."""

    x: float
    y: float
    width: float
    height: float
    image: Image.Image
    crisp: bool
    hint: str = ""


Mark: TypeAlias = Rect | Line | Polygon | Text | Raster


@dataclass(frozen=True)
class Drawing:
    """Marks in painting order on a white sheet; `title` and `description` are for those who cannot see it."""

    width: int
    height: int
    marks: Sequence[Mark]
    title: str
    description: str


class Picture:
    """A finished drawing. The same picture always gives the same bytes."""

    def __init__(self, drawing: Drawing) -> None:
        self._drawing = drawing

    @property
    def drawing(self) -> Drawing:
        """The marks both formats are made from."""
        return self._drawing

    def svg(self) -> str:
        """A self-contained SVG 1.1 document: no script, no style sheet, no reference to anything outside it."""
        from .svg import render

        return render(self._drawing)

    def png(self) -> bytes:
        """A PNG at two device pixels per CSS pixel, drawn with the font Pillow carries."""
        from .png import render

        return render(self._drawing)
