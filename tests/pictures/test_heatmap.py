"""Heatmaps: each cell has the colour its value and its pixel ask for, over the picture that was sent."""

import base64
import io
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

import pictures
from pictures.colours import DIVERGING, rgb
from pictures.drawing import Raster, Text
from pictures.heatmap import FADED, FINEST, PANEL, robust_scale

SVG = "{http://www.w3.org/2000/svg}"
WORDS = {"title": "digits: 3", "caption": "completeness gap 1e-7", "legend": "attribution to the logit of '3'"}


def draw(attribution, original, *, signed=True, **more):
    return pictures.heatmap(attribution, original, signed=signed, **{**WORDS, **more})


def grey(rows):
    return Image.fromarray(np.array(rows, dtype=np.uint8))


def rasters(picture):
    """The pictures inside an SVG, in order: the original, the overlay, the colour scale."""
    found = []
    for element in ElementTree.fromstring(picture.svg()).iter(f"{SVG}image"):
        head, data = element.get("href").split(",", 1)
        assert head == "data:image/png;base64"
        found.append((element, Image.open(io.BytesIO(base64.b64decode(data)))))
    return found


def said(picture):
    """All words of a picture in one string."""
    return " ".join(mark.text for mark in picture.drawing.marks if isinstance(mark, Text))


def expected_colour(value, limit, lightness):
    """The same arithmetic by hand: walk the anchors, mix two of them, dim by the faded grey of the pixel."""
    place = (min(max(value / limit, -1.0), 1.0) + 1.0) / 2.0 * (len(DIVERGING) - 1)
    left = min(int(place), len(DIVERGING) - 2)
    share = place - left
    low, high = rgb(DIVERGING[left]), rgb(DIVERGING[left + 1])
    dim = FADED + (1 - FADED) * lightness / 255
    return tuple(round(((1 - share) * a + share * b) * dim) for a, b in zip(low, high, strict=True))


def assert_colour(came, expected, tolerance=1):
    assert max(abs(int(a) - int(b)) for a, b in zip(came, expected, strict=True)) <= tolerance, (came, expected)


def test_every_cell_of_a_small_picture_has_its_own_colour():
    pixels = np.array([[0, 255], [128, 64]])
    values = np.array([[1.0, -1.0], [0.5, 0.0]])
    (_, original), (_, overlay), _ = rasters(draw(values, grey(pixels), clip=100.0))
    assert np.array_equal(np.asarray(original)[..., 0], pixels)
    for row in range(2):
        for column in range(2):
            came = overlay.getpixel((column, row))
            assert_colour(came, expected_colour(values[row, column], 1.0, pixels[row, column]))


def test_the_png_shows_the_same_colour_at_the_middle_of_the_cell():
    pixels, values = np.full((8, 8), 200), np.zeros((8, 8))
    values[2, 5], values[6, 1] = 2.0, -1.0
    picture = draw(values, grey(pixels), clip=100.0)
    sheet = Image.open(io.BytesIO(picture.png()))
    overlay = next(m for m in picture.drawing.marks if isinstance(m, Raster) and "coloured" in m.hint)
    for row, column in ((2, 5), (6, 1), (0, 0)):
        x = (overlay.x + overlay.width * (column + 0.5) / 8) * 2
        y = (overlay.y + overlay.height * (row + 0.5) / 8) * 2
        assert_colour(sheet.getpixel((int(x), int(y))), expected_colour(values[row, column], 2.0, 200))


def test_the_colour_check_sees_a_wrong_colour():
    with pytest.raises(AssertionError):
        assert_colour((10, 20, 30), expected_colour(1.0, 1.0, 255))


def test_red_raises_and_blue_lowers():
    _, (_, overlay), _ = rasters(draw(np.array([[1.0, -1.0]]), grey([[255, 255]])))
    (red, _, blue), (red_too, _, blue_too) = overlay.getpixel((0, 0)), overlay.getpixel((1, 0))
    assert red > blue
    assert blue_too > red_too


def test_signed_channels_are_summed_and_unsigned_ones_take_their_largest_magnitude():
    channels = np.array([[[1.0, 2.0]], [[-1.0, 1.0]]])
    original = grey([[255, 255]])
    assert draw(channels, original).svg() == draw(channels.sum(axis=0), original).svg()
    assert draw(channels, original, signed=False).svg() == draw([[1.0, 2.0]], original, signed=False).svg()


def test_a_small_picture_is_enlarged_with_sharp_pixels():
    picture = draw(np.eye(8), grey(np.zeros((8, 8))))
    (element, image), *_ = rasters(picture)
    assert image.size == (8, 8)
    assert float(element.get("width")) == PANEL >= 400
    assert element.get("image-rendering") == "pixelated"


