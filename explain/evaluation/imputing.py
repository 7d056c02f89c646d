"""What takes the place of removed pixels: values that their surroundings foretell, so that little gives away the hole.

Noisy linear imputation (Rong et al. 2022, "ROAD", arXiv:2202.00449): every removed pixel is the weighted mean of its
eight neighbours, 1/6 for those beside it and 1/12 for those across, all of them at once, with a little noise. The
linear system is symmetric and positive definite and is solved by conjugate gradients.
"""

from __future__ import annotations

import numpy as np

BESIDE, ACROSS = 1 / 6, 1 / 12
SHIFTS = [(dy, dx, ACROSS if dy and dx else BESIDE) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]
NOISE = 0.01
ITERATIONS, SMALL = 500, 1e-6


def impute(image: np.ndarray, gone: np.ndarray, noise: np.ndarray | None = None) -> np.ndarray:
    """The image [C, H, W] with the pixels `gone` [H, W] foretold by the others, and `noise` added there; float64.

    Where everything is gone, each channel is its mean.
    """
    wide = image.astype(np.float64)
    if gone.all():
        filled = np.broadcast_to(wide.mean(axis=(1, 2), keepdims=True), wide.shape).copy()
    else:
        weight = _spread(np.ones(gone.shape))
        known = np.where(gone, 0.0, wide)
        filled = known + np.stack([_solve(_spread(channel), gone, weight) for channel in known])
    return filled if noise is None else np.where(gone, filled + noise, filled)


def _spread(channel: np.ndarray) -> np.ndarray:
    """The weighted sum [H, W] of each pixel's neighbours; beyond the border there are none."""
    padded = np.pad(channel, 1)
    height, width = channel.shape
    parts = [weight * padded[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width] for dy, dx, weight in SHIFTS]
    return np.asarray(sum(parts))


def _solve(right: np.ndarray, gone: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """u [H, W], 0 where nothing is gone, with weight * u - spread(u) = right on the pixels that are gone."""
    u = np.zeros_like(right)
    residual = np.where(gone, right, 0.0)
    direction, size = residual.copy(), float((residual**2).sum())
    goal = SMALL**2 * size
    for _ in range(ITERATIONS):
        if size <= goal:
            break
        moved = np.where(gone, weight * direction - _spread(direction), 0.0)
        step = size / float((direction * moved).sum())
        u, residual = u + step * direction, residual - step * moved
        before, size = size, float((residual**2).sum())
        direction = residual + size / before * direction
    return u
