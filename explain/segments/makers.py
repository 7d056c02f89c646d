"""Groups of one input: channels, positions, windows, patches, superpixels, tokens, words.

A maker takes the label of its errors, the array [N, item...] and its checked options and gives a `Part`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import InvalidParameter
from ..layout import ANY, IMAGE, SERIES, Layout, read_layout
from .base import Part, numbered
from .slic import grid, slic

Options = dict[str, Any]


def channels(label: str, array: np.ndarray, options: Options) -> Part:
    """One group for each index along the channel axis, or along another `axis` of the item."""
    shape = array.shape[1:]
    if options["axis"] is None:
        axis = read_layout(label, shape, options["layout"], needs="C").axes.index("C")
    else:
        axis = _axis(label, options["axis"], shape)
    numbers = np.arange(shape[axis], dtype=np.int64).reshape([-1 if a == axis else 1 for a in range(len(shape))])
    return Part(np.broadcast_to(numbers, shape), shape[axis], numbered("channel", shape[axis]))


def _axis(label: str, axis: int, shape: tuple[int, ...]) -> int:
    if not 0 <= axis < len(shape):
        raise InvalidParameter(f"{label}: came axis {axis}, expected an axis of items {list(shape)}, 0 the first")
    return axis


def positions(label: str, array: np.ndarray, options: Options) -> Part:
    """One group for each pixel, time step or token, all its channels together."""
    layout = read_layout(label, array.shape[1:], options["layout"], ANY)
    sizes = [layout.shape[axis] for axis in layout.space]
    words = {"D": "slice", "H": "row", "W": "column", "T": "step"}
    letters = [words[layout.axes[axis]] for axis in layout.space]
    names = tuple(
        ", ".join(f"{word} {at}" for word, at in zip(letters, place, strict=True)) for place in np.ndindex(*sizes)
    )
    return Part(layout.places(), len(names), names, axes=layout.axes)


def windows(label: str, array: np.ndarray, options: Options) -> Part:
    """Stretches of time: all of `size` steps (the last may be shorter), or `count` of them, as even as can be."""
    shape = array.shape[1:]
    if options["axis"] is None:
        layout = read_layout(label, shape, options["layout"], SERIES, needs="T")
    else:
        time = _axis(label, options["axis"], shape)
        others = iter("CDHW")
        layout = Layout("".join("T" if axis == time else next(others) for axis in range(len(shape))), shape)
    bins, spans = _cuts(label, "T", layout, options)
    index = np.broadcast_to(layout.along("T", bins), shape)
    names = tuple(f"steps {low}-{high}" for low, high in spans)
    return Part(index, len(names), names, axes=layout.axes)


def _cuts(label: str, letter: str, layout: Layout, options: Options) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """The window of each step, and the first and last step of each window."""
    length, size, count = layout.size(letter), options["size"], options["count"]
    if (size is None) == (count is None):
        raise InvalidParameter(f"{label}: expected either size or count")
    if (size or count) > length:
        raise InvalidParameter(f"{label}: came {size or count}, but there are only {length} steps")
    steps = np.arange(length, dtype=np.int64)
    bins = steps // size if size else steps * count // length
    starts = np.flatnonzero(np.diff(bins, prepend=-1))
    return bins, [(int(a), int(b) - 1) for a, b in zip(starts, [*starts[1:], length], strict=True)]


def patches(label: str, array: np.ndarray, options: Options) -> Part:
    """Rectangles of an image, all channels together: of `size` (one number or [rows, columns]), or about `count`.

    With a size that does not divide the image, those at the right and at the bottom are smaller.
    """
    layout = read_layout(label, array.shape[1:], options["layout"], IMAGE, needs="HW")
    height, width = layout.size("H"), layout.size("W")
    rows, columns = np.arange(height, dtype=np.int64), np.arange(width, dtype=np.int64)
    size, count = options["size"], options["count"]
    if (size is None) == (count is None):
        raise InvalidParameter(f"{label}: expected either size or count")
    if count is not None:
        down, across = grid(height, width, _at_most(label, count, height * width))
        rows, columns = rows * down // height, columns * across // width
    else:
        high, wide = (size, size) if isinstance(size, int) else size
        if high > height or wide > width:
            raise InvalidParameter(f"{label}: came size {[high, wide]}, but the image has {[height, width]} pixels")
        rows, columns = rows // high, columns // wide
    down, across = int(rows[-1]) + 1, int(columns[-1]) + 1
    index = layout.along("H", rows) * across + layout.along("W", columns)
    names = tuple(f"patch {row},{column}" for row in range(down) for column in range(across))
    return Part(np.broadcast_to(index, layout.shape), down * across, names, axes=layout.axes)


def _at_most(label: str, count: int, most: int) -> int:
    if count > most:
        raise InvalidParameter(f"{label}: came count {count}, but the image has only {most} pixels")
    return count


def superpixels(label: str, array: np.ndarray, options: Options) -> Part:
    """Connected pieces of each image that are alike in colour (SLIC), about `count` of them; per item."""
    layout = read_layout(label, array.shape[1:], options["layout"], IMAGE, needs="HW")
    count = _at_most(label, options["count"], layout.size("H") * layout.size("W"))
    if not np.isfinite(array).all():
        raise InvalidParameter(f"{label}: the image holds NaN or infinity, which no segment is like")
    flat = [axis for letter in "HWC" for axis, has in enumerate(layout.axes) if has == letter]
    index = np.empty(array.shape, dtype=np.int64)
    for item, image in enumerate(array):
        pixels = image.transpose(flat).reshape(layout.size("H"), layout.size("W"), -1)
        labels = slic(pixels.astype(np.float64), count, options["compactness"])
        index[item] = labels.reshape(-1)[_rows_first(layout)]
    found = int(index.max()) + 1
    return Part(index, found, numbered("segment", found), per_item=True, axes=layout.axes)


def _rows_first(layout: Layout) -> np.ndarray:
    """The pixel of each element, counted along the rows whatever the layout, [item...]."""
    rows, columns = (np.arange(layout.size(letter)) for letter in "HW")
    pixels = layout.along("H", rows) * layout.size("W") + layout.along("W", columns)
    return np.broadcast_to(pixels, layout.shape)


def tokens(label: str, array: np.ndarray, options: Options) -> Part:
    """One group for each token; ids to `keep` (special tokens, padding) are never masked, which differs per item."""
    _tokens_only(label, array)
    steps = array.shape[1]
    if not options["keep"]:
        return Part(np.arange(steps, dtype=np.int64), steps, numbered("token", steps), axes="T")
    free = ~np.isin(array, options["keep"])
    return _per_item(np.where(free, np.cumsum(free, axis=1) - 1, -1), "token")


def words(label: str, array: np.ndarray, options: Options) -> Part:
    """One group for each word: `of` says which word a token belongs to, [T] or [N, T]; -1 is never masked."""
    _tokens_only(label, array)
    given = _whole_numbers(options["of"])
    if given is None or given.shape not in (array.shape, array.shape[1:]) or given.min() < -1:
        raise InvalidParameter(
            f"{label}: of: expected the number of each token's word, shape {list(array.shape)}, -1 for none"
        )
    index = np.empty(array.shape, dtype=np.int64)
    for item, row in enumerate(np.broadcast_to(given, array.shape)):
        used = np.unique(row[row >= 0])
        index[item] = np.where(row >= 0, np.searchsorted(used, row), -1)
    return _per_item(index, "word")


def _tokens_only(label: str, array: np.ndarray) -> None:
    if array.ndim != 2 or array.dtype.kind not in "iu":
        raise InvalidParameter(f"{label}: came {array.dtype} {list(array.shape)}, expected whole numbers [N, T]")


def _whole_numbers(value: Any) -> np.ndarray | None:
    try:
        array = np.asarray(value)
    except ValueError:
        return None
    return array if array.dtype.kind in "iu" and array.size else None


def _per_item(index: np.ndarray, word: str) -> Part:
    count = int(index.max(initial=-1)) + 1
    return Part(index.astype(np.int64), count, numbered(word, count), per_item=True, axes="T")
