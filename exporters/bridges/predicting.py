"""A served model as shap calls one: rows in one array, explained values out."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from engine import Engine
from model_store import Store

from ..errors import InvalidBridge
from ..exported import Array
from .columns import Column, columns_of, split
from .served import Bridged, Served, bridged


def predict_function(
    model: Served,
    *,
    engine: Engine,
    store: Store | Path | str | None = None,
    version: int | str | None = None,
    output: str | None = None,
    space: str | None = None,
    target: int | None = None,
) -> Callable[[Any], Array]:
    """A function from rows [N, columns] to explained values [N, C] (or [N] of one ``target``), for any shap explainer.

    ``model`` is an ONNX file (path, bytes or proto), an `explain.Model`, an `Exported`, a `ModelVersion`, or with
    ``store`` (and ``version``) a name in it. Columns are the manifest's features in their order, a category as the
    number of its level; without a manifest the elements of the inputs, flat, one input after the other. A model of
    one input also takes that input's own array [N, ...item], such as pictures, token numbers or strings.
    ``space`` is "logit" where the output ends in a Softmax or Sigmoid (the default), "probability", or "output".

    The values are of the model's dtype made float64. Raises what `bridged` does; the function raises InvalidBridge
    for rows that do not fit, and what the engine raises.
    """
    served = bridged(model, engine, store=store, version=version, output=output, space=space)
    shapes = _shapes(served)
    columns = None if None in shapes.values() else _columns(served, shapes)

    def predict(rows: Any) -> Array:
        array = np.asarray(rows)
        array = array.astype(np.float64) if array.dtype == object and _is_numeric(served) else array
        inputs = _inputs(served, array, shapes, columns)
        values = served.value({name: served.fitted(name, each) for name, each in inputs.items()})
        flat = values.reshape(len(values), -1).astype(np.float64)
        if target is None:
            return flat
        if not 0 <= target < flat.shape[1]:
            raise InvalidBridge(f"target: came {target}, expected 0 to {flat.shape[1] - 1}")
        return np.asarray(flat[:, target])

    return predict


def _shapes(served: Bridged) -> dict[str, tuple[int, ...] | None]:
    """The shape of one item by input; None where the file leaves it open."""
    found: dict[str, tuple[int, ...] | None] = {}
    for name, kind in served.model.graph.inputs.items():
        axis = served.model.batch_axis(name)
        sizes = [size for place, size in enumerate(kind.shape or (None, None)) if place != axis]
        known = [size for size in sizes if isinstance(size, int)]
        found[name] = tuple(known) if len(known) == len(sizes) else None
    return found


def _columns(served: Bridged, shapes: dict[str, tuple[int, ...] | None]) -> list[Column]:
    sizes = {name: math.prod(shape or ()) for name, shape in shapes.items()}
    return columns_of(served.features, sizes)


def _is_numeric(served: Bridged) -> bool:
    return all(kind.dtype != "string" for kind in served.model.graph.inputs.values())


def _inputs(
    served: Bridged, rows: Array, shapes: dict[str, tuple[int, ...] | None], columns: list[Column] | None
) -> dict[str, Array]:
    if columns is not None and rows.ndim == 2 and rows.shape[1] == len(columns):
        return split(rows, columns, {name: shape or () for name, shape in shapes.items()})
    if len(shapes) == 1 and rows.ndim:
        ((name, shape),) = shapes.items()
        rank = len(served.model.graph.inputs[name].shape or ()) + (served.model.batch_axis(name) is None)
        if rows.ndim == rank and shape in (None, rows.shape[1:]):
            return {name: rows}
    expected = "arrays of fixed size" if columns is None else f"[N, {len(columns)}], one column for each feature"
    raise InvalidBridge(f"rows: came shape {list(rows.shape)} for inputs {', '.join(shapes)}, expected {expected}")
