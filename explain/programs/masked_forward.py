"""`masked_forward`: the explained output where groups of elements are replaced by those of a background.

`x` [N, ...]; `mask` [N, K, G] in [0, 1] over G groups that span all inputs; `<input>.groups`, which group each element
belongs to (-1 = never masked); `<input>.background` [B, ...] and `background.weight` [B]. `value` [N, K, C] is the mean
of the explained output over the background with these weights (they should sum to 1), C its elements after the item
axis; `value_sq` is the mean of its square. Elements that are no floats are taken from x where the mask is at least 1/2.
"""

from __future__ import annotations

import numpy as np

from ..emit import Emitter
from ..errors import InvalidParameter
from ..graph import elem_type
from ..model import Model
from .draft import Draft, Kind, Program, free, item_shape

KINDS = ("shared", "item")


def build_masked_forward(
    model: Model,
    *,
    output: str | None = None,
    space: str | None = None,
    groups: Kind = "shared",
    background: Kind = "shared",
    squares: bool = False,
) -> Program:
    """Compile the program; groups and background are "shared" by all items or given per "item"."""
    for name, value in (("groups", groups), ("background", background)):
        if value not in KINDS:
            raise InvalidParameter(f"{name}: came {value!r}, expected one of {', '.join(KINDS)}")
    explained = model.explained(output, space)
    names = [f"{name}.{role}" for name in model.graph.inputs for role in ("groups", "background")]
    draft = Draft(model, ("mask", "background.weight", "value", "value_sq", *names))
    emit = draft.emit
    for name, kind in model.graph.inputs.items():
        item = free(item_shape(model, name))
        draft.input(name, kind.dtype, ("N", *item))
        draft.input(f"{name}.groups", "int64", ("N", *item) if groups == "item" else item, groups)
        rows = ("N", "B") if background == "item" else ("B",)
        draft.input(f"{name}.background", kind.dtype, (*rows, *item), background)
    mask = draft.input("mask", explained.dtype, ("N", "K", "G"))
    weight = draft.input("background.weight", explained.dtype, ("B",), "shared")
    always = emit.expand(np.ones(1, dtype=explained.dtype), emit.join(emit.dims(mask, 0, 2), 1))
    open_mask = emit.concat(mask, always, axis=2)
    sizes = emit.join(emit.dims(mask, 0, 2), emit.shape(weight))
    items = {name: _blend(emit, name, open_mask, sizes, groups, background) for name in model.graph.inputs}
    y = draft.explained(draft.place(items), explained)
    table = emit.reshape(y, emit.join(sizes, -1))
    row = emit.unsqueeze(weight, [0])
    for name, values in {"value": table, **({"value_sq": emit.mul(table, table)} if squares else {})}.items():
        mean = emit.squeeze(emit.matmul(row, values), [2])
        draft.output(name, mean, explained.dtype, ("N", "K", "C"))
    options = {"output": explained.output, "space": explained.space, "groups": groups, "background": background}
    return draft.finish("masked_forward", explained, options | {"squares": squares})


def _blend(emit: Emitter, name: str, mask: str, sizes: str, groups: str, background: str) -> str:
    """Rows [N * K * B, item...] of x with masked elements replaced; -1 reads the mask's last column, all ones."""
    x = emit.reshape(name, emit.join(emit.dim(name, 0), 1, 1, -1))
    other = f"{name}.background"
    sides = (emit.dim(other, 0), 1, emit.dim(other, 1)) if background == "item" else (1, 1, emit.dim(other, 0))
    rows = emit.reshape(other, emit.join(*sides, -1))
    kept = emit.unsqueeze(_spread(emit, f"{name}.groups", mask, groups), [2])
    if emit.dtype(name) in ("float32", "float64", "float16"):
        kept = emit.cast_like_value(kept, x)
        one = np.ones((), dtype=emit.dtype(name))
        blended = emit.add(emit.mul(kept, x), emit.mul(emit.sub(one, kept), rows))
    else:
        chosen = _choosable(emit.dtype(name))
        x, rows = emit.cast_to(x, chosen), emit.cast_to(rows, chosen)
        blended = emit.where(emit.greater_or_equal(kept, 0.5), x, rows)
        blended = emit.cast(blended, to=elem_type(emit.dtype(name))) if chosen != emit.dtype(name) else blended
    return emit.reshape(emit.expand(blended, emit.join(sizes, 1)), emit.join(-1, emit.dims(name, 1)))


def _choosable(dtype: str) -> str:
    """The dtype in which to choose between values of this one: runtimes have Where for few (ONNX Runtime on CPU)."""
    if dtype in ("string", "int32", "int64", "uint8"):
        return dtype
    return {"bool": "uint8", "bfloat16": "float32"}.get(dtype, "int64")


def _spread(emit: Emitter, groups: str, mask: str, kind: str) -> str:
    """The mask of each element [N, K, P]: that of its group."""
    if kind == "shared":
        return emit.gather(mask, emit.reshape(groups, [-1]), axis=2)
    flat = emit.reshape(groups, emit.join(emit.dim(groups, 0), 1, -1))
    wide = emit.expand(flat, emit.join(1, emit.dim(mask, 1), 1))
    return emit.gather_elements(mask, wide, axis=2)
