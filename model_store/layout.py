"""What decoding hands on: arrays with the items along axis 0, whatever layout the model itself has.

`Decoded.inputs` always holds [N, ...item]. A model may have its batch axis elsewhere, or none; `to_model_layout` and
`from_model_layout` go between the two, and whoever runs the model itself (not a compiled program) applies them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import InvalidInput
from .manifest import Dim, Manifest

if TYPE_CHECKING:
    from PIL.Image import Image

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Decoded:
    """A request as the model's arrays.

    `inputs`: by input name, [rows, ...item shape], of the manifest's dtypes. `images`: for each row the picture to draw
    over, which is the original as it came (upright, before resizing) where a picture came, and None where none is
    known. Of tensors pictures are made when they are asked for.
    """

    inputs: dict[str, Array]
    rows: int
    images: Sequence[Image | None] = ()


def to_model_layout(manifest: Manifest, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """[N, ...item] arrays in the layout of the model's own inputs.

    Where an input has no batch axis, N must be 1, and so it must where `batching.mode` is "row"; InvalidInput if not.
    """
    result = {}
    for spec in manifest.inputs:
        array = inputs[spec.name]
        if len(array) != 1 and (spec.batch_axis is None or manifest.batching.mode == "row"):
            raise InvalidInput(f"input {spec.name!r}", f"{len(array)} items at once", "1, as the model takes no batch")
        result[spec.name] = array[0] if spec.batch_axis is None else np.moveaxis(array, 0, spec.batch_axis)
    return {name: np.ascontiguousarray(array) for name, array in result.items()}


def from_model_layout(manifest: Manifest, outputs: Mapping[str, Array]) -> dict[str, Array]:
    """The model's own outputs with the items along axis 0; an output without a batch axis becomes one item."""
    axes = {spec.name: spec.batch_axis for spec in manifest.outputs}
    result = {}
    for name, array in outputs.items():
        axis = axes[name]
        result[name] = array[np.newaxis] if axis is None else np.moveaxis(array, axis, 0)
    return {name: np.ascontiguousarray(array) for name, array in result.items()}


def fits(shape: tuple[int, ...], wanted: tuple[Dim, ...]) -> bool:
    """Whether a shape has the rank and the fixed sizes of a declared one."""
    return len(shape) == len(wanted) and all(
        not isinstance(want, int) or want == size for size, want in zip(shape, wanted, strict=True)
    )


def described(shape: tuple[Dim, ...]) -> str:
    """A declared shape as people read it: `[rows, 3, 224]`, a free axis without a name as `?`."""
    return "[" + ", ".join("?" if dim is None else str(dim) for dim in shape) + "]"


def check_shapes_agree(manifest: Manifest, inputs: Mapping[str, Array]) -> None:
    """Axes of the same name must have the same size in all inputs; InvalidInput names the two that differ."""
    sizes: dict[str, tuple[int, str]] = {}
    for spec in manifest.inputs:
        for dim, size in zip(spec.item_shape, inputs[spec.name].shape[1:], strict=True):
            if not isinstance(dim, str):
                continue
            known, where = sizes.setdefault(dim, (size, spec.name))
            if known != size:
                raise InvalidInput(f"input {spec.name!r}", f"{size} for axis {dim!r}", f"{known}, as in {where!r}")
