"""What each feature of a row did: from the base value to the explained value (`waterfall`), or from zero (`bars`).

Read a waterfall as SHAP users do: the base value at the bottom, the largest contribution on top, each arrow beginning
where the one below ended. What the contributions leave unexplained is never hidden in a bar: it gets its own grey
arrow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from . import text as words
from .colours import LOWERS, NEUTRAL, RAISES
from .drawing import FAINT, INK, MUTED, PAPER, Anchor, Drawing, Line, Mark, Picture, Polygon, Rect, Text
from .errors import InvalidAttribution, InvalidRows
from .sheet import MARGIN, footer, header

Value: TypeAlias = str | float | int | None

WIDTH = 860
_LEFT, _RIGHT = 336, 836  # the plotting area; names stand to its left
_ROW = 30
_BAR = 20
_TIP = 6
_LABEL_ROOM = 64  # kept free beyond the outermost arrows for their numbers
_GAP_SHOWN = 1e-3  # share of the largest contribution from which the unexplained rest gets its own arrow


@dataclass(frozen=True)
class Row:
    """One arrow: its wording, its length in the unit explained, and whether it is the unexplained rest."""

    label: str
    hint: str
    amount: float
    rest: bool = False


def waterfall(
    names: Sequence[str],
    values: Sequence[Value],
    contributions: Sequence[float],
    base_value: float,
    explained_value: float,
    *,
    title: str,
    units: str,
    max_rows: int = 12,
    target_name: str = "",
    feature_units: Sequence[str | None] | None = None,
    subtitle: str = "",
    caption: str = "",
) -> Picture:
    """From `base_value` to `explained_value` (both in `units`: "logit", "probability", "mg/dl") over n `contributions`.

    `names`, `values` and `feature_units` describe the n features ("name = value unit"; a value of None leaves it
    out). Features are sorted by magnitude; beyond `max_rows` rows the smallest share one row, "other (k features)",
    holding their sum. Raises InvalidAttribution (NaN, infinite) and InvalidRows (lengths that differ, fewer than two
    rows).
    """
    rows = _rows(names, values, contributions, feature_units, max_rows)
    for field, value in (("base_value", base_value), ("explained_value", explained_value)):
        _finite(field, value)
    _finite("explained_value − base_value", explained_value - base_value)
    rest = explained_value - base_value - math.fsum(row.amount for row in rows)
    if abs(rest) > _GAP_SHOWN * max(abs(row.amount) for row in rows):
        rows.append(Row("not attributed", "explained value − base value − sum of contributions", rest, rest=True))
    starts, reached = [], base_value
    for row in reversed(rows):
        starts.append(reached)
        reached += row.amount
    starts.reverse()
    axis = f"{units} of {target_name}" if target_name and units else target_name or units
    ends = (base_value, explained_value)
    return Picture(_lay_out(rows, starts, ends, (title, subtitle, caption, axis)))


def bars(
    names: Sequence[str],
    values: Sequence[Value],
    contributions: Sequence[float],
    *,
    title: str,
    units: str,
    max_rows: int = 12,
    target_name: str = "",
    feature_units: Sequence[str | None] | None = None,
    subtitle: str = "",
    caption: str = "",
) -> Picture:
    """Signed bars from zero, for methods without a base value (saliency); `units` names what a bar measures.

    Arguments and errors as `waterfall`; the shared row holds the sum of its features.
    """
    rows = _rows(names, values, contributions, feature_units, max_rows)
    axis = f"{units} of {target_name}" if target_name and units else target_name or units
    return Picture(_lay_out(rows, [0.0] * len(rows), None, (title, subtitle, caption, axis)))


def _finite(field: str, value: float) -> None:
    if not math.isfinite(value):
        came = "NaN" if math.isnan(value) else "an infinite value"
        raise InvalidAttribution(f"{field}: {came} came, a finite number was expected")


def _rows(
    names: Sequence[str],
    values: Sequence[Value],
    contributions: Sequence[float],
    feature_units: Sequence[str | None] | None,
    max_rows: int,
) -> list[Row]:
    """Rows from the largest magnitude down; equal ones keep the order they came in."""
    units = feature_units if feature_units is not None else [None] * len(names)
    if not len(names) == len(values) == len(contributions) == len(units) or not len(names):
        counts = f"{len(names)} names, {len(values)} values, {len(contributions)} contributions, {len(units)} units"
        raise InvalidRows(f"rows: {counts} came, the same number of each (at least 1) was expected")
    if max_rows < 2:
        raise InvalidRows(f"max_rows: {max_rows} came, at least 2 was expected")
    amounts = [float(amount) for amount in contributions]
    for name, amount in zip(names, amounts, strict=True):
        _finite(f"contribution of {words.fit(words.clean(name), 13, 400)!r}", amount)
    _finite("sum of the contributions' magnitudes", sum(abs(amount) for amount in amounts) * 4)  # an axis must hold it
    order = sorted(range(len(amounts)), key=lambda index: -abs(amounts[index]))
    kept = order if len(order) <= max_rows else order[: max_rows - 1]
    rows = [Row(*_label(names[i], values[i], units[i]), amounts[i]) for i in kept]
    others = order[len(kept) :]
    if others:
        hint = ", ".join(words.clean(names[i]) for i in others[:40])
        rows.append(Row(f"other ({len(others)} features)", hint, math.fsum(amounts[i] for i in others)))
    return rows


def _label(name: str, value: Value, unit: str | None) -> tuple[str, str]:
    """ "name = value unit" in the room there is (the name gives way first), and in full."""
    name = words.clean(name)
    if value is None:
        return words.fit(name, 13, _LEFT - 40), name
    shown = words.clean(value) if isinstance(value, str) else words.number(float(value), 4)
    tail = f" = {shown} {words.clean(unit)}" if unit else f" = {shown}"
    short = words.fit(tail, 13, (_LEFT - 40) * 0.55)
    return words.fit(name, 13, _LEFT - 40 - words.width(short, 13)) + short, name + tail


def _lay_out(
    rows: list[Row], starts: list[float], ends: tuple[float, float] | None, labels: tuple[str, str, str, str]
) -> Drawing:
    title, subtitle, caption, axis = (words.clean(label) for label in labels)
    marks: list[Mark] = []
    top = header(marks, title, subtitle, WIDTH - 2 * MARGIN) + (30 if ends else 12)
    bottom = top + _ROW * len(rows) + 6
    scale = Axis.over(
        [*starts, *(start + row.amount for start, row in zip(starts, rows, strict=True)), *(ends or (0.0,))]
    )
    scale.draw(marks, top - 4, bottom, clear_of=scale.x(ends[0]) if ends else None)
    if ends:
        _draw_ends(marks, scale, ends, top, bottom)
    else:
        marks.append(Line(scale.x(0.0), top - 4, scale.x(0.0), bottom, MUTED))
    for index, (row, start) in enumerate(zip(rows, starts, strict=True)):
        y = top + _ROW * index
        if ends and index + 1 < len(rows):
            marks.append(Line(scale.x(start), y + 5 + _BAR, scale.x(start), y + _ROW + 5 + _BAR / 2, MUTED, 1, (2, 2)))
        _draw_row(marks, scale, row, start, y + 5)
    y = bottom + (56 if ends else 38)
    marks.append(Text(_RIGHT, y, axis, 12, INK, "end", hint=axis))
    _draw_key(marks, y, rows, ("raises", "lowers") if ends else ("positive", "negative"))
    y = footer(marks, caption, y + 8, WIDTH - 2 * MARGIN)
    spoken = "; ".join(f"{row.hint or row.label}: {words.signed(row.amount)}" for row in rows)
    summary = f"base value {words.number(ends[0])}, explained value {words.number(ends[1])}. " if ends else ""
    return Drawing(WIDTH, round(y + 20), marks, title, f"{axis}. {summary}{spoken}. {caption}")


def _colour(row: Row) -> str:
    return NEUTRAL if row.rest else RAISES if row.amount >= 0 else LOWERS


def _draw_row(marks: list[Mark], scale: Axis, row: Row, start: float, y: float) -> None:
    begin, end = scale.x(start), scale.x(start + row.amount)
    colour = _colour(row)
    length = abs(end - begin)
    tip = math.copysign(min(_TIP, length), end - begin)
    shaft = end - tip
    middle = y + _BAR / 2
    amount = words.signed(row.amount)
    points = ((begin, y), (shaft, y), (end, middle), (shaft, y + _BAR), (begin, y + _BAR))
    if length > 0:
        marks.append(Polygon(points, colour, f"{row.hint or row.label}: {amount}"))
    shortened = row.label if row.label != row.hint else ""
    marks.append(Text(_LEFT - 12, middle + 4.5, row.label, 13, INK, "end", hint=row.hint if shortened else ""))
    if words.width(amount, 12) + 16 <= length:
        marks.append(Text((begin + shaft) / 2, middle + 4.5, amount, 12, "#ffffff", "middle"))
        return
    side: Anchor = "start" if row.amount >= 0 else "end"
    room = words.width(amount, 12) + 4
    marks.append(Rect(end + 4 if row.amount >= 0 else end - 4 - room, y + 3, room, _BAR - 6, PAPER))
    marks.append(Text(end + (6 if row.amount >= 0 else -6), middle + 4.5, amount, 12, colour, side))


def _draw_ends(marks: list[Mark], scale: Axis, ends: tuple[float, float], top: float, bottom: float) -> None:
    for value, name, y in ((ends[1], "explained value", top - 12), (ends[0], "base value", bottom + 36)):
        x = scale.x(value)
        wording = f"{name} = {words.number(value, 4)}"
        half = words.width(wording, 13, bold=True) / 2
        marks.append(Line(x, top - 6, x, bottom + (22 if name == "base value" else 0), MUTED, 1, (4, 3)))
        centre = min(max(x, _LEFT + half), _RIGHT - half)
        marks.append(Text(centre, y, wording, 13, INK, "middle", bold=True))


def _draw_key(marks: list[Mark], y: float, rows: list[Row], signs: tuple[str, str]) -> None:
    x = float(MARGIN)
    wordings = {RAISES: signs[0], LOWERS: signs[1], NEUTRAL: "not attributed"}
    drawn = {_colour(row) for row in rows}
    for colour, wording in wordings.items():
        if colour not in drawn:
            continue
        marks += [Rect(x, y - 10, 12, 12, colour), Text(x + 18, y, wording, 12, MUTED)]
        x += 34 + words.width(wording, 12)


@dataclass(frozen=True)
class Axis:
    """A linear map from the explained unit to pixels."""

    low: float
    high: float

    @classmethod
    def over(cls, points: Sequence[float]) -> Axis:
        """The axis that holds all `points` with room for numbers on either side."""
        low, high = min(points), max(points)
        if not high - low > max(1e-12 * max(abs(high), abs(low)), 1e-300):  # nothing moves, or less than shows
            spread = abs(high) if abs(high) > 1e-300 else 1.0
            return cls(low - spread / 2, high + spread / 2)
        beyond = (high - low) * _LABEL_ROOM / (_RIGHT - _LEFT - 2 * _LABEL_ROOM)
        return cls(low - beyond, high + beyond)

    def x(self, value: float) -> float:
        """Where `value` stands, in CSS pixels."""
        return _LEFT + (value - self.low) / (self.high - self.low) * (_RIGHT - _LEFT)

    def ticks(self) -> list[float]:
        """Four to eight round numbers within the axis."""
        rough = (self.high - self.low) / 6
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [index * step for index in range(first, last + 1)]

    def draw(self, marks: list[Mark], top: float, bottom: float, clear_of: float | None) -> None:
        """Faint grid, the axis line and its numbers, but for those that the line at `clear_of` would cross."""
        ticks = self.ticks()
        step = (self.high - self.low) / 6
        digits = 2 + max(2, math.ceil(math.log10(max(abs(tick) for tick in ticks) / step + 1)))
        for tick in ticks:
            x = self.x(tick)
            marks.append(Line(x, top, x, bottom, FAINT))
            wording = words.number(tick, digits)
            if clear_of is None or abs(x - clear_of) > words.width(wording, 11.5) / 2 + 4:
                marks.append(Text(x, bottom + 17, wording, 11.5, MUTED, "middle"))
        marks.append(Line(_LEFT, bottom, _RIGHT, bottom, MUTED))
