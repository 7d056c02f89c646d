"""Superpixels keep what SLIC promises: connected pieces, about as many as asked, which follow edges of colour."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from explain.segments import resolve, slic
from explain.segments.components import absorb, connected, union
from tests.explain.graphs import numbers


def waves(height: int, width: int) -> np.ndarray:
    """A smooth picture [H, W, 3]."""
    y, x = np.mgrid[:height, :width]
    return np.stack([np.sin(y / 9) + np.cos(x / 14), np.sin((x + y) / 11), np.cos(y / 17 - x / 23)], axis=-1)


def two_colours(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A disc on another ground [H, W, 3], with a little noise, and where it is [H, W]."""
    y, x = np.mgrid[:height, :width]
    disc = (y - 0.45 * height) ** 2 + (x - 0.55 * width) ** 2 < (0.3 * height) ** 2
    colours = np.where(disc[..., None], [0.9, 0.2, 0.1], [0.1, 0.4, 0.8])
    return colours + 0.01 * numbers(height, width, 3, seed=3), disc


def pieces(labels: np.ndarray) -> int:
    """How many connected pieces the labels fall into, by scipy."""
    return sum(ndimage.label(labels == label)[1] for label in np.unique(labels))


def leakage(labels: np.ndarray, truth: np.ndarray) -> float:
    """The share of pixels on the wrong side of their segment's majority."""
    wrong = 0
    for label in np.unique(labels):
        inside = truth[labels == label]
        wrong += min(int(inside.sum()), int((~inside).sum()))
    return wrong / truth.size


def shared(labels: np.ndarray, others: np.ndarray) -> float:
    """The share of pixels that lie in the other segment which theirs has most of, whatever the numbers."""
    most = [np.bincount(others[labels == label]).max() for label in np.unique(labels)]
    return float(sum(most)) / labels.size


@pytest.mark.parametrize("count", [1, 2, 8, 40, 150])
@pytest.mark.parametrize("image", [waves(60, 90), numbers(60, 90, 3), numbers(60, 90, 1), np.ones((60, 90, 3))])
def test_every_segment_is_one_piece_and_there_are_about_as_many_as_asked(image: np.ndarray, count: int) -> None:
    labels = slic(image, count)
    found = labels.max() + 1
    assert np.array_equal(np.unique(labels), np.arange(found))
    assert pieces(labels) == found
    assert 0.6 * count - 1 <= found <= 1.6 * count + 2
    assert np.bincount(labels.reshape(-1)).min() >= labels.size / max(count, 2) / 5


def test_numbers_follow_the_first_pixels() -> None:
    labels = slic(waves(40, 50), 20)
    first = [int(np.flatnonzero(labels.reshape(-1) == label)[0]) for label in range(labels.max() + 1)]
    assert first == sorted(first)


def test_segments_follow_the_edge_between_two_colours() -> None:
    image, disc = two_colours(80, 100)
    found = leakage(slic(image, 60), disc)
    squares = resolve({"patches": {"count": 60}}, {"x": image[None]}, layout="HWC").index["x"][..., 0]
    assert found < 0.005
    assert leakage(squares, disc) > 0.03, "the measure must tell squares from segments"


def test_compactness_makes_segments_of_one_shape() -> None:
    image = waves(64, 64) + 0.5 * numbers(64, 64, 3)
    squares = resolve({"patches": {"count": 16}}, {"x": image[None]}, layout="HWC").index["x"][..., 0]
    assert pieces(slic(image, 16, 1e4)) == 16
    assert shared(slic(image, 16, 1e4), squares) > 0.9
    assert shared(slic(image, 16, 1.0), squares) < 0.7


def test_scale_and_offset_of_the_picture_do_not_matter() -> None:
    image = waves(48, 48)
    np.testing.assert_array_equal(slic(image, 20), slic(np.round(image, 12) * 64.0 - 128.0, 20))


def test_an_items_segments_do_not_depend_on_its_company_or_layout() -> None:
    batch = np.stack([waves(40, 50), two_colours(40, 50)[0], numbers(40, 50, 3)])
    together = resolve({"superpixels": {"count": 25, "layout": "HWC"}}, {"x": batch})
    assert together.per_item
    assert together.count == max(together.counts(3))
    for item, image in enumerate(batch):
        alone = resolve({"superpixels": {"count": 25, "layout": "HWC"}}, {"x": batch[item : item + 1]})
        np.testing.assert_array_equal(alone.index["x"][0], together.index["x"][item])
        np.testing.assert_array_equal(together.index["x"][item], np.repeat(slic(image, 25)[..., None], 3, axis=-1))
    first = resolve({"superpixels": {"count": 25}}, {"x": np.moveaxis(batch, -1, 1)})
    np.testing.assert_array_equal(np.moveaxis(first.index["x"], 1, -1), together.index["x"])


def test_connected_pieces_are_those_of_scipy() -> None:
    labels = np.random.default_rng(5).integers(0, 3, size=(30, 40))
    found = connected(labels)
    assert found.max() + 1 == pieces(labels)
    for piece in range(found.max() + 1):
        inside = found == piece
        assert len(np.unique(labels[inside])) == 1
        assert ndimage.label(inside)[1] == 1


def test_small_pieces_go_where_they_share_most_border() -> None:
    before = np.array([[0, 0, 0, 1, 1], [0, 2, 0, 1, 1], [0, 0, 3, 1, 1], [0, 0, 1, 1, 1]])
    after = np.array([[0, 0, 0, 1, 1], [0, 0, 0, 1, 1], [0, 0, 0, 1, 1], [0, 0, 1, 1, 1]])
    np.testing.assert_array_equal(absorb(before, 2), after)
    np.testing.assert_array_equal(absorb(before, 1), before)
    assert absorb(before, 100).max() == 0
    noise = connected(np.random.default_rng(6).integers(0, 4, size=(30, 40)))
    assert np.bincount(noise.reshape(-1)).min() < 12
    merged = absorb(noise, 12)
    assert np.bincount(merged.reshape(-1)).min() >= 12
    assert pieces(merged) == merged.max() + 1


def test_union_finds_the_smallest_member() -> None:
    assert union(6, np.array([4, 3, 5]), np.array([3, 1, 2])).tolist() == [0, 1, 2, 1, 1, 2]
    assert union(3, np.array([], dtype=int), np.array([], dtype=int)).tolist() == [0, 1, 2]
