"""Confidence intervals of means of few samples."""

from __future__ import annotations

import numpy as np

Z = 1.959963984540054  # 97.5 % quantile of the normal distribution
FEW = {1: 12.706204736, 2: 4.302652730, 3: 3.182446305, 4: 2.776445105}


def t_quantile(freedom: np.ndarray) -> np.ndarray:
    """97.5 % quantile of Student's t with so many degrees of freedom (at least 1), to three decimals.

    Table for up to 4 degrees, above that the expansion around the normal quantile (Abramowitz & Stegun 1964, 26.7.5).
    """
    v = np.clip(np.asarray(freedom, dtype=np.float64), 1.0, 1e9)
    terms = (
        (Z**3 + Z) / 4,
        (5 * Z**5 + 16 * Z**3 + 3 * Z) / 96,
        (3 * Z**7 + 19 * Z**5 + 17 * Z**3 - 15 * Z) / 384,
        (79 * Z**9 + 776 * Z**7 + 1482 * Z**5 - 1920 * Z**3 - 945 * Z) / 92160,
    )
    wide = Z + sum(term / v**power for power, term in enumerate(terms, 1))
    few = np.array([FEW[degrees] for degrees in sorted(FEW)])
    return np.asarray(np.where(v < 5, few[np.clip(np.floor(v).astype(int), 1, 4) - 1], wide))


def freedom_of_sum(
    squares: np.ndarray, fourths: np.ndarray, terms: np.ndarray | float, most: np.ndarray | float
) -> np.ndarray:
    """Degrees of freedom, `most` at most, of a variance made of the sum of `terms` squares and of their squares' sum.

    As many as a normal sample needs for an estimate that varies as much (Satterthwaite 1946, doi:10.2307/3002019): for
    samples that is 2 n / (kurtosis - 1) (Box 1953, doi:10.1093/biomet/40.3-4.318). Those with rare large values tell
    less than their number says.
    """
    share = np.divide(fourths, squares**2, out=np.zeros_like(squares), where=squares**2 > 0)
    return np.asarray(np.clip(2.0 / np.maximum(share - 1.0 / terms, 1e-12), 1.0, most))
