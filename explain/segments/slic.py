"""SLIC superpixels (Achanta et al. 2012, doi:10.1109/TPAMI.2012.120): k-means over colour and place on a grid.

A pixel is compared with the clusters of its own grid cell and the eight around it, which stands for the paper's window
of twice the grid's step. Nothing is drawn at random.
"""

from __future__ import annotations

import numpy as np

from .components import absorb, connected

ROUNDS = 10
# Linear sRGB to CIE XYZ over the D65 white point (IEC 61966-2-1).
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
WHITE = XYZ.sum(axis=1)


def slic(image: np.ndarray, count: int, compactness: float = 10.0) -> np.ndarray:
    """Labels int64 [H, W] of about `count` connected pieces of an image [H, W, C] float64, numbered row by row.

    Colour is CIELAB for three channels (taken for RGB, whatever their scale), so that `compactness` means what it does
    in the paper: how much place counts beside colour. Pieces of less than a quarter of their share are absorbed.
    """
    height, width, _ = image.shape
    rows, columns = grid(height, width, count)
    step = np.sqrt(height * width / (rows * columns))
    colour = _colour(image)
    places = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij"), axis=-1) * (compactness / step)
    features = np.concatenate([colour, places], axis=-1).reshape(height * width, -1)
    near = _candidates(height, width, rows, columns)
    centres = features[_seeds(colour, rows, columns)]
    labels = np.zeros(height * width, dtype=np.int64)
    for _ in range(ROUNDS):
        labels = _nearest(features, centres, near)
        centres = _means(features, labels, centres)
    return absorb(connected(labels.reshape(height, width)), height * width / (rows * columns) / 4)


def grid(height: int, width: int, count: int) -> tuple[int, int]:
    """Rows and columns of about `count` cells, as square as can be."""
    down = min(height, max(1, round(np.sqrt(count * height / width))))
    across = min(width, max(1, round(count / down)))
    return min(height, max(1, round(count / across))), across


def _colour(image: np.ndarray) -> np.ndarray:
    """CIELAB of an RGB image stretched to its own range; other images are scaled to distances of the same size."""
    low, high = image.min(), image.max()
    stretched = (image - low) / (high - low if high > low else 1.0)
    if image.shape[2] != 3:
        return np.asarray(100.0 * stretched / np.sqrt(image.shape[2]))
    linear = np.where(stretched <= 0.04045, stretched / 12.92, ((stretched + 0.055) / 1.055) ** 2.4)
    ratio = linear @ (XYZ / WHITE[:, None]).T
    root = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(root, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def _seeds(colour: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """The pixel [K] where each cluster begins: of the 3 x 3 in the middle of its cell, where colour changes least."""
    height, width, _ = colour.shape
    framed = np.pad(colour, ((1, 1), (1, 1), (0, 0)), mode="edge")
    change = ((framed[2:, 1:-1] - framed[:-2, 1:-1]) ** 2 + (framed[1:-1, 2:] - framed[1:-1, :-2]) ** 2).sum(axis=-1)
    middle_y = (2 * np.arange(rows) + 1) * height // (2 * rows)
    middle_x = (2 * np.arange(columns) + 1) * width // (2 * columns)
    shifts = np.array([(0, 0), (-1, 0), (0, -1), (0, 1), (1, 0), (-1, -1), (-1, 1), (1, -1), (1, 1)])
    y = np.clip(np.repeat(middle_y, columns) + shifts[:, :1], 0, height - 1)
    x = np.clip(np.tile(middle_x, rows) + shifts[:, 1:], 0, width - 1)
    best = change[y, x].argmin(axis=0)
    cluster = np.arange(rows * columns)
    return np.asarray((y * width + x)[best, cluster])


def _candidates(height: int, width: int, rows: int, columns: int) -> np.ndarray:
    """The clusters [9, H * W] that a pixel is compared with."""
    y, x = np.arange(height) * rows // height, np.arange(width) * columns // width
    near = [
        np.clip(y + dy, 0, rows - 1)[:, None] * columns + np.clip(x + dx, 0, columns - 1)
        for dy in (-1, 0, 1)
        for dx in (-1, 0, 1)
    ]
    return np.stack(near).reshape(9, -1)


def _nearest(features: np.ndarray, centres: np.ndarray, near: np.ndarray) -> np.ndarray:
    """The nearest of its candidates for each pixel [H * W]."""
    labels: np.ndarray = near[0]
    least = np.full(len(features), np.inf)
    for candidates in near:
        gap = features - centres[candidates]
        distance = np.einsum("pf,pf->p", gap, gap)
        closer = distance < least
        labels, least = np.where(closer, candidates, labels), np.where(closer, distance, least)
    return labels


def _means(features: np.ndarray, labels: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """The mean of each cluster's pixels [K, F]; an empty one stays where it was."""
    sizes = np.bincount(labels, minlength=len(centres))[:, None]
    sums = np.stack([np.bincount(labels, column, minlength=len(centres)) for column in features.T], axis=1)
    return np.where(sizes > 0, sums / np.maximum(sizes, 1), centres)
