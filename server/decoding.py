"""What a client sent, as the model's arrays, within the server's limits."""

from __future__ import annotations

import math

import numpy as np

import model_store
from model_store import Decoded, Manifest

from .config import Config
from .errors import BadRequest, BodyTooLarge
from .loaded import LoadedModel
from .messages import Array, ImageBody, Payload, RawTensor, Rows
from .pool import step_aside
from .wire.tensors import BYTES, datatype_of, from_bytes


def decode(loaded: LoadedModel, payload: Payload, config: Config) -> Decoded:
    """Raises `model_store.InvalidInput`, `BodyTooLarge`, `BadRequest`, and `ModelUnusable` where it has to be read."""
    manifest, limit = loaded.manifest, config.max_rows
    if isinstance(payload, Rows):
        if len(payload.instances) > limit:
            raise BodyTooLarge(f"rows: got {len(payload.instances)}, expected at most {limit}")
        return loaded.rows.decode(list(payload.instances), config.max_image_pixels)
    if isinstance(payload, ImageBody):
        step_aside()  # PNG and JPEG are decoded without the interpreter
        return model_store.decode_image(manifest, payload.body, config.max_image_pixels)
    arrays = _raw_arrays(manifest, payload.body) if isinstance(payload, RawTensor) else payload.arrays
    decoded = loaded.tensors.decode(arrays)
    if decoded.rows > limit:
        raise BodyTooLarge(f"rows: got {decoded.rows}, expected at most {limit}")
    for name, array in decoded.inputs.items():
        if not array.size and (operator := loaded.source.recurrent) is not None:
            expected = f"at least one element, as the model has a {operator}, which takes at least one step"
            raise model_store.InvalidInput(f"input {name!r}", f"shape {list(arrays[name].shape)}", expected)
    return decoded


def _raw_arrays(manifest: Manifest, body: bytes) -> dict[str, Array]:
    """The only input of a model from its bare bytes, as one item; one free size is found from the length."""
    if len(manifest.inputs) != 1:
        raise BadRequest(
            "body", "one raw tensor", f"named tensors, because the model has {len(manifest.inputs)} inputs"
        )
    spec = manifest.inputs[0]
    datatype = datatype_of(spec.dtype)
    shape = [1 if axis == spec.batch_axis else size for axis, size in enumerate(spec.shape)]
    free = [axis for axis, size in enumerate(shape) if not isinstance(size, int)]
    if len(free) > 1:
        raise BadRequest("body", "one raw tensor", "a named tensor with its shape, because several sizes are free")
    fixed = math.prod(size for size in shape if isinstance(size, int))
    for axis in free:
        shape[axis] = 1 if datatype == BYTES else len(body) // max(1, fixed * np.dtype(spec.dtype).itemsize)
    return {spec.name: from_bytes(body, datatype, [int(str(size)) for size in shape], f"input {spec.name}")}
