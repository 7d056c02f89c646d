"""Which number is explained: from what a client writes to positions in an output, and back to a name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import explain
from model_store import Manifest, OutputSpec

from .errors import BadRequest
from .messages import Array, Arrays

CONTRAST = frozenset({"class", "versus"})
NAMES_SHOWN = 20


def output_spec(manifest: Manifest, name: str | None) -> OutputSpec:
    """The explained output: the one asked for, else the manifest's, else the model's only or first one.

    Raises:
        BadRequest: no output of this name.
    """
    wanted = name or manifest.explanation.output
    if wanted is None:
        return manifest.outputs[0]
    for spec in manifest.outputs:
        if spec.name == wanted:
            return spec
    known = ", ".join(spec.name for spec in manifest.outputs)
    raise BadRequest("output", repr(wanted[:60]), f"one of {known}")


def resolve_target(target: Any, spec: OutputSpec, rows: int, values: Array | None = None) -> Any:
    """A client's target as explain/ takes it, with class names turned into indices; None is the predicted class.

    An index or name, ``{"class": a, "versus": b}``, ``{"index": [...]}`` for an output of several axes, "predicted", or
    a list with one of these but a position for each row. Only classes have a predicted one: of other outputs with
    several numbers the target must be named, it is never guessed.

    Args:
        target: what the client wrote.
        spec: the explained output.
        rows: how many rows the request has.
        values: what the model answered for this output, [rows, ...]; a list that holds "predicted" needs it.

    Raises:
        BadRequest: an unknown class name, a target of another kind, or a list that is not one target per row.
    """
    if target is None or target == "predicted":
        _require_predicted(spec, "target", "none")
        return None
    if not isinstance(target, list):
        return _one(target, spec, "target")
    if len(target) != rows:
        raise BadRequest("target", f"a list of {len(target)}", f"one target, or one for each of the {rows} rows")
    if target and all(entry == "predicted" for entry in target):
        return resolve_target(None, spec, rows)
    each = [
        _predicted(spec, f"target[{row}]", values, row) if entry == "predicted" else _one(entry, spec, f"target[{row}]")
        for row, entry in enumerate(target)
    ]
    return each if all(isinstance(entry, int) for entry in each) else _per_row(each)


def _require_predicted(spec: OutputSpec, what: str, came: str) -> None:
    if spec.kind not in ("logits", "probabilities") and classes(spec) != 1:
        raise BadRequest(what, f"{came}, and the output has several values", _expected(spec))


def _predicted(spec: OutputSpec, what: str, values: Array | None, row: int) -> int:
    """The predicted class of one row among others whose class is named."""
    _require_predicted(spec, what, "'predicted'")
    if values is None or values[row].ndim > 1:
        raise BadRequest(what, "'predicted', and the output has several axes", "one position for all rows")
    return int(np.argmax(values[row]))


def _per_row(each: Sequence[Any]) -> explain.Target:
    """Different kinds of target in one request: a single class is a contrast whose second weight is 0."""
    if any(isinstance(entry, tuple) for entry in each):
        raise BadRequest("target", "positions in a list of targets", "one position for all rows, or classes")
    pairs = [
        (entry["class"], entry["versus"], -1.0) if isinstance(entry, dict) else (entry, entry, 0.0) for entry in each
    ]
    index = np.array([[[first], [second]] for first, second, _ in pairs], dtype=np.int64)
    return explain.Target(index, np.array([[1.0, weight] for _, _, weight in pairs]))


def _one(target: Any, spec: OutputSpec, what: str) -> Any:
    if isinstance(target, Mapping) and set(target) == {"index"}:
        return _position(target["index"], what)
    if isinstance(target, Mapping):
        if set(target) != CONTRAST:
            raise BadRequest(
                what, f"an object with {', '.join(sorted(map(str, target))) or 'nothing'}", "class and versus, or index"
            )
        return {part: _index(target[part], spec, f"{what}.{part}") for part in ("class", "versus")}
    return _index(target, spec, what)


def _position(position: Any, what: str) -> tuple[int, ...]:
    """A place in an output of several axes; explain/ holds it against the output's shape."""
    if not isinstance(position, list) or not all(type(part) is int and 0 <= part < 2**31 for part in position):
        raise BadRequest(
            f"{what}.index", repr(position)[:60], "a list of whole numbers, one for each axis after the rows"
        )
    return tuple(position)


