"""A background that many explanations of one model compare with: checked, copied and hashed once, not at each of them.

Because its rows cannot change, a program may be compiled for it, and then what the model makes of the rows is computed
when the program is loaded instead of at each run (see programs/deeplift.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .arrays import Arrays, check_inputs, digest_arrays, shares
from .errors import InvalidInputs, InvalidParameter
from .model import Model, ModelLike


@dataclass(frozen=True, eq=False)
class Background:
    """`rows` [B, item...] by input, in the model's dtypes, and `weight` [B] float64, sum 1, how much each counts; both
    read-only. `digest` is that of the rows, `key` that of rows and weights; `model` is the handle it was made for."""

    rows: Arrays
    weight: np.ndarray = field(repr=False)
    digest: str
    key: str = field(repr=False)
    model: Model = field(repr=False)

    @classmethod
    def of(cls, model: ModelLike, rows: Any, weight: Any = None) -> Background:
        """Prepare rows, by input name or one array for a model with one input, for `begin`; raises InvalidParameter."""
        handle = Model.of(model)
        names = [name for name in handle.graph.inputs if name not in handle.held]
        given = rows if isinstance(rows, Mapping) or len(names) != 1 else {names[0]: rows}
        try:
            checked = check_inputs(handle, given, of_features=True)
        except InvalidInputs as error:
            raise InvalidParameter(f"background: {error}") from error
        share = shares("background_weight", weight, len(checked[names[0]]), "background row")
        kept = {name: _fixed(array) for name, array in checked.items()}
        digest = digest_arrays(kept) or ""
        return cls(kept, _fixed(share), digest, f"{digest} {digest_arrays({'weight': share})}", handle)

    def __len__(self) -> int:
        return len(self.weight)

    def fits(self, model: Model, inputs: Arrays) -> bool:
        """Whether it was made for this handle, and its rows have the shapes of these items."""
        return self.model is model and all(rows.shape[1:] == inputs[name].shape[1:] for name, rows in self.rows.items())


def _fixed(array: np.ndarray) -> np.ndarray:
    copy = array.copy()
    copy.flags.writeable = False
    return copy
