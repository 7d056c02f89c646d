"""Waterfalls and bars: lengths are proportional to contributions, and nothing unexplained is hidden."""

import math
import random
from itertools import pairwise
from xml.etree import ElementTree

import pytest

import pictures

SVG = "{http://www.w3.org/2000/svg}"


def draw(contributions, base=0.0, explained=None, names=None, **more):
    n = len(contributions)
    names = names or [f"feature {i}" for i in range(n)]
    explained = base + math.fsum(contributions) if explained is None else explained
    return pictures.waterfall(
        names, list(range(n)), contributions, base, explained, **{"title": "t", "units": "logit", **more}
    )


def arrows(picture):
    """(hint, begin x, end x) of each arrow from the top down, read from the SVG alone."""
    found = []
    for element in ElementTree.fromstring(picture.svg()).iter(f"{SVG}polygon"):
        xs = [float(point.split(",")[0]) for point in element.get("points").split()]
        found.append((element.find(f"{SVG}title").text, xs[0], xs[2]))
    return found


def words(picture):
    """Every visible line of text of the SVG."""
    return [element.text or "" for element in ElementTree.fromstring(picture.svg()).iter(f"{SVG}text")]


def assert_proportional(lengths, amounts):
    """One factor maps every amount to its length (sign included), to the rounding of the file."""
    factor = sum(abs(x) for x in lengths) / sum(abs(a) for a in amounts)
    assert all(abs(x - factor * a) < 0.01 for x, a in zip(lengths, amounts, strict=True)), (lengths, amounts)


def test_arrows_are_proportional_sorted_and_chained():
    amounts = [0.5, -2.0, 1.25, -0.125]
    drawn = arrows(draw(amounts, base=3.0))
    assert_proportional([end - begin for _, begin, end in drawn], [-2.0, 1.25, 0.5, -0.125])
    for (_, begin, _), (_, _, end_below) in pairwise(drawn):
        assert abs(begin - end_below) < 0.002


def test_the_proportion_check_sees_a_wrong_length():
    with pytest.raises(AssertionError):
        assert_proportional([10.0, 21.0], [1.0, 2.0])


def test_the_lowest_arrow_begins_at_the_base_value_and_the_top_one_ends_at_the_explained_value():
    picture = draw([1.0, -3.0, 0.5], base=-0.524)
    marks = {}
    lines = [e for e in ElementTree.fromstring(picture.svg()).iter(f"{SVG}line") if e.get("stroke-dasharray") == "4 3"]
    marks["explained"], marks["base"] = (float(line.get("x1")) for line in lines)
    drawn = arrows(picture)
    assert abs(drawn[0][2] - marks["explained"]) < 0.002
    assert abs(drawn[-1][1] - marks["base"]) < 0.002
    assert "base value = −0.524" in words(picture)
    assert "explained value = −2.024" in words(picture)


def test_the_smallest_share_one_row_that_holds_their_sum():
    source = random.Random(7)
    amounts = [source.uniform(-1, 1) for _ in range(30)]
    drawn = arrows(draw(amounts, max_rows=6))
    assert len(drawn) == 6
    ranked = sorted(amounts, key=abs, reverse=True)
    assert_proportional([end - begin for _, begin, end in drawn], [*ranked[:5], math.fsum(ranked[5:])])
    assert "other (25 features)" in words(draw(amounts, max_rows=6))


def test_as_many_rows_as_allowed_need_no_shared_row():
    assert not any("other" in line for line in words(draw([1.0] * 12)))
    assert "other (2 features)" in words(draw([1.0] * 13))


def test_what_the_contributions_leave_out_gets_its_own_arrow():
    drawn = arrows(draw([1.0, 2.0], base=0.0, explained=4.0))
    assert_proportional([end - begin for _, begin, end in drawn], [2.0, 1.0, 1.0])
    assert "not attributed" in words(draw([1.0, 2.0], explained=4.0))
    assert "not attributed" not in words(draw([1.0, 2.0], explained=3.0 + 1e-5))


def test_a_label_says_name_value_and_unit():
    picture = pictures.waterfall(
        ["mean area", "purpose", "flag"], [1001.0, "car (new)", None], [1.0, 0.5, 0.2], 0.0, 1.7,
        title="tumour", units="logit", target_name="'malignant'", feature_units=["µm²", None, "x"],
    )  # fmt: skip
    shown = words(picture)
    assert "mean area = 1001 µm²" in shown
    assert "purpose = car (new)" in shown
    assert "flag" in shown
    assert "logit of 'malignant'" in shown
    assert {"+1.00", "+0.500", "+0.200"} <= set(shown)


def test_a_long_name_gives_way_to_the_value_and_is_kept_as_a_hint():
    name = "a feature whose name nobody could ever read on one single line of a picture"
    picture = pictures.waterfall([name], [12], [1.0], 0.0, 1.0, title="t", units="u", feature_units=["months"])
    label = next(line for line in words(picture) if line.endswith("= 12 months"))
    assert "…" in label
    assert f"<title>{name} = 12 months</title>" in picture.svg()


def test_bars_begin_at_zero():
    picture = pictures.bars(["a", "b"], [1, 2], [0.5, -1.0], title="t", units="gradient")
    (_, begin, end), (_, begin_too, end_too) = arrows(picture)
    assert begin == begin_too
    assert_proportional([end - begin, end_too - begin_too], [-1.0, 0.5])
    assert "base value" not in picture.svg()


@pytest.mark.parametrize(
    ("amounts", "base"),
    [([0.0, 0.0], 0.0), ([1e-320], 0.0), ([1e-9, -2e-9], 1e9), ([1e300, -1e300], 0.0), ([3e6, -2.0], 12.0)],
)
def test_extreme_numbers_are_drawn(amounts, base):
    picture = draw(amounts, base=base)
    assert picture.png()
    assert "nan" not in picture.svg()
    assert "inf" not in picture.svg()


@pytest.mark.parametrize(
    ("amounts", "base", "message"),
    [
        ([1.0, math.nan], 0.0, "contribution of 'feature 1': NaN came"),
        ([math.inf], 0.0, "contribution of 'feature 0': an infinite value came"),
        ([1.0], math.nan, "base_value: NaN came"),
        ([1.7e308, 1.7e308], 0.0, "magnitudes: an infinite value"),
    ],
)
def test_numbers_that_are_none_are_refused_by_name(amounts, base, message):
    with pytest.raises(pictures.InvalidAttribution, match=message):
        draw(amounts, base=base, explained=0.0)


def test_rows_that_do_not_fit_together_are_refused():
    with pytest.raises(pictures.InvalidRows, match="2 names, 1 values, 1 contributions"):
        pictures.bars(["a", "b"], [1], [1.0], title="t", units="u")
    with pytest.raises(pictures.InvalidRows, match="0 names"):
        pictures.bars([], [], [], title="t", units="u")
    with pytest.raises(pictures.InvalidRows, match="max_rows: 1 came"):
        draw([1.0, 2.0], max_rows=1)
