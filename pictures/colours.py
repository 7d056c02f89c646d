"""Two colour scales, both readable with any of the common colour-vision deficiencies.

Signed values: blue – white – red, ColorBrewer's RdBu (Brewer, Harrower, colorbrewer2.org), reversed so that red raises
the answer and blue lowers it, as readers of SHAP plots expect. Unsigned values: a ramp from white over amber and red to
purple whose CIELAB lightness falls in equal steps (97 to 36), so that equal differences look equal, in grey too.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]

RAISES = "#b2182b"
LOWERS = "#2166ac"
NEUTRAL = "#8c959f"

DIVERGING = ("#2166ac", "#4393c3", "#92c5de", "#d1e5f0", "#f7f7f7", "#fddbc7", "#f4a582", "#d6604d", "#b2182b")
SEQUENTIAL = ("#f8f6f2", "#ffdba9", "#ffbe8a", "#ff9e77", "#ff786f", "#fe4773", "#e12d84", "#b62a90", "#813193")


def rgb(colour: str) -> tuple[int, int, int]:
    """`#rrggbb` as three bytes."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def colourise(values: Floats, limit: float, *, signed: bool) -> Floats:
    """Colours [..., 3] in 0..255 of `values` [...] on the scale −limit..limit (signed) or 0..limit; beyond is cut."""
    anchors = np.array([rgb(colour) for colour in (DIVERGING if signed else SEQUENTIAL)], dtype=np.float64)
    place = (values / limit + 1.0) / 2.0 if signed else values / limit
    stops = np.linspace(0.0, 1.0, len(anchors))
    place = np.clip(place, 0.0, 1.0)
    return np.stack([np.interp(place, stops, anchors[:, channel]) for channel in range(3)], axis=-1)
