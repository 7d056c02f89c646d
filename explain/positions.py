"""Where the positions of an item are: the axes of a picture or series, and the one that holds its channels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .errors import MethodUnavailable
from .groups import Groups
from .request import Request

COLOURS = (1, 3, 4)


def channel_axis(shape: tuple[int, ...]) -> int | None:
    """The axis of an item's channels: the first of three or more axes, or the last where only that can be colours."""
    if len(shape) < 3:
        return None
    return len(shape) - 1 if shape[-1] in COLOURS and shape[0] not in COLOURS else 0


def by_position(request: Request, method: str) -> tuple[Request, tuple[int, ...]]:
    """The request with one group for each position (all channels together), and the sizes of the axes of these.

    Raises MethodUnavailable for models with several inputs.
    """
    if len(request.inputs) != 1:
        raise MethodUnavailable(f"{method} takes one input, and this model has {', '.join(request.inputs)}")
    name, array = next(iter(request.inputs.items()))
    shape, channels = array.shape[1:], channel_axis(array.shape[1:])
    sizes = tuple(size for axis, size in enumerate(shape) if axis != channels)
    count = int(np.prod(sizes, dtype=np.int64))
    index = np.arange(count, dtype=np.int64).reshape(sizes)
    if channels is not None:
        index = np.broadcast_to(np.expand_dims(index, channels), shape)
    return replace(request, groups=Groups({name: index}, count, None)), sizes
