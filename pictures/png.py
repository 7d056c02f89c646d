"""The PNG back end: the same marks painted with Pillow at two device pixels per CSS pixel."""

from __future__ import annotations

import io

from PIL import Image, ImageDraw

from . import text as words
from .drawing import PAPER, Drawing, Line, Mark, Polygon, Raster, Rect, Text

SCALE = 2
_SMOOTHING = 4  # Pillow does not smooth slanted edges: shapes are painted this much larger and shrunk


def render(drawing: Drawing) -> bytes:
    """The drawing as PNG bytes (RGB, no metadata but the resolution)."""
    sheet = Image.new("RGB", (drawing.width * SCALE, drawing.height * SCALE), PAPER)
    pen = ImageDraw.Draw(sheet)
    for mark in drawing.marks:
        _paint(sheet, pen, mark)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", dpi=(192, 192))
    return buffer.getvalue()


def _paint(sheet: Image.Image, pen: ImageDraw.ImageDraw, mark: Mark) -> None:
    match mark:
        case Rect():
            _rect(pen, mark)
        case Line():
            _line(pen, mark)
        case Polygon():
            _polygon(sheet, mark)
        case Text():
            _text(pen, mark)
        case Raster():
            left, top, right, bottom = (_px(v) for v in (mark.x, mark.y, mark.x + mark.width, mark.y + mark.height))
            size = (max(1, right - left), max(1, bottom - top))
            how = Image.Resampling.NEAREST if mark.crisp else Image.Resampling.BICUBIC
            sheet.paste(mark.image.convert("RGB").resize(size, how), (left, top))


def _rect(pen: ImageDraw.ImageDraw, mark: Rect) -> None:
    left, top = _px(mark.x), _px(mark.y)
    right, bottom = _px(mark.x + mark.width) - 1, _px(mark.y + mark.height) - 1
    if right < left or bottom < top:
        return
    if mark.fill:
        pen.rectangle((left, top, right, bottom), fill=mark.fill)
    if mark.stroke:  # centred on the edge, as in SVG
        pen.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=mark.stroke, width=SCALE)


def _line(pen: ImageDraw.ImageDraw, mark: Line) -> None:
    thickness = max(1, round(mark.width * SCALE))
    length = ((mark.x2 - mark.x1) ** 2 + (mark.y2 - mark.y1) ** 2) ** 0.5
    for begin, end in _dashes(length, mark.dash):
        near, far = begin / length, end / length
        ends = [(mark.x1 + (mark.x2 - mark.x1) * t, mark.y1 + (mark.y2 - mark.y1) * t) for t in (near, far)]
        pen.line([(_px(x), _px(y)) for x, y in ends], fill=mark.colour, width=thickness)


def _dashes(length: float, dash: tuple[float, float] | None) -> list[tuple[float, float]]:
    if length <= 0:
        return []
    if dash is None:
        return [(0.0, length)]
    on, off = dash
    count = int(length // (on + off)) + 1
    starts = [index * (on + off) for index in range(count)]
    return [(start, min(start + on, length)) for start in starts if start < length]


def _polygon(sheet: Image.Image, mark: Polygon) -> None:
    factor = SCALE * _SMOOTHING
    left = int(min(x for x, _ in mark.points) * SCALE) - 1
    top = int(min(y for _, y in mark.points) * SCALE) - 1
    right = int(max(x for x, _ in mark.points) * SCALE) + 2
    bottom = int(max(y for _, y in mark.points) * SCALE) + 2
    size = (right - left, bottom - top)
    mask = Image.new("L", (size[0] * _SMOOTHING, size[1] * _SMOOTHING), 0)
    # Pillow paints the border pixels of a polygon too: half a fine pixel less on each side keeps lengths true.
    points = [(x * factor - left * _SMOOTHING - 0.5, y * factor - top * _SMOOTHING - 0.5) for x, y in mark.points]
    ImageDraw.Draw(mask).polygon(points, fill=255)
    sheet.paste(Image.new("RGB", size, mark.fill), (left, top), mask.resize(size, Image.Resampling.BOX))


def _text(pen: ImageDraw.ImageDraw, mark: Text) -> None:
    content = words.clean(mark.text)
    length = words.width(content, mark.size)
    x = (mark.x - {"start": 0.0, "middle": 0.5, "end": 1.0}[mark.anchor] * length) * SCALE
    stroke = 0.35 * SCALE / 2 if mark.bold else 0.0  # the bundled font has one weight; a thin outline makes it bolder
    size, y = mark.size * SCALE, mark.y * SCALE
    for run, style in words.pieces(content):
        step = words.advance(run, style, size)
        if style == "minus":
            pen.rectangle((x + 0.1 * step, y - 0.34 * size, x + 0.88 * step, y - 0.27 * size), fill=mark.colour)
        else:
            raised = style == "raised"
            face = words.font(size * words.RAISED_SIZE if raised else size)
            place = (x, y - 0.32 * size if raised else y)
            pen.text(place, run, fill=mark.colour, font=face, anchor="ls", stroke_width=stroke)
        x += step


def _px(value: float) -> int:
    return round(value * SCALE)
