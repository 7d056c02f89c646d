"""Figures about an answer as JSON's own types: what the wire formats write and the decision records keep."""

from __future__ import annotations

from typing import Any

import numpy as np

LARGEST = 1.7976931348623157e308


def plain(value: Any) -> Any:
    """A value as JSON's own types: numpy scalars and arrays unwrapped, NaN and infinity as null.

    For figures about an answer, where null reads "not known"; never for outputs or attributions.
    """
    if isinstance(value, dict):
        return {str(key): plain(member) for key, member in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(member) for member in value]
    if isinstance(value, float) and not abs(value) <= LARGEST:
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
