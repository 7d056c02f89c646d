"""xray: does a chest X-ray of a child show pneumonia (PneumoniaMNIST, 28 × 28 grey).

The publisher's own split is kept: its test pictures were taken apart from the training ones, so the accuracy here
says more than a random split would. The full set and any part of it with the same arrays are both read.
Source: J. Yang et al. (2023), MedMNIST v2, doi 10.1038/s41597-022-01721-8, CC BY 4.0.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from model_store import Baseline, ImageSpec, InputSpec

from ..data import Array, DataFile, Dataset, find
from ..errors import BadData
from ..pictures_data import as_input, picture_instance
from ..recipe import Recipe, Schedule

if TYPE_CHECKING:
    from torch import nn

# the publisher names this file by MD5 only
FILE = DataFile(
    name="pneumoniamnist.npz",
    url="https://zenodo.org/records/10519652/files/pneumoniamnist.npz",
    checksum="md5:28209eda62fecd6e6a2d98b1501bb15f",
)
_PARTS = ("train", "val", "test")


def load(data: Path | None) -> Dataset:
    """Pictures of 28 × 28; label 0 = normal, 1 = pneumonia. Raises MissingData, BadData."""
    path = find(FILE, data)
    images, labels = _read(path)
    pixels = np.concatenate(images)
    return Dataset(
        name="PneumoniaMNIST",
        origin=FILE.url,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        inputs={"image": as_input(pixels)},
        labels=np.concatenate(labels).astype(np.int64),
        instance=lambda row: picture_instance(pixels[row]),
        parts=np.repeat(np.arange(3), [len(part) for part in images]),
    )


def _read(path: Path) -> tuple[list[Array], list[Array]]:
    """The three parts' pictures and labels, checked."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            images = [archive[f"{part}_images"] for part in _PARTS]
            labels = [archive[f"{part}_labels"].ravel() for part in _PARTS]
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise BadData(f"{path.name}: expected arrays train/val/test_images and _labels: {error}") from error
    for part, pictures, classes in zip(_PARTS, images, labels, strict=True):
        if pictures.dtype != np.uint8 or pictures.shape[1:] != (28, 28) or len(pictures) != len(classes):
            raise BadData(
                f"{path.name}: {part}_images is {pictures.dtype} {pictures.shape} with {len(classes)} labels, "
                f"expected uint8 [n, 28, 28] and one label each"
            )
        if not set(np.unique(classes)) <= {0, 1}:
            raise BadData(f"{path.name}: {part}_labels holds {np.unique(classes).tolist()}, expected 0 and 1")
    return images, labels


def network(inputs: Mapping[str, Array], labels: Array) -> nn.Module:  # noqa: ARG001 - regression recipes need them
    """28 -> 14 -> 7: the last feature map keeps a 7 × 7 grid for Grad-CAM."""
    from ..nets import Jitter, PictureNet

    jitter = Jitter(contrast=0.3, brightness=0.3, pixels=2)
    return PictureNet(inputs["image"], (16, 0, 32, 0, 48), outputs=2, dropout=0.3, jitter=jitter)


RECIPE = Recipe(
    name="xray",
    description="Tells pneumonia from normal in a 28 × 28 chest X-ray of a child.",
    task="classification",
    load=load,
    network=network,
    schedule=Schedule(epochs=15, batch_size=64, learning_rate=3e-3, weight_decay=1e-2, patience=5),
    inputs=(
        InputSpec(
            name="image",
            kind="image",
            dtype="float32",
            shape=["N", 1, 28, 28],
            batch_axis=0,
            image=ImageSpec(height=28, width=28, mode="L", layout="NCHW"),
        ),
    ),
    features=(),
    method="grad_cam",
    baseline=Baseline(kind="constant", value=0.0),
    output_label="finding",
    class_names=("normal", "pneumonia"),
    needs_data=True,
)
