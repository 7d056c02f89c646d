"""The door of the compiler: a model and the name of a program in, a program out."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np

from .arrays import digest_arrays
from .background import Background
from .errors import InvalidParameter
from .model import Model, ModelLike
from .programs import PROGRAMS, Program

BOUND = "bound "
MOST_BOUND = 4


def compile(model: ModelLike, program: str, **options: Any) -> Program:  # noqa: A001 - the field's word for it
    """Compile a program of a model (once: a `Model` keeps what was compiled).

    `program` is one of `PROGRAMS`; `options` are those of its builder (such as `output`, `space`, `layer`). Raises
    InvalidParameter for an unknown program or option, UnsupportedOperator or MethodUnavailable where the model does
    not allow it.
    """
    if program not in PROGRAMS:
        raise InvalidParameter(f"program: came {program!r}, expected one of {', '.join(PROGRAMS)}")
    handle = Model.of(model)
    key = f"{program} {[(name, _spelled(options[name])) for name in sorted(options)]!r}"
    if isinstance(options.get("background"), Mapping | Background):  # what the program holds of it may be large
        return handle.remember(f"{BOUND}{key}", lambda: _built(handle, program, options), BOUND, MOST_BOUND)
    return handle.remember(key, lambda: _built(handle, program, options))


def _built(model: Model, program: str, options: dict[str, Any]) -> Program:
    builder = PROGRAMS[program]
    known = tuple(inspect.signature(builder).parameters)[1:]  # behind the model
    unknown = sorted(set(options) - set(known))
    if unknown:
        expected = ", ".join(known) or "no options"
        raise InvalidParameter(f"option {unknown[0]!r} of program {program!r} is unknown; expected {expected}")
    return builder(model, **options)


def _spelled(value: Any) -> Any:
    """An option as it stands in the key of what was compiled: arrays by their digest."""
    if isinstance(value, Background):
        return value.key
    if isinstance(value, Mapping):
        return digest_arrays({name: np.asarray(array) for name, array in value.items()})
    return digest_arrays({"": value}) if isinstance(value, np.ndarray) else value
