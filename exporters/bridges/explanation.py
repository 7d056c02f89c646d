"""An explanation as `shap.Explanation`, so that shap's plots draw what the server, or `explain`, found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import explain
from model_store import Manifest

from ..errors import InvalidBridge
from ..exported import Array
from .answers import GROUPS, Told, told
from .columns import Column, columns_of, joined

if TYPE_CHECKING:
    import shap

NORMAL_95 = 1.959964


def shap_explanation(
    answer: explain.Attribution | Mapping[str, Any],
    *,
    inputs: Mapping[str, Any] | None = None,
    manifest: Manifest | None = None,
    feature_names: Sequence[str] | None = None,
    tokens: Sequence[Sequence[str]] | None = None,
) -> shap.Explanation:
    """What an explanation says, as shap has it: ``values`` [N, M], ``base_values`` [N], ``data``, names.

    ``answer`` is an `explain.Attribution` or the parsed JSON of a V1 or V2 explain answer. Columns are those of
    `predict_function`: the manifest's features in their order, or the elements of all inputs; groups where groups were
    explained. ``inputs`` (by name, [N, ...item]) become ``data`` where the answer does not hold them; ``manifest``
    names features and shows categories by their labels; ``feature_names`` replaces the names.

    With ``tokens`` (for each row its T texts) the attributions [N, T] of all inputs are added up by token, and
    ``data`` is the texts: what `shap.plots.text` draws. An array that is no row of columns, such as a picture, is
    kept in its shape where it is the only input and no names are known.

    Where errors are known, ``error_std`` is the standard error of a sample; ``lower_bounds`` and ``upper_bounds`` are
    its 95 % interval (the normal one for a served answer, which states no other), or the value less and plus the error
    of an adaptive rule. ``base_values`` is None for methods that have none (saliency): shap's waterfall needs one.
    Raises InvalidBridge.
    """
    import shap

    found = told(answer)
    arrays = None if inputs is None else {name: np.asarray(array) for name, array in inputs.items()}
    if tokens is not None:
        parts = _of_tokens(found, tokens)
    elif found.names is not None:
        parts = _of_names(found, manifest)
    else:
        parts = _of_inputs(found, arrays, manifest, named=feature_names is not None)
    if feature_names is not None:
        parts["feature_names"] = _checked(feature_names, parts["values"])
    return shap.Explanation(base_values=found.base, output_names=found.target, **parts)


def _of_tokens(found: Told, tokens: Sequence[Sequence[str]]) -> dict[str, Any]:
    """[N, T]: a token's part is that of everything at its position."""
    texts = [[str(text) for text in row] for row in tokens]
    shape = (len(texts), len(texts[0]) if texts else 0)
    for name, array in found.values.items():
        if array.shape != shape or any(len(row) != shape[1] for row in texts):
            lengths = sorted({len(row) for row in texts})
            raise InvalidBridge(f"tokens: came {len(texts)} rows of {lengths} texts, {name!r} has {list(array.shape)}")
    held = np.array(texts, dtype=object).reshape(shape)
    return {"values": np.sum(list(found.values.values()), axis=0), "data": held}


def _of_names(found: Told, manifest: Manifest | None) -> dict[str, Any]:
    """[N, M] of what the answer itself names: features with what was sent, or groups."""
    parts = {"values": found.values[GROUPS], "feature_names": list(found.names or ()), **_bounds(found, _only_groups)}
    if found.sent is not None:
        values, shown = found.sent
        numbers = [_numbers(column, manifest, place) for place, column in enumerate(zip(*values, strict=True))]
        held = np.array(values, dtype=object)
        words = np.array([[isinstance(value, str) for value in row] for row in values])
        parts["data"] = np.stack(numbers, axis=1)
        parts["display_data"] = np.where(words, np.array(shown, dtype=object), held)
    return parts


def _only_groups(arrays: Mapping[str, Array]) -> Array:
    return arrays[GROUPS]


