"""What holds for every picture in both formats: valid, self-contained, inert, repeatable."""

import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

import pictures
from pictures.drawing import Drawing, Line, Picture, Polygon, Raster, Rect, Text

HOSTILE = [
    "<script>alert(1)</script>",
    '"><image href="http://evil.example/x.png"/>',
    "]]><!ENTITY x SYSTEM 'file:///etc/passwd'>&x;",
    "a\x00b\x1b[31mc\ud800d\ufffee",
    "\u202egnp.exe\u2066",
    "{{7*7}} ${x} `id`",
    "漢字 العربية 🏥 e\u0301",
    "",
    "   \n\t ",
    "x" * 100_000,
    "word " * 20_000,
]


def every_picture(text):
    image = Image.new("L", (8, 8), 120)
    values = np.linspace(-1, 1, 64).reshape(8, 8)
    yield pictures.heatmap(values, image, title=text, caption=text, legend=text, subtitle=text, signed=True)
    rows = ([text, "b"], [text, 2.0], [1.0, -0.5])
    labels = {"title": text, "units": text, "target_name": text, "subtitle": text, "caption": text}
    yield pictures.waterfall(*rows, 0.0, 0.5, feature_units=[text, text], **labels)
    yield pictures.bars(*rows, feature_units=[text, None], **labels)


def assert_inert(svg):
    """Well-formed XML of drawing elements only: no script, handler, style sheet, or address outside the file."""
    root = ElementTree.fromstring(svg)
    allowed = {"svg", "title", "desc", "rect", "line", "polygon", "text", "image"}
    for element in root.iter():
        assert element.tag.removeprefix("{http://www.w3.org/2000/svg}") in allowed, element.tag
        for name, value in element.attrib.items():
            assert not name.lower().startswith("on"), name
            assert name != "style"
            if name.endswith("href"):
                assert re.fullmatch(r"data:image/png;base64,[A-Za-z0-9+/=]+", value)
            else:
                assert "url(" not in value
                assert "//" not in value
    assert root.find("{http://www.w3.org/2000/svg}title") is not None
    assert root.find("{http://www.w3.org/2000/svg}desc") is not None


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_words_stay_words(text):
    for picture in every_picture(text):
        svg = picture.svg()
        assert_inert(svg)
        assert "\u202e" not in svg
        svg.encode("utf-8")
        assert len(svg) < 200_000
        sheet = Image.open(io.BytesIO(picture.png()))
        assert sheet.size == (picture.drawing.width * 2, picture.drawing.height * 2)


@pytest.mark.parametrize(
    "svg",
    [
        "<svg xmlns='http://www.w3.org/2000/svg'><title/><desc/><script/></svg>",
        "<svg xmlns='http://www.w3.org/2000/svg'><title/><desc/><image href='http://x/y.png'/></svg>",
        "<svg xmlns='http://www.w3.org/2000/svg' onload='x'><title/><desc/></svg>",
        "<svg xmlns='http://www.w3.org/2000/svg'><title/></svg>",
    ],
)
def test_the_check_for_inert_pictures_sees_what_is_not(svg):
    with pytest.raises(AssertionError):
        assert_inert(svg)


def test_words_are_kept_letter_by_letter_in_the_svg():
    words = 'a < b & "c"'
    picture = pictures.bars([words], ["v"], [1.0], title="t", units="u")
    root = ElementTree.fromstring(picture.svg())
    assert f"{words} = v" in [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]


def test_the_same_picture_has_the_same_bytes():
    for one, other in zip(every_picture("same"), every_picture("same"), strict=True):
        assert one.svg() == other.svg() == one.svg()
        assert one.png() == other.png() == one.png()


def test_the_picture_can_be_told_to_somebody_who_cannot_see_it():
    picture = pictures.waterfall(["age"], [67], [1.5], -0.5, 1.0, title="credit: bad", units="logit")
    root = ElementTree.fromstring(picture.svg())
    assert root.get("role") == "img"
    assert root.find("{http://www.w3.org/2000/svg}title").text == "credit: bad"
    description = root.find("{http://www.w3.org/2000/svg}desc").text
    for part in ("base value −0.5", "explained value 1", "age = 67: +1.50"):
        assert part in description


def sheet(*marks):
    """The PNG of a sheet of 40 × 40 with these marks, as an array [80, 80, 3]."""
    return np.asarray(Image.open(io.BytesIO(Picture(Drawing(40, 40, marks, "t", "d")).png())))


def test_each_mark_is_painted_where_it_is_said_to_be():
    ink = (sheet(Rect(10, 5, 20, 10, "#ff0000")) == (255, 0, 0)).all(axis=-1)
    assert ink.sum() == 40 * 20
    assert ink[10:30, 20:60].all()
    triangle = Polygon(((5, 5), (35, 5), (5, 35)), "#000000")
    darkness = (255 - sheet(triangle)[..., 0].astype(float)).sum() / 255
    assert abs(darkness - 30 * 30 / 2 * 4) < 40
    line = (sheet(Line(0, 20, 40, 20, "#000000", 1, (4, 4))) == 0).all(axis=-1)
    assert 0.4 < line.any(axis=0).mean() < 0.6
    raster = sheet(Raster(10, 10, 20, 20, Image.new("RGB", (1, 1), "#0000ff"), crisp=True))
    assert ((raster == (0, 0, 255)).all(axis=-1)).sum() == 40 * 40


def test_outlines_and_anchors():
    outlined = sheet(Rect(10, 10, 20, 20, None, "#000000"))
    assert outlined[40, 40].tolist() == [255, 255, 255]
    assert (outlined[40] == 0).all(axis=-1).sum() == 4
    spans = {}
    for anchor in ("start", "middle", "end"):
        columns = (sheet(Text(20, 30, "mm", 10, anchor=anchor)) < 128).all(axis=-1).any(axis=0).nonzero()[0]
        spans[anchor] = (columns.min(), columns.max())
    assert spans["start"][0] >= 40
    assert spans["end"][1] <= 40
    assert abs(sum(spans["middle"]) / 2 - 40) <= 2


def test_an_empty_rectangle_and_a_point_line_paint_nothing():
    blank = sheet()
    assert np.array_equal(sheet(Rect(10, 10, 0, 5, "#000000"), Line(3, 3, 3, 3, "#000000")), blank)
