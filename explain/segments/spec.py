"""From what a request says ("patches", {"superpixels": {"count": 50}}, ...) to the groups of its inputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InvalidParameter
from ..layout import read_layout
from ..options import Schema, kinds_schema, object_schema, read_kind
from . import makers
from .base import Part, Segments
from .blocks import BLOCKS, declared

REST = {"type": "string", "enum": ["group", "keep"], "description": "group or keep: what becomes of the other inputs"}
AXIS = {"type": "integer", "minimum": 0, "description": "an axis of the item, 0 the first"}
SIZE = {"type": "integer", "minimum": 1, "description": "a whole number of at least 1"}
IDS = {"type": "array", "items": {"type": "integer"}, "description": "a list of token ids", "default": []}
INPUT = {"type": "string", "description": "the name of an input"}
LAYOUT = {"type": "string", "description": "a letter for each axis, such as CHW, HWC, HW, CT, TC or T"}
PATCH = {"type": "array", "items": SIZE, "minItems": 2, "maxItems": 2}
COMPACT = {"type": "number", "exclusiveMinimum": 0, "default": 10.0, "description": "a number above 0"}
OF = {
    "type": "array",
    "items": {"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "integer"}}]},
    "description": "the number of each token's word, [T] or [N, T], -1 for none",
}


@dataclass(frozen=True)
class Maker:
    """A kind of groups of one input: how they are made, its own options, of which rank its items are, likeliest first.

    `rest` is what becomes of the other inputs unless the request says so.
    """

    make: Callable[[str, np.ndarray, dict[str, Any]], Part]
    options: Schema
    ranks: tuple[int, ...]
    dtypes: str = "biuf"
    rest: str = "group"
    required: tuple[str, ...] = ()
    layout: bool = True

    @property
    def schema(self) -> Schema:
        """The JSON Schema of its options."""
        layout = {"layout": LAYOUT} if self.layout else {}
        return object_schema({**self.options, "input": INPUT, **layout, "rest": REST}, self.required)


MAKERS = {
    "channels": Maker(makers.channels, {"axis": AXIS}, (3, 2, 4)),
    "positions": Maker(makers.positions, {}, (3, 2, 1, 4)),
    "windows": Maker(makers.windows, {"size": SIZE, "count": SIZE, "axis": AXIS}, (2, 1)),
    "patches": Maker(
        makers.patches,
        {"size": {"anyOf": [SIZE, PATCH], "description": "a whole number, or [rows, columns]"}, "count": SIZE},
        (3, 2),
    ),
    "superpixels": Maker(makers.superpixels, {"count": SIZE, "compactness": COMPACT}, (3, 2), required=("count",)),
    "tokens": Maker(makers.tokens, {"keep": IDS}, (1,), "iu", "keep", layout=False),
    "words": Maker(makers.words, {"of": OF}, (1,), "iu", "keep", required=("of",), layout=False),
}
KINDS: dict[str, Schema] = {
    "elements": object_schema({}),
    "inputs": object_schema({}),
    **{name: maker.schema for name, maker in MAKERS.items()},
    "blocks": BLOCKS,
}
SCHEMA = kinds_schema(
    KINDS,
    ("elements", "inputs", "channels", "positions", "tokens"),
    "which elements are present or absent together",
)


def resolve(
    spec: Any, inputs: Mapping[str, np.ndarray], *, main: str | None = None, layout: str | None = None
) -> Segments:
    """The groups that a spec makes of the inputs, name -> array [N, item...].

    `main` is the input that the spec is about and `layout` its axes ("CHW", "HWC", "TC", ...), as a manifest knows
    them; what the spec says goes before. Without either they are inferred from rank and dtype. Other inputs are one
    group more each, or never masked (`rest`: "group" or "keep"). Raises InvalidParameter.
    """
    label = "groups"
    _check_inputs(label, inputs)
    kind, options = read_kind(label, spec, KINDS)
    if kind == "elements":
        found = _elements(inputs, {} if main is None or layout is None else {main: layout})
    elif kind == "inputs":
        whole = {name: np.full(array.shape[1:], at, dtype=np.int64) for at, (name, array) in enumerate(inputs.items())}
        found = Segments(whole, len(inputs), tuple(inputs))
    elif kind == "blocks":
        index, count, names = declared(f"{label}: blocks", options, inputs)
        found = _with_rest(index, Part(np.zeros(0), count, names), {}, inputs, "group")
    else:
        found = _made(f"{label}: {kind}", MAKERS[kind], options, inputs, main, layout)
    if found.count == 0:
        raise InvalidParameter(f"{label}: {kind}: no group is left that could be masked")
    return found


def _check_inputs(label: str, inputs: Mapping[str, np.ndarray]) -> None:
    counts = {len(array) if array.ndim else 0 for array in inputs.values()}
    if len(counts) != 1 or 0 in counts or any(not array.size for array in inputs.values()):
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in inputs.items()) or "nothing"
        raise InvalidParameter(f"{label}: came inputs {shapes}, expected the same number of items in each, at least 1")


def _elements(inputs: Mapping[str, np.ndarray], known: Mapping[str, str]) -> Segments:
    """Every element by itself; elements of images and series are places as well."""
    index, layouts, start = {}, {}, 0
    for name, array in inputs.items():
        shape = array.shape[1:]
        index[name] = np.arange(start, start + math.prod(shape), dtype=np.int64).reshape(shape)
        start += index[name].size
        if name in known or len(shape) in (2, 3):
            layouts[name] = read_layout(f"groups: elements of {name!r}", shape, known.get(name)).axes
    return Segments(index, start, None, layouts=layouts, counted=True)


def _made(
    label: str,
    maker: Maker,
    options: dict[str, Any],
    inputs: Mapping[str, np.ndarray],
    main: str | None,
    layout: str | None,
) -> Segments:
    name = _which(label, maker, options["input"] or main, inputs)
    if maker.layout and options["layout"] is None and main in (None, name):
        options = options | {"layout": layout}
    part = maker.make(f"{label} of {name!r}", inputs[name], options)
    layouts = {} if part.axes is None else {name: part.axes}
    return _with_rest({name: part.index}, part, layouts, inputs, options["rest"] or maker.rest)


def _which(label: str, maker: Maker, named: str | None, inputs: Mapping[str, np.ndarray]) -> str:
    """The input that is meant: the one named, the only one, or the only one of the likeliest rank."""
    if named is not None:
        if named not in inputs:
            raise InvalidParameter(f"{label}: input {named!r} is unknown; expected {', '.join(inputs)}")
        return named
    if len(inputs) == 1:
        return next(iter(inputs))
    for rank in maker.ranks:
        fit = [name for name, a in inputs.items() if a.ndim == rank + 1 and a.dtype.kind in maker.dtypes]
        if len(fit) == 1:
            return fit[0]
        if fit:
            raise InvalidParameter(f"{label}: inputs {', '.join(fit)} may be meant; say which with input")
    raise InvalidParameter(f"{label}: none of the inputs {', '.join(inputs)} looks like one; say which with input")


def _with_rest(
    index: dict[str, np.ndarray],
    part: Part,
    layouts: Mapping[str, str],
    inputs: Mapping[str, np.ndarray],
    rest: str,
) -> Segments:
    """Groups of some inputs, and of the others: one each (numbered after them, or before where they differ per item).

    Numbers that every item uses come first, so that an item with few groups still leaves out only the last ones.
    """
    others = [name for name in inputs if name not in index] if rest == "group" else []
    shift = len(others) if part.per_item else 0
    whole: dict[str, np.ndarray] = {}
    for name, array in inputs.items():
        if name in index:
            own = index[name]
            whole[name] = np.where(own >= 0, own + shift, -1)
        else:
            first = 0 if part.per_item else part.count
            number = first + others.index(name) if others else -1
            whole[name] = np.full(array.shape[1:], number, dtype=np.int64)
        if part.per_item:
            whole[name] = np.broadcast_to(whole[name], array.shape)
    names = (*others, *part.names) if part.per_item else (*part.names, *others)
    return Segments(whole, part.count + len(others), names, part.per_item, dict(layouts))
