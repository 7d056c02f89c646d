"""Histogram-based gradient boosting of scikit-learn, whose converter hands over what ONNX does not take.

skl2onnx states where missing values go as booleans of several kinds; an attribute holds whole numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def converters() -> dict[str, dict[type, Callable[..., Any]]]:
    """What to pass to ``convert_sklearn``, by the names of its parameters."""
    from skl2onnx.common._registration import get_converter, get_shape_calculator
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    kinds = (HistGradientBoostingClassifier, HistGradientBoostingRegressor)
    names = {kind: f"Sklearn{kind.__name__}" for kind in kinds}
    return {
        "custom_conversion_functions": {kind: _whole_numbers(get_converter(name)) for kind, name in names.items()},
        "custom_shape_calculators": {kind: get_shape_calculator(name) for kind, name in names.items()},
    }


def _whole_numbers(convert: Callable[..., Any]) -> Callable[..., Any]:
    def converted(scope: Any, operator: Any, container: Any) -> None:
        _refuse_categories(operator.raw_operator)
        convert(scope, operator, _Numbers(container))

    return converted


def _refuse_categories(estimator: Any) -> None:
    """The converter would read a split on categories as one on their numbers."""
    if getattr(estimator, "is_categorical_", None) is not None:
        raise NotImplementedError(f"{type(estimator).__name__} with categorical_features is not converted; encode them")


class _Numbers:
    """A container of skl2onnx that takes lists of booleans."""

    def __init__(self, container: Any) -> None:
        self._container = container

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def add_node(self, op_type: str, inputs: Any, outputs: Any, **attributes: Any) -> None:
        """A node, its lists of whole numbers made plain."""
        name = "nodes_missing_value_tracks_true"
        if name in attributes:
            attributes[name] = [int(value) for value in attributes[name]]
        self._container.add_node(op_type, inputs, outputs, **attributes)
