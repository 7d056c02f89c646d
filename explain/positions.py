"""A request with one group for each place of its items: pixels and time steps, all channels of each together."""

from __future__ import annotations

from dataclasses import replace

from .errors import MethodUnavailable
from .groups import holding
from .layout import read_layout
from .request import Request
from .segments import Segments

PLACES = {1: "T", 2: "HW", 3: "CHW", 4: "CDHW"}


def by_position(request: Request, method: str, layout: str | None) -> tuple[Request, tuple[int, ...]]:
    """The request with its elements grouped by place, and the sizes of the axes of the places.

    `layout` says what the axes of an item are ("HWC"); inferred from the rank otherwise. Raises MethodUnavailable for
    models with several inputs, InvalidParameter where a layout does not fit.
    """
    if len(request.features) != 1:
        raise MethodUnavailable(f"{method} takes one input, and this model has {', '.join(request.features)}")
    name, array = next(iter(request.features.items()))
    found = read_layout(f"{method}: layout of {name!r}", array.shape[1:], layout, PLACES)
    places = found.places()
    groups = holding(Segments({name: places}, int(places.max()) + 1, None), request.inputs)
    return replace(request, groups=groups), tuple(found.shape[axis] for axis in found.space)
