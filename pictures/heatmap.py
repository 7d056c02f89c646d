"""Where a model looked: an attribution laid over the picture the client sent, beside that picture itself.

The attribution (the model's input size, or a coarse map) is stretched over the original, which is first turned grey
and faded; the colour then multiplies it. So hue and saturation speak of the attribution alone, light and dark of the
picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from . import text as words
from .colours import Floats, colourise
from .drawing import FAINT, INK, MUTED, Drawing, Mark, Picture, Raster, Rect, Text
from .errors import InvalidAttribution, InvalidOriginal
from .sheet import MARGIN, footer, header

PANEL = 420  # longer side of each panel in CSS pixels
FINEST = 2 * PANEL  # longest side of embedded pixels: what the PNG can show
CRISP_UP_TO = 128  # pictures of at most this many pixels a side are enlarged with sharp pixel edges
FADED = 0.62  # how light black becomes under the colours
_GAP = 28


@dataclass(frozen=True)
class Scale:
    """The value that gets the full colour, and how that is said."""

    limit: float
    sentence: str


def heatmap(
    attribution: npt.ArrayLike,
    original: Image.Image,
    *,
    title: str,
    caption: str,
    legend: str,
    signed: bool,
    subtitle: str = "",
    smooth: bool | None = None,
    clip: float = 99.0,
) -> Picture:
    """Two panels: `original`, and `original` coloured by `attribution` [h, w] or [c, h, w] (any real dtype).

    Channels are summed when `signed` (so that the sum over pixels stays the sum over the input), else their largest
    magnitude counts. `smooth` interpolates between attribution cells; by default only unsigned maps coarser or finer
    than the original are smoothed (Grad-CAM), so that the pixels of small inputs stay honest. Colours saturate at the
    `clip`-th percentile of the magnitudes, which the picture says. `legend` names the quantity, its target and unit.

    Raises InvalidAttribution (shape, NaN, infinite) and InvalidOriginal.
    """
    plane = _plane(attribution, signed=signed)
    photo = _rgb(original)
    smooth = (not signed and plane.shape != (photo.height, photo.width)) if smooth is None else smooth
    scale = robust_scale(plane, clip, signed=signed)
    overlay, crisp = _overlay(plane, photo, scale.limit, signed=signed, smooth=smooth)
    return Picture(_lay_out(photo, overlay, crisp, scale, signed, (title, subtitle, caption, legend)))


def robust_scale(plane: Floats, clip: float, *, signed: bool) -> Scale:
    """The `clip`-th percentile of |plane|, or its maximum where that percentile is zero."""
    magnitude = np.abs(plane)
    largest = float(magnitude.max())
    if largest == 0.0:
        return Scale(1.0, "every attribution is zero")
    limit = float(np.percentile(magnitude, clip))
    sign = "±" if signed else ""
    if limit == 0.0 or limit >= largest:
        return Scale(largest, f"full colour at {sign}{words.number(largest)}, the largest magnitude")
    beyond = int((magnitude > limit).sum())
    verb = "lies" if beyond == 1 else "lie"
    percentile = f"the {clip:g}th percentile of magnitudes" if clip != 99.0 else "the 99th percentile of magnitudes"
    tail = f"{beyond} of {plane.size} cells {verb} beyond, up to {words.number(largest)}"
    return Scale(limit, f"full colour at {sign}{words.number(limit)}, {percentile}; {tail}")


def _plane(attribution: npt.ArrayLike, *, signed: bool) -> Floats:
    try:
        values = np.asarray(attribution, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidAttribution(f"attribution: expected real numbers [h, w] or [c, h, w]: {error}") from error
    if values.ndim not in (2, 3) or 0 in values.shape:
        raise InvalidAttribution(f"attribution: shape {list(values.shape)} came, [h, w] or [c, h, w] was expected")
    if not np.isfinite(values).all():
        place = [int(i) for i in np.argwhere(~np.isfinite(values))[0]]
        came = "NaN" if np.isnan(values[tuple(place)]) else "an infinite value"
        raise InvalidAttribution(f"attribution{place}: {came} came, a finite number was expected")
    if not signed:
        values = np.abs(values)
    if values.ndim == 3:
        with np.errstate(over="ignore"):  # refused by name just below
            values = values.sum(axis=0) if signed else values.max(axis=0)
    if not np.isfinite(values).all():
        raise InvalidAttribution("attribution: the sum over channels overflows")
    return values


def _rgb(original: Image.Image) -> Image.Image:
    """The picture as RGB: transparency over white, 16-bit and float pictures stretched over their own range."""
    if not isinstance(original, Image.Image):
        raise InvalidOriginal(f"original: {type(original).__name__} came, a picture was expected")
    if 0 in original.size:
        raise InvalidOriginal(
            f"original: a picture of {original.width} × {original.height} pixels cannot be drawn over"
        )
    if original.mode.startswith(("I", "F")):
        deep = np.asarray(original, dtype=np.float64)
        span = float(deep.max() - deep.min()) or 1.0
        return Image.fromarray(np.round((deep - deep.min()) / span * 255).astype(np.uint8)).convert("RGB")
    if original.has_transparency_data:
        layered = original.convert("RGBA")
        white = Image.new("RGBA", layered.size, "white")
        return Image.alpha_composite(white, layered).convert("RGB")
    return original.convert("RGB")


def _overlay(
    plane: Floats, photo: Image.Image, limit: float, *, signed: bool, smooth: bool
) -> tuple[Image.Image, bool]:
    """The coloured picture and whether its pixels are to be kept sharp when enlarged."""
    size, crisp = _grid(plane, photo, smooth=smooth)
    how = Image.Resampling.BILINEAR if smooth else Image.Resampling.BOX
    stretched = Image.fromarray(np.clip(plane / limit, -1.0, 1.0).astype(np.float32)).resize(size, how)
    colours = colourise(np.asarray(stretched, dtype=np.float64), 1.0, signed=signed)
    sharp = max(photo.size) <= CRISP_UP_TO
    grey = photo.convert("L").resize(size, Image.Resampling.BOX if sharp else Image.Resampling.LANCZOS)
    light = FADED + (1.0 - FADED) * np.asarray(grey, dtype=np.float64)[..., None] / 255.0
    return Image.fromarray(np.round(colours * light).astype(np.uint8)), crisp


def _grid(plane: Floats, photo: Image.Image, *, smooth: bool) -> tuple[tuple[int, int], bool]:
    """Size of the coloured picture: whole multiples of the original that show every cell and every smooth slope."""
    longest = max(photo.size)
    if longest > FINEST:
        return _within(photo, FINEST), False
    wanted = FINEST if smooth else max(longest, *plane.shape)
    aligned = all(side % cells == 0 for side, cells in zip((photo.height, photo.width), plane.shape, strict=True))
    if not smooth and not aligned and wanted < FINEST:
        wanted = FINEST  # cell borders fall between the pixels of the original: draw them finely
    factor = max(1, min(-(-wanted // longest), FINEST // longest))
    return (photo.width * factor, photo.height * factor), longest * factor <= CRISP_UP_TO


def _within(photo: Image.Image, longest: int) -> tuple[int, int]:
    factor = longest / max(photo.size)
    return max(1, round(photo.width * factor)), max(1, round(photo.height * factor))


def _lay_out(
    photo: Image.Image, overlay: Image.Image, crisp: bool, scale: Scale, signed: bool, labels: tuple[str, str, str, str]
) -> Drawing:
    title, subtitle, caption, legend = (words.clean(label) for label in labels)
    width, height = _within(photo, PANEL)
    column = max(width, 320)
    right = MARGIN + column + _GAP
    sheet_width = right + column + MARGIN
    room = sheet_width - 2 * MARGIN
    marks: list[Mark] = []
    y = header(marks, title, subtitle, room)
    pixels = f"as sent, {photo.width} × {photo.height} pixels"
    small = _shown(photo)
    marks += [
        Text(MARGIN, y + 12, pixels, 12, MUTED),
        Text(right, y + 12, "with attribution", 12, MUTED),
        Raster(MARGIN, y + 20, width, height, small, max(photo.size) <= CRISP_UP_TO, pixels),
        Rect(MARGIN, y + 20, width, height, None, FAINT),
        Raster(right, y + 20, width, height, overlay, crisp, "the picture coloured by its attribution"),
        Rect(right, y + 20, width, height, None, FAINT),
    ]
    y = y + 20 + height + 18
    left_end = footer(marks, caption, y - 6, column)
    y = max(left_end, _legend(marks, right, y, column, scale, signed, legend))
    description = ". ".join(part for part in (subtitle, legend, scale.sentence, caption) if part)
    return Drawing(sheet_width, round(y + MARGIN - 6), marks, title, description)


def _shown(photo: Image.Image) -> Image.Image:
    return photo.resize(_within(photo, FINEST), Image.Resampling.LANCZOS) if max(photo.size) > FINEST else photo


def _legend(marks: list[Mark], x: float, y: float, width: float, scale: Scale, signed: bool, legend: str) -> float:
    ramp = np.linspace(-1.0 if signed else 0.0, 1.0, 256)[None, :]
    colours = Image.fromarray(np.round(colourise(ramp, 1.0, signed=signed)).astype(np.uint8))
    marks += [
        Raster(x, y, width, 12, colours, False, "colour scale"),
        Rect(x, y, width, 12, None, FAINT),
    ]
    limit = words.number(scale.limit)
    if signed:
        ends = (f"−{limit} lowers", "0", f"raises +{limit}")
        marks.append(Text(x + width / 2, y + 27, ends[1], 12, INK, "middle"))
    else:
        ends = ("0", "", limit)
    marks += [Text(x, y + 27, ends[0], 12, INK), Text(x + width, y + 27, ends[2], 12, INK, "end")]
    y += 46
    for line in [*words.wrap(legend, 12, width, 3), *words.wrap(scale.sentence, 12, width, 3)]:
        marks.append(Text(x, y, line, 12, MUTED))
        y += 16
    return y - 12
