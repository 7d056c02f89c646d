"""Words in pictures: making hostile labels harmless, measuring, shortening and wrapping them.

Both back ends lay text out by the metrics of the one font that Pillow carries (Aileron), so a picture does not depend
on the fonts of the machine that draws it. That font knows little beyond ASCII: `drawable` writes the rest with what
it has.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Literal, TypeAlias

from PIL import ImageFont

LONGEST = 2000  # characters of one label that are looked at; a longer label is cut before it costs time
_BEYOND_ASCII = "©«°±´·»‘’“”…‹›⁄™"
_SPELLED = str.maketrans(
    {"–": "-", "—": "-", "‐": "-", "‑": "-", "×": "x", "µ": "u", "μ": "u", "≤": "<=", "≥": ">=", "≈": "~"}
    | {
        "→": "->",
        "←": "<-",
        "ß": "ss",
        "æ": "ae",
        "Æ": "AE",
        "ø": "o",
        "Ø": "O",
        "œ": "oe",
        "Œ": "OE",
        "ł": "l",
        "Ł": "L",
    }
)
MINUS = "−"
RAISED_SIZE = 0.65
Style: TypeAlias = Literal["plain", "raised", "minus"]
_RAISED = {"¹": "1", "²": "2", "³": "3"}
_BOLD_WIDENS = 1.04
_MEASURED = 2  # widths are measured as the PNG draws them: hinting makes a letter's width depend on its size


def clean(text: str) -> str:
    """`text` on one line, with everything XML forbids or that reorders its surroundings made visible as U+FFFD."""
    cut = text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    return " ".join("".join(_harmless(character) for character in cut).split())


def _harmless(character: str) -> str:
    if character.isspace():
        return " "
    category = unicodedata.category(character)
    is_noncharacter = ord(character) & 0xFFFE == 0xFFFE or 0xFDD0 <= ord(character) <= 0xFDEF
    return "\ufffd" if category in ("Cc", "Cf", "Cs", "Co") or is_noncharacter else character


def drawable(text: str) -> str:
    """`text` in the letters of the bundled font: accents dropped, symbols spelled, what is left shown as a box."""
    spelled = unicodedata.normalize("NFD", text.translate(_SPELLED))
    letters = (c for c in spelled if not unicodedata.combining(c))
    return "".join(c if _known(c) or c in _RAISED or c == MINUS else "□" for c in letters)


def pieces(text: str) -> list[tuple[str, Style]]:
    """`text` as runs: superscript digits go small and high, the minus sign is a stroke, for the font has neither."""
    runs: list[tuple[str, Style]] = []
    for character in drawable(text):
        style: Style = "raised" if character in _RAISED else "minus" if character == MINUS else "plain"
        letter = _RAISED.get(character, character)
        if runs and runs[-1][1] == style:
            runs[-1] = (runs[-1][0] + letter, style)
        else:
            runs.append((letter, style))
    return runs


def advance(run: str, style: Style, size: float) -> float:
    """How far a run of `pieces` moves the pen, in the pixels `size` is given in; a minus is as wide as a plus."""
    if style == "minus":
        return font(size).getlength("+" * len(run))
    return font(size * RAISED_SIZE if style == "raised" else size).getlength(run)


def _known(character: str) -> bool:
    return " " <= character <= "~" or character in _BEYOND_ASCII


def measurable(text: str) -> bool:
    """Whether the bundled font has every letter, so that its width says how wide any sans-serif would be."""
    return all(_known(character) or character in "−–²³¹×µ" for character in text)


@lru_cache(maxsize=64)
def font(size: float) -> ImageFont.FreeTypeFont:
    """The bundled font at `size` pixels."""
    found = ImageFont.load_default(size)
    if not isinstance(found, ImageFont.FreeTypeFont):  # a Pillow built without FreeType has only a bitmap font
        raise ImportError("pictures need a Pillow built with FreeType")
    return found


def width(text: str, size: float, *, bold: bool = False) -> float:
    """Width of `text` in pixels."""
    plain = sum(advance(run, style, size * _MEASURED) for run, style in pieces(text))
    return plain / _MEASURED * (_BOLD_WIDENS if bold else 1.0)


def fit(text: str, size: float, room: float, *, bold: bool = False) -> str:
    """`text`, or its longest beginning followed by an ellipsis that is at most `room` pixels wide."""
    if width(text, size, bold=bold) <= room:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if width(text[:middle].rstrip() + "…", size, bold=bold) <= room:
            low = middle
        else:
            high = middle - 1
    return text[:low].rstrip() + "…"


def wrap(text: str, size: float, room: float, most: int = 4) -> list[str]:
    """`text` broken between words into at most `most` lines of `room` pixels; what does not fit ends in an ellipsis."""
    lines: list[str] = []
    current = ""
    words = text.split()
    for position, word in enumerate(words):
        longer = f"{current} {word}".strip()
        if not current or width(longer, size) <= room:
            current = longer
            continue
        if len(lines) == most - 1:
            current = " ".join([current, *words[position:]])
            break
        lines.append(fit(current, size, room))
        current = word
    return [*lines, fit(current, size, room)] if current else lines


def number(value: float, digits: int = 3) -> str:
    """`value` to `digits` significant digits with a true minus sign: 0.0123, −4.57, 1234, 1.2e−7."""
    if value == 0:
        return "0"
    small_or_large = not 1e-4 <= abs(value) < 10**6
    plain = f"{value:.{digits - 1}e}" if small_or_large else f"{value:.{digits}g}"
    if not small_or_large and "e" in plain:
        plain = f"{value:.0f}"
    if "e" in plain:
        mantissa, exponent = plain.split("e")
        plain = f"{_trim(mantissa)}e{int(exponent)}"
    return plain.replace("-", MINUS)


def _trim(digits: str) -> str:
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


def signed(value: float, digits: int = 3) -> str:
    """`number` with a plus sign before what is positive, keeping the zeros that say how exact it is: +0.450."""
    shown = number(value, digits)
    if 1e-4 <= abs(value) < 10**6:
        shown = f"{value:#.{digits}g}".rstrip(".").replace("-", MINUS) if "e" not in f"{value:.{digits}g}" else shown
    return ("+" if value > 0 else "") + shown
