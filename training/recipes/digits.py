"""digits: which digit is written in a small grey picture (8 × 8, white on black).

scikit-learn's copy counts ink from 0 to 16 per cell; a client sends pictures, so the ink becomes pixels of 0..255
first (16 -> 255, rounded) and the network is trained on exactly what a PNG can carry.
Source: E. Alpaydin, C. Kaynak (1998), Optical Recognition of Handwritten Digits, UCI, CC BY 4.0; in scikit-learn.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from model_store import Baseline, ImageSpec, InputSpec

from ..data import Array, Dataset, digest_of
from ..pictures_data import as_input, picture_instance
from ..recipe import Recipe, Schedule

if TYPE_CHECKING:
    from torch import nn


def load(data: Path | None) -> Dataset:  # noqa: ARG001 - the data is inside scikit-learn; all loaders look alike
    """1,797 pictures of 8 × 8; label = the digit."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    ink = np.asarray(bunch.images, dtype=np.float64)
    labels = np.asarray(bunch.target, dtype=np.int64)
    pixels = np.rint(ink * (255.0 / 16.0)).astype(np.uint8)
    return Dataset(
        name="Optical recognition of handwritten digits (test part)",
        origin="scikit-learn load_digits",
        sha256=digest_of(ink, labels),
        inputs={"image": as_input(pixels)},
        labels=labels,
        instance=lambda row: picture_instance(pixels[row]),
    )


def network(inputs: Mapping[str, Array], labels: Array) -> nn.Module:  # noqa: ARG001 - regression recipes need them
    """Three blocks at full resolution; 8 × 8 leaves nothing to pool away."""
    from ..nets import PictureNet

    return PictureNet(inputs["image"], (24, 48, 48), outputs=10, dropout=0.1)


RECIPE = Recipe(
    name="digits",
    description="Reads a handwritten digit from an 8 × 8 grey picture, white on black.",
    task="classification",
    load=load,
    network=network,
    schedule=Schedule(epochs=30, batch_size=64, learning_rate=5e-3, weight_decay=1e-2, patience=8),
    inputs=(
        InputSpec(
            name="image",
            kind="image",
            dtype="float32",
            shape=["N", 1, 8, 8],
            batch_axis=0,
            image=ImageSpec(height=8, width=8, mode="L", layout="NCHW"),
        ),
    ),
    features=(),
    method="grad_cam",
    baseline=Baseline(kind="constant", value=0.0),
    output_label="digit",
    class_names=tuple(str(digit) for digit in range(10)),
)
