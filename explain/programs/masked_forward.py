"""`masked_forward`: the explained output where groups of elements are replaced by those of a background.

`x` [N, ...]; `mask` [N, K, G] in [0, 1] over G groups that span all inputs; `<input>.groups`, which group each element
belongs to (-1 = never masked); `<input>.background` [B, ...] and `background.weight` [B]. `value` [N, K, C] is the mean
of the explained output over the background with these weights (they should sum to 1), C its elements after the item
axis; `value_sq` is the mean of its square. Elements that are no floats are taken from x where the mask is at least 1/2.
A background may also be each item's own ([N, B, ...]), or paired with the masks ([K, ...], one row for each of them).
Where each element is a group of its own, in the order of the inputs, `groups` is "elements": the mask is spread by its
shape, and `<input>.groups` is no input.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from ..dtypes import Shape, elem_type
from ..emit import Emitter
from ..errors import InvalidParameter
from ..model import Model
from .draft import Draft, Kind, Program, free, item_shape
from .target import repeat_items

Groups = Literal["shared", "item", "elements"]
Background = Literal["shared", "item", "paired"]
ROWS: dict[Background, Shape] = {"shared": ("B",), "item": ("N", "B"), "paired": ("K",)}


def build_masked_forward(
    model: Model,
    *,
    output: str | None = None,
    space: str | None = None,
    groups: Groups = "shared",
    background: Background = "shared",
    squares: bool = False,
) -> Program:
    """Compile the program; groups: "shared" by all items, given per "item", or "elements" by themselves; a background
    may be "shared", "item" or "paired"."""
    explained = model.explained(output, space)
    draft = masked_draft(model, explained.dtype, ("background.weight", "value", "value_sq"), groups, background)
    weight = draft.input("background.weight", explained.dtype, ("B",), "shared")
    items, sizes = masked_rows(draft, groups, background)
    table = draft.emit.reshape(draft.explained(draft.place(items), explained), draft.emit.join(sizes, -1))
    state_means(draft, table, weight, explained.dtype, squares=squares, single=background == "paired")
    options = {"output": explained.output, "space": explained.space, "groups": groups, "background": background}
    return draft.finish("masked_forward", explained, options | {"squares": squares})


def masked_draft(model: Model, dtype: str, reserved: tuple[str, ...], groups: Groups, background: Background) -> Draft:
    """A draft that declares the model's own inputs, `mask`, and groups and background of each input."""
    if groups not in get_args(Groups):
        raise InvalidParameter(f"groups: came {groups!r}, expected one of {', '.join(get_args(Groups))}")
    if background not in ROWS:
        raise InvalidParameter(f"background: came {background!r}, expected one of {', '.join(ROWS)}")
    names = [f"{name}.{role}" for name in model.graph.inputs for role in ("groups", "background")]
    draft = Draft(model, ("mask", *reserved, *names))
    for name, kind in model.graph.inputs.items():
        item = free(item_shape(model, name))
        draft.input(name, kind.dtype, ("N", *item))
        if groups != "elements":
            draft.input(f"{name}.groups", "int64", ("N", *item) if groups == "item" else item, groups)
        own: Kind = "item" if background == "item" else "shared"
        draft.input(f"{name}.background", kind.dtype, (*ROWS[background], *item), own)
    draft.input("mask", dtype, ("N", "K", "G"))
    return draft


def masked_rows(draft: Draft, groups: Groups, background: Background) -> tuple[dict[str, str], str]:
    """Every input as rows [N * K * B, item...] with masked elements replaced, and the sizes [N, K, B]."""
    emit, inputs = draft.emit, draft.model.graph.inputs
    missing = draft.model.takes_missing
    spread = _elementwise(emit, list(inputs)) if groups == "elements" else _by_group(emit, list(inputs), groups)
    sizes = emit.join(emit.dims("mask", 0, 2), _sides(emit, next(iter(inputs)), background)[2])
    held = draft.model.held
    rows = {n: _blend(emit, n, spread[n], sizes, background, missing) for n in inputs if n not in held}
    times = emit.reduce_prod(emit.slice(sizes, [1], [3]), keepdims=1)
    return rows | {name: repeat_items(emit, name, times) for name in inputs if name in held}, sizes