def test_a_photograph_keeps_its_own_shape_and_resolution():
    photo = Image.new("RGB", (600, 300), (200, 30, 30))
    (element, original), (_, overlay), _ = rasters(draw(np.ones((4, 4)), photo, signed=False))
    assert original.size == overlay.size == (600, 300)
    assert float(element.get("width")) == 2 * float(element.get("height")) == PANEL


def test_a_huge_photograph_is_brought_down_to_what_can_be_shown():
    (_, original), (_, overlay), _ = rasters(draw(np.ones((4, 4)), Image.new("RGB", (3000, 1500)), signed=False))
    assert original.size == overlay.size == (FINEST, FINEST // 2)


def test_a_coarse_map_is_smooth_and_pixel_values_are_not():
    coarse = np.array([[0.0, 1.0], [0.0, 1.0]])
    original = Image.new("L", (200, 200), 255)
    smooth = np.asarray(rasters(draw(coarse, original, signed=False))[1][1])[50, :, 1]
    blocks = np.asarray(rasters(draw(coarse, original, signed=True))[1][1])[50, :, 1]
    assert len(set(smooth.tolist())) > 20
    assert len(set(blocks.tolist())) == 2
    honest = np.asarray(rasters(draw(coarse, original, signed=False, smooth=False))[1][1])[50, :, 1]
    assert len(set(honest.tolist())) == 2


def test_cells_that_do_not_divide_the_picture_still_cover_all_of_it():
    values = np.zeros((3, 3))
    values[:, 2] = 1.0
    overlay = rasters(draw(values, Image.new("L", (10, 10), 255)))[1][1]
    row = np.asarray(overlay)[overlay.height // 2, :, 1]
    assert 0.64 < np.argmax(row < 200) / overlay.width < 0.69


def test_an_attribution_finer_than_the_picture_is_shown_whole():
    values = np.zeros((32, 32))
    values[5, 7] = 1.0
    overlay = rasters(draw(values, Image.new("L", (8, 8), 255)))[1][1]
    assert overlay.getpixel((7 * overlay.width // 32 + 1, 5 * overlay.height // 32 + 1)) == rgb(DIVERGING[-1])


def test_one_outlier_does_not_pale_the_rest_and_the_legend_says_so():
    values = np.ones((20, 20))
    values[0, 0] = 1000.0
    scale = robust_scale(values, 99.0, signed=True)
    assert scale.limit == sorted(values.ravel())[-5] == 1.0
    picture = draw(values, Image.new("L", (20, 20), 255))
    assert "99th percentile" in said(picture)
    assert "1 of 400 cells lies beyond, up to 1000" in said(picture)


def test_a_sparse_attribution_is_scaled_by_its_largest_value():
    values = np.zeros((20, 20))
    values[3, 3] = -4.0
    assert robust_scale(values, 99.0, signed=True).limit == 4.0


def test_nothing_attributed_is_said():
    assert "every attribution is zero" in said(draw(np.zeros((4, 4)), Image.new("L", (4, 4))))


def test_transparency_lies_on_white_and_deep_pictures_are_stretched():
    clear = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    assert rasters(draw([[0.0, 1.0]], clear))[0][1].getpixel((0, 0)) == (255, 255, 255)
    deep = Image.fromarray(np.array([[1000, 3000]], dtype=np.uint16))
    shown = rasters(draw([[0.0, 1.0]], deep))[0][1]
    assert [shown.getpixel((x, 0))[0] for x in (0, 1)] == [0, 255]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "I", "F"])
def test_every_mode_of_picture_can_be_drawn_over(mode):
    assert draw(np.eye(4), Image.new("L", (4, 4), 7).convert("RGB" if mode in ("HSV", "LAB") else "L")).png()
    made = Image.new(mode, (4, 4))
    assert draw(np.eye(4), made).png()


def test_one_pixel_and_a_very_long_strip_can_be_drawn():
    assert draw([[1.0]], Image.new("L", (1, 1))).png()
    assert draw([[1.0, 2.0]], Image.new("L", (2000, 1))).png()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[0.0, np.nan]], r"attribution\[0, 1\]: NaN came"),
        ([[np.inf, 0.0]], r"attribution\[0, 0\]: an infinite value came"),
        (np.zeros(3), r"shape \[3\] came, \[h, w\] or \[c, h, w\] was expected"),
        (np.zeros((0, 3)), r"shape \[0, 3\]"),
        ([["a", "b"]], "expected real numbers"),
        (np.full((2, 1, 1), 1.7e308), "overflows"),
    ],
)
def test_what_cannot_be_drawn_is_refused_by_name(values, message):
    with pytest.raises(pictures.InvalidAttribution, match=message):
        draw(values, Image.new("L", (2, 2)))


def test_what_cannot_be_drawn_over_is_refused_by_name():
    with pytest.raises(pictures.InvalidOriginal, match="ndarray came"):
        draw([[1.0]], np.zeros((2, 2)))
    with pytest.raises(pictures.InvalidOriginal, match="0 × 3 pixels"):
        draw([[1.0]], Image.new("L", (0, 3)))
