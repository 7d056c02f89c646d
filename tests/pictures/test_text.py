"""Words in pictures: cleaned, measured, shortened, wrapped; numbers as people write them."""

import math
import random
import unicodedata

import pytest

from pictures import text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0"), (-0.0, "0"), (1.0, "1"), (-4.5678, "−4.57"), (0.012345, "0.0123"), (1234.5, "1234"),
        (999999.0, "999999"),
        (1e6, "1e6"), (1.25e-7, "1.25e−7"), (-1.2e-5, "−1.2e−5"), (math.nan, "nan"), (-math.inf, "−inf"),
    ],
)  # fmt: skip
def test_numbers(value, shown):
    assert text.number(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.45, "+0.450"), (-0.45, "−0.450"), (153.0, "+153"), (1234.0, "+1234"), (0.0, "0"), (2e-9, "+2e−9")],
)
def test_signed_numbers(value, shown):
    assert text.signed(value) == shown


def test_numbers_say_the_value_to_their_last_digit():
    source = random.Random(3)
    for _ in range(500):
        value = source.choice([-1, 1]) * 10 ** source.uniform(-12, 12)
        for shown in (text.number(value), text.signed(value)):
            assert abs(float(shown.replace("−", "-")) - value) <= 0.00501 * abs(value)


def test_cleaning_leaves_what_xml_allows_and_nothing_that_reorders():
    for code in [*range(0x300), *range(0x2000, 0x2070), 0xD800, 0xFFFE, 0xFFFF, 0xFDD0, 0x1FFFF, 0xE000, 0x110000 - 1]:
        cleaned = text.clean(f"a{chr(code)}b")
        assert cleaned.startswith("a")
        assert cleaned.endswith("b")
        assert all(unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co") for c in cleaned), hex(code)
        assert not any(ord(c) & 0xFFFE == 0xFFFE or 0xFDD0 <= ord(c) <= 0xFDEF for c in cleaned), hex(code)


def test_cleaning_keeps_other_languages():
    assert text.clean("Größe  漢字\nالعربية") == "Größe 漢字 العربية"


def test_what_the_font_lacks_is_spelled_or_boxed():
    assert text.drawable("Größe in µm → ≤5") == "Grosse in um -> <=5"
    assert text.drawable("漢") == "□"
    assert text.pieces("−5 mm²") == [("−", "minus"), ("5 mm", "plain"), ("2", "raised")]


def test_widths_add_up_as_letters_do():
    assert text.width("", 13) == 0
    assert text.width("iii", 13) < text.width("mmm", 13)
    assert text.width("−", 13) == text.width("+", 13)
    assert text.width("m²", 13) < text.width("m2", 13)
    assert text.width("m", 13, bold=True) > text.width("m", 13)


def test_fitting_takes_the_longest_beginning():
    for words in ("a short one", "x" * 300, "iiii mmmm " * 30):
        shown = text.fit(words, 13, 120)
        assert text.width(shown, 13) <= 120
        if shown != words:
            kept = len(shown) - 1
            longer = [words[:n].rstrip() + "…" for n in range(kept + 2, len(words))]
            assert all(text.width(line, 13) > 120 for line in longer[:5])


def test_wrapping_keeps_every_word_that_fits_and_marks_the_cut():
    words = "the quick brown fox jumps over the lazy dog " * 3
    lines = text.wrap(words, 12, 200, 10)
    assert " ".join(lines).split() == words.split()
    assert all(text.width(line, 12) <= 200 for line in lines)
    cut = text.wrap(words, 12, 200, 2)
    assert len(cut) == 2
    assert cut[-1].endswith("…")
    assert text.wrap("", 12, 100) == []
    assert text.wrap("x" * 500, 12, 100)[0].endswith("…")