def _index(target: Any, spec: OutputSpec, what: str) -> int:
    names = spec.class_names
    if isinstance(target, str) and target in names:
        return names.index(target)
    # A query string has no numbers, so digits that name no class are an index.
    if isinstance(target, str) and target.isascii() and target.isdigit() and len(target) < 10:
        target = int(target)
    if isinstance(target, bool) or not isinstance(target, int):
        raise BadRequest(what, repr(target)[:60], _expected(spec))
    count = classes(spec)
    if target < 0 or (count is not None and target >= count):
        raise BadRequest(what, str(target), _expected(spec))
    return target


def classes(spec: OutputSpec) -> int | None:
    """How many classes or values an item of this output has on its last axis; None where that is not fixed."""
    if spec.class_names and not _binary_score(spec):
        return len(spec.class_names)
    last = spec.item_shape[-1] if spec.item_shape else 1
    return last if isinstance(last, int) else None


def _binary_score(spec: OutputSpec) -> bool:
    """Two class names over one number: a single score whose sign or threshold decides."""
    return len(spec.class_names) == 2 and (not spec.item_shape or spec.item_shape[-1] == 1)


def _expected(spec: OutputSpec) -> str:
    count = classes(spec)
    bounds = f"an index from 0 to {count - 1}" if count is not None else "an index"
    if not spec.class_names:
        return f"{bounds} of output {spec.name}"
    more = ", ..." if len(spec.class_names) > NAMES_SHOWN else ""
    return f"{bounds}, or a class of output {spec.name}: {', '.join(spec.class_names[:NAMES_SHOWN])}{more}"


def describe_target(index: np.ndarray[Any, Any], weight: np.ndarray[Any, Any], spec: OutputSpec) -> dict[str, Any]:
    """One row's target as an answer shows it.

    Args:
        index: [S, D] positions in the output after the item axis.
        weight: [S] their weights.
        spec: the explained output.
    """
    positions = [[int(part) for part in position] for position in np.atleast_2d(index)]
    weights = [float(part) for part in np.atleast_1d(weight)]
    names = [_position_name(position, spec) for position in positions]
    if len(positions) == 1 and weights == [1.0]:
        position = positions[0]
        return {"index": position[0] if len(position) == 1 else position, "name": names[0]}
    if len(positions) == 2 and weights == [1.0, 0.0]:
        return describe_target(index[:1], weight[:1], spec)
    if len(positions) == 2 and weights == [1.0, -1.0]:
        return {"index": positions, "weight": weights, "name": f"{names[0]} versus {names[1]}"}
    terms = " + ".join(f"{weight:g}·{name}" for weight, name in zip(weights, names, strict=True))
    return {"index": positions, "weight": weights, "name": terms}


def _position_name(position: Sequence[int], spec: OutputSpec) -> str:
    if _binary_score(spec):
        return spec.class_names[1]
    if spec.class_names and position and position[-1] < len(spec.class_names):
        return spec.class_names[position[-1]]
    label = spec.label or spec.name
    if classes(spec) == 1 or not position:
        return label
    return f"{label}[{', '.join(map(str, position))}]"


def labels(manifest: Manifest, outputs: Arrays, rows: int) -> list[str] | None:
    """The predicted class name of each row, from the first answered output that names classes; else None.

    Several numbers: the largest. One number and two names: the second where the threshold (0.5 of a probability,
    0 of a logit, unless the manifest says otherwise) is reached.
    """
    for spec in manifest.outputs:
        if spec.name in outputs and spec.class_names and spec.kind in ("logits", "probabilities"):
            return _labels(spec, outputs[spec.name].reshape(rows, -1))
    return None


def _labels(spec: OutputSpec, values: Array) -> list[str]:
    """The label of each row of values [rows, numbers]; "" where the names are not as many as the numbers."""
    names, numbers = spec.class_names, values.shape[1]
    if numbers == 1 and len(names) == 2:
        threshold = spec.threshold if spec.threshold is not None else 0.5 if spec.kind == "probabilities" else 0.0
        return [names[reached] for reached in (values[:, 0] >= threshold).tolist()]
    if numbers != len(names):
        return [""] * len(values)
    return [names[largest] for largest in values.argmax(axis=1).tolist()]
