"""The colour scales: honest order, equal steps, readable with colour-vision deficiencies."""

import numpy as np
import pytest

from pictures.colours import DIVERGING, LOWERS, RAISES, SEQUENTIAL, colourise, rgb

# Viénot, Brettel, Mollon 1999: linear RGB as a dichromat sees it.
PROTAN = np.array([[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]])
DEUTAN = np.array([[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]])


def lab(colour, seen_by=None):
    """CIELAB (D65) of an sRGB colour 0..255."""
    srgb = np.asarray(colour, dtype=float) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    if seen_by is not None:
        linear = np.clip(seen_by @ linear, 0, 1)
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    ratio = matrix @ linear / np.array([0.95047, 1.0, 1.08883])
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def assert_even(lightness, tolerance):
    steps = -np.diff(lightness)
    assert steps.min() > 0
    assert abs(steps - steps.mean()).max() < tolerance


def test_the_unsigned_scale_darkens_in_equal_steps():
    assert_even(np.array([lab(rgb(colour))[0] for colour in SEQUENTIAL]), 1.0)


def test_the_check_for_equal_steps_sees_unequal_ones():
    with pytest.raises(AssertionError):
        assert_even(np.array([90.0, 80.0, 50.0]), 1.0)


def test_the_signed_scale_is_lightest_at_zero_and_balanced():
    lightness = [lab(rgb(colour))[0] for colour in DIVERGING]
    assert int(np.argmax(lightness)) == len(DIVERGING) // 2
    assert np.all(np.diff(lightness[:5]) > 0)
    assert np.all(np.diff(lightness[4:]) < 0)
    assert max(abs(a - b) for a, b in zip(lightness, lightness[::-1], strict=True)) < 10


@pytest.mark.parametrize("seen_by", [None, PROTAN, DEUTAN], ids=["usual", "protan", "deutan"])
def test_red_and_blue_are_told_apart_by_everybody(seen_by):
    assert np.linalg.norm(lab(rgb(RAISES), seen_by) - lab(rgb(LOWERS), seen_by)) > 40


def test_values_beyond_the_scale_take_its_end():
    came = colourise(np.array([-5.0, -1.0, 0.0, 1.0, 9.0]), 1.0, signed=True)
    expected = [rgb(DIVERGING[i]) for i in (0, 0, 4, 8, 8)]
    assert np.allclose(came, expected)
    assert np.allclose(colourise(np.array([0.0, 2.0, 3.0]), 2.0, signed=False), [rgb(SEQUENTIAL[i]) for i in (0, 8, 8)])