def state_means(
    draft: Draft, table: str, weight: str, dtype: str, *, squares: bool = False, single: bool = False
) -> None:
    """Outputs `value` (and `value_sq`) [N, K, C]: means of the table [N, K, B, C] over one row or many."""
    emit = draft.emit
    row = emit.unsqueeze(weight, [0])
    for name, values in {"value": table, **({"value_sq": emit.mul(table, table)} if squares else {})}.items():
        mean = emit.mul(row, values) if single else emit.matmul(row, values)
        draft.output(name, emit.squeeze(mean, [2]), dtype, ("N", "K", "C"))


def _blend(emit: Emitter, name: str, mask: str, sizes: str, background: Background, missing: bool) -> str:
    """Rows [N * K * B, item...] of x with elements replaced where their mask [N, K, P] says so."""
    x = emit.reshape(name, emit.join(emit.dim(name, 0), 1, 1, -1))
    rows = emit.reshape(f"{name}.background", emit.join(*_sides(emit, name, background), -1))
    kept = emit.unsqueeze(mask, [2])
    if emit.dtype(name) in ("float32", "float64", "float16"):
        kept = emit.cast_like_value(kept, x)
        one = np.ones((), dtype=emit.dtype(name))
        blended = emit.add(emit.mul(kept, x), emit.mul(emit.sub(one, kept), rows))
        if missing:
            chosen = emit.where(emit.greater_or_equal(kept, 0.5), x, rows)
            blended = emit.where(emit.is_nan(blended), chosen, blended)
    else:
        chosen = _choosable(emit.dtype(name))
        x, rows = emit.cast_to(x, chosen), emit.cast_to(rows, chosen)
        blended = emit.where(emit.greater_or_equal(kept, 0.5), x, rows)
        blended = emit.cast(blended, to=elem_type(emit.dtype(name))) if chosen != emit.dtype(name) else blended
    return emit.reshape(emit.expand(blended, emit.join(sizes, 1)), emit.join(-1, emit.dims(name, 1)))


def _sides(emit: Emitter, name: str, background: Background) -> tuple[int | str, int | str, int | str]:
    """Sizes N, K and B of a background, 1 where it is the same for all."""
    other = f"{name}.background"
    if background == "item":
        return emit.dim(other, 0), 1, emit.dim(other, 1)
    if background == "paired":
        return 1, emit.dim(other, 0), 1
    return 1, 1, emit.dim(other, 0)


def _choosable(dtype: str) -> str:
    """The dtype in which to choose between values of this one: runtimes have Where for few (ONNX Runtime on CPU)."""
    if dtype in ("string", "int32", "int64", "uint8"):
        return dtype
    return {"bool": "uint8", "bfloat16": "float32"}.get(dtype, "int64")


def _elementwise(emit: Emitter, names: list[str]) -> dict[str, str]:
    """The mask of each element [N, K, P] by input: those of an input stand beside each other."""
    if len(names) == 1:
        return {names[0]: "mask"}
    sizes = [emit.reduce_prod(emit.dims(name, 1), keepdims=1) for name in names]
    parts = emit.split("mask", emit.join(*sizes), len(names), axis=2)
    return dict(zip(names, parts, strict=True))


def _by_group(emit: Emitter, names: list[str], groups: Groups) -> dict[str, str]:
    """The mask of each element [N, K, P] by input: that of its group; -1 reads a last column, all ones."""
    always = emit.expand(np.ones(1, dtype=emit.dtype("mask")), emit.join(emit.dims("mask", 0, 2), 1))
    open_mask = emit.concat("mask", always, axis=2)
    return {name: _spread(emit, f"{name}.groups", open_mask, groups) for name in names}


def _spread(emit: Emitter, groups: str, mask: str, kind: Groups) -> str:
    if kind == "shared":
        return emit.gather(mask, emit.reshape(groups, [-1]), axis=2)
    flat = emit.reshape(groups, emit.join(emit.dim(groups, 0), 1, -1))
    wide = emit.expand(flat, emit.join(1, emit.dim(mask, 1), 1))
    return emit.gather_elements(mask, wide, axis=2)
