"""The SVG back end: one element per mark, written by hand, every word escaped."""

from __future__ import annotations

import base64
import io
from xml.sax.saxutils import escape, quoteattr

from . import text as words
from .drawing import PAPER, Drawing, Line, Mark, Polygon, Raster, Rect, Text

FAMILY = "Aileron, 'Helvetica Neue', Helvetica, Arial, 'Liberation Sans', sans-serif"


def render(drawing: Drawing) -> str:
    """The drawing as an SVG document."""
    size = f'width="{drawing.width}" height="{drawing.height}" viewBox="0 0 {drawing.width} {drawing.height}"'
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family={quoteattr(FAMILY)}>',
        f"<title>{escape(words.clean(drawing.title))}</title>",
        f"<desc>{escape(words.clean(drawing.description))}</desc>",
        f'<rect x="0" y="0" width="{drawing.width}" height="{drawing.height}" fill="{PAPER}"/>',
    ]
    return "\n".join([*head, *(_element(mark) for mark in drawing.marks), "</svg>", ""])


def _element(mark: Mark) -> str:
    match mark:
        case Rect():
            stroke = f' stroke="{mark.stroke}"' if mark.stroke else ""
            return f'<rect {_box(mark)} fill="{mark.fill or "none"}"{stroke}/>'
        case Line():
            dash = f' stroke-dasharray="{_n(mark.dash[0])} {_n(mark.dash[1])}"' if mark.dash else ""
            ends = f'x1="{_n(mark.x1)}" y1="{_n(mark.y1)}" x2="{_n(mark.x2)}" y2="{_n(mark.y2)}"'
            return f'<line {ends} stroke="{mark.colour}" stroke-width="{_n(mark.width)}"{dash}/>'
        case Polygon():
            points = " ".join(f"{_n(x)},{_n(y)}" for x, y in mark.points)
            return f'<polygon points="{points}" fill="{mark.fill}">{_hint(mark.hint)}</polygon>'
        case Text():
            return _text(mark)
        case Raster():
            return _image(mark)


def _text(mark: Text) -> str:
    content = words.clean(mark.text)
    weight = ' font-weight="600"' if mark.bold else ""
    place = f'x="{_n(mark.x)}" y="{_n(mark.y)}" font-size="{_n(mark.size)}" text-anchor="{mark.anchor}"'
    length = words.width(content, mark.size, bold=mark.bold)
    # Whatever sans-serif the viewer has takes the room the layout gave it; letters we cannot measure keep their own
    # width.
    span = (
        f' textLength="{_n(length)}" lengthAdjust="spacingAndGlyphs"' if words.measurable(content) and content else ""
    )
    return f'<text {place} fill="{mark.colour}"{weight}{span}>{escape(content)}{_hint(mark.hint)}</text>'


def _image(mark: Raster) -> str:
    buffer = io.BytesIO()
    mark.image.convert("RGB").save(buffer, "PNG", optimize=False)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    # An attribute, not a style: a page whose content security policy forbids inline styles may show the picture.
    crisp = ' image-rendering="pixelated"' if mark.crisp else ""
    href = f'href="data:image/png;base64,{data}"'
    return f'<image {_box(mark)} preserveAspectRatio="none"{crisp} {href}>{_hint(mark.hint)}</image>'


def _hint(hint: str) -> str:
    return f"<title>{escape(words.clean(hint))}</title>" if hint else ""


def _box(mark: Rect | Raster) -> str:
    return f'x="{_n(mark.x)}" y="{_n(mark.y)}" width="{_n(mark.width)}" height="{_n(mark.height)}"'


def _n(value: float) -> str:
    """At most three decimals, no exponent, no negative zero."""
    plain = f"{value:.3f}".rstrip("0").rstrip(".")
    return "0" if plain == "-0" else plain