def _numbers(column: Sequence[Any], manifest: Manifest | None, place: int) -> Array:
    """A column as plots place it: numbers, or the numbers of the levels of a category.

    Without a manifest a category's levels are numbered as they come.
    """
    if not any(isinstance(value, str) for value in column):
        return np.array(column, dtype=np.float64)
    levels = [] if manifest is None else [level.value for level in manifest.features[place].levels]
    order = list(dict.fromkeys([*levels, *column]))
    return np.array([order.index(value) for value in column], dtype=np.float64)


def _of_inputs(
    found: Told, inputs: Mapping[str, Array] | None, manifest: Manifest | None, *, named: bool
) -> dict[str, Any]:
    """[N, columns] of attributions by input; or those of an only input in its own shape, where nothing has a name."""
    _check_inputs(found, inputs)
    features = () if manifest is None else manifest.features
    alone = len(found.values) == 1 and not features and found.places is None and not named
    if alone:
        ((name, values),) = found.values.items()
        data = None if inputs is None else inputs[name]
        return {"values": values, "data": data, **_bounds(found, lambda arrays: arrays[name])}
    columns = _columns(found, features)
    parts: dict[str, Any] = {
        "values": joined(found.values, columns),
        "feature_names": [column.name for column in columns],
        **_bounds(found, lambda arrays: joined(arrays, columns)),
    }
    if inputs is not None:
        parts["data"] = joined(inputs, columns)
        parts["display_data"] = _shown(parts["data"], columns)
    return parts


def _columns(found: Told, features: Sequence[Any]) -> list[Column]:
    sizes = {name: int(np.prod(array.shape[1:])) for name, array in found.values.items()}
    if found.places is not None and not features:
        named = [Column(*place) for place in found.places]
        fed = {column.input for column in named}
        return named + columns_of((), {name: size for name, size in sizes.items() if name not in fed})
    columns = columns_of(features, sizes)
    for column in columns:
        if column.index >= sizes.get(column.input, 0):
            raise InvalidBridge(f"manifest: feature {column.name!r} feeds {column.input!r}, which has no such element")
    return columns


def _check_inputs(found: Told, inputs: Mapping[str, Array] | None) -> None:
    for name, values in found.values.items():
        if inputs is not None and name not in inputs:
            raise InvalidBridge(f"inputs: nothing came for {name!r}, which has attributions")
        if inputs is not None and inputs[name].shape != values.shape:
            came = list(inputs[name].shape)
            raise InvalidBridge(f"inputs: came {came} for {name!r}, its attributions are {list(values.shape)}")


def _shown(data: Array, columns: Sequence[Column]) -> Array:
    """Data as people read it: a category by the label of its level."""
    shown = data.astype(object)
    for place, column in enumerate(columns):
        levels = [] if column.feature is None else column.feature.levels
        if levels:
            shown[:, place] = [levels[int(code)].label or levels[int(code)].value for code in data[:, place]]
    return shown


def _bounds(found: Told, joined_up: Any) -> dict[str, Array]:
    """`error_std`, `lower_bounds` and `upper_bounds`, where errors are known."""
    if found.errors is None:
        return {}
    values, errors = joined_up(found.values), joined_up(found.errors)
    sampled = found.error_kind == "standard_error"
    width = errors if not sampled else NORMAL_95 * errors
    if found.half_widths is not None:  # of few samples: wider than the normal interval
        width = joined_up(found.half_widths)
    bounds = {"lower_bounds": values - width, "upper_bounds": values + width}
    return bounds | ({"error_std": errors} if sampled else {})


def _checked(names: Sequence[str], values: Array) -> list[str]:
    if values.ndim != 2 or len(names) != values.shape[1]:
        raise InvalidBridge(f"feature_names: came {len(names)}, expected one for each of {list(values.shape[1:])}")
    return [str(name) for name in names]
