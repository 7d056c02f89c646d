"""Confidence intervals of means of few samples."""

from __future__ import annotations

import numpy as np

Z = 1.959963984540054  # 97.5 % quantile of the normal distribution
# Of Student's t with few degrees of freedom, 1 / degrees about every 0.1.
DEGREES = np.array([1.0, 10 / 9, 10 / 8, 10 / 7, 10 / 6, 2.0, 10 / 4, 3.0, 10 / 3, 4.0, 5.0])
FEW = np.array(
    [
        12.706204736,
        10.064081933,
        8.027951377,
        6.456586452,
        5.242265131,
        4.302652730,
        3.574654842,
        3.182446305,
        3.009769001,
        2.776445105,
        2.570581836,
    ]
)


def t_quantile(freedom: np.ndarray) -> np.ndarray:
    """97.5 % quantile of Student's t with so many degrees of freedom (at least 1), whole or not.

    From 5 degrees on the expansion around the normal quantile (Abramowitz & Stegun 1964, 26.7.5), to three decimals;
    for fewer a table of its logarithm, which is convex in 1 / degrees: never narrower, at most 0.2 % wider.
    """
    v = np.clip(np.asarray(freedom, dtype=np.float64), 1.0, 1e9)
    terms = (
        (Z**3 + Z) / 4,
        (5 * Z**5 + 16 * Z**3 + 3 * Z) / 96,
        (3 * Z**7 + 19 * Z**5 + 17 * Z**3 - 15 * Z) / 384,
        (79 * Z**9 + 776 * Z**7 + 1482 * Z**5 - 1920 * Z**3 - 945 * Z) / 92160,
    )
    wide = Z + sum(term / v**power for power, term in enumerate(terms, 1))
    few = np.exp(np.interp(-1.0 / v, -1.0 / DEGREES, np.log(FEW)))
    return np.asarray(np.where(v < 5, few, wide))


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


def unevenness(squares: np.ndarray, fourths: np.ndarray) -> np.ndarray:
    """One part in how many degrees of freedom a sum of squares of normal values has, measured: sum s^4 / (sum s^2)^2.

    `squares` and `fourths` are the sums of the values' squares and of these squared. On average fourths are 3 sum s^4
    and squares^2 is (sum s^2)^2 + 2 sum s^4, where s are the values' deviations (Satterthwaite 1946).
    """
    share = np.divide(fourths, squares**2, out=np.zeros_like(squares), where=squares**2 > 0)
    return np.asarray(share / (3.0 - 2.0 * np.minimum(share, 1.0)))
