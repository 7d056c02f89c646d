"""Checks of gradients that need no second implementation: finite differences and the dot test.

Product code: tests use it, and so does certification when a model is registered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

Function = Callable[[Mapping[str, np.ndarray]], np.ndarray]


def finite_difference(
    f: Function, inputs: Mapping[str, np.ndarray], name: str, direction: np.ndarray, step: float = 1e-3
) -> float:
    """Central difference of the scalar `f` along `direction` (shaped like `inputs[name]`).

    Error O(step^2) plus rounding/step: take step 1e-3 times the input's scale in float32, 1e-6 in float64.
    """
    moved = []
    for sign in (1, -1):
        shifted = inputs[name].astype(np.float64) + sign * step * direction
        point = {**inputs, name: shifted.astype(inputs[name].dtype)}
        moved.append(float(f(point)))
    return (moved[0] - moved[1]) / (2 * step)


def dot_test(
    f: Function,
    gradient: np.ndarray,
    inputs: Mapping[str, np.ndarray],
    name: str,
    *,
    probes: int = 4,
    step: float = 1e-3,
    seed: int = 0,
) -> float:
    """Largest relative disagreement, over random directions u, of <gradient, u> and the finite difference along u.

    Relative to |gradient| |u| / sqrt(size), the size such a product typically has, so that 0 means agreement and 1
    means nonsense. A smooth function in float32 gives about 1e-3.
    """
    random = np.random.default_rng(seed)
    worst = 0.0
    norm = float(np.linalg.norm(gradient))
    for _ in range(probes):
        direction = random.standard_normal(inputs[name].shape)
        expected = finite_difference(f, inputs, name, direction, step)
        found = float((gradient.astype(np.float64) * direction).sum())
        scale = norm * float(np.linalg.norm(direction)) / np.sqrt(direction.size)
        worst = max(worst, abs(found - expected) / max(scale, 1e-12))
    return worst


def gradient_error(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """||g - g'||_2 / ||g'||_2 for each item (axis 0); 0 where both vanish."""
    n = len(found)
    difference = np.linalg.norm((found.astype(np.float64) - expected).reshape(n, -1), axis=1)
    norm = np.linalg.norm(np.asarray(expected, dtype=np.float64).reshape(n, -1), axis=1)
    return np.asarray(np.where(difference == 0, 0.0, difference / np.maximum(norm, 1e-300)))


def attribution_error(found: np.ndarray, expected: np.ndarray) -> float:
    """max |phi - phi'| / max |phi'|."""
    scale = float(np.abs(expected).max(initial=0.0))
    return float(np.abs(found - expected).max(initial=0.0)) / scale if scale else float(np.abs(found).max(initial=0.0))
