"""The checks that can be asked for, by name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ..errors import InvalidParameter, MethodUnavailable
from ..methods import Method
from .base import Asked, Check
from .curves import DELETION_INSERTION
from .infidelity import INFIDELITY
from .made import Checks
from .neighbours import LOCAL_LIPSCHITZ, MAX_SENSITIVITY

CHECKS: dict[str, Check] = {
    check.name: check for check in (DELETION_INSERTION, INFIDELITY, MAX_SENSITIVITY, LOCAL_LIPSCHITZ)
}


def resolve_checks(checks: Any, method: Method, settings: Mapping[str, Any], references: Collection[str]) -> Checks:
    """The checks asked for: None, a list of names, or parameters by name; `references`: what was given of a
    "baseline" and a "background".

    Raises InvalidParameter for what is unknown, MethodUnavailable where a check cannot be made with what was given.
    """
    if checks is None:
        return Checks()
    if isinstance(checks, str) or not isinstance(checks, (list, tuple, Mapping)):
        raise InvalidParameter(f"checks: came {checks!r}, expected names, or parameters by name")
    found = []
    for name in dict.fromkeys(checks):
        given = (checks[name] or {}) if isinstance(checks, Mapping) else {}
        check = CHECKS.get(name) if isinstance(name, str) else None
        if check is None:
            raise InvalidParameter(f"checks: came {name!r}, expected names among {', '.join(CHECKS)}")
        if not isinstance(given, Mapping):
            raise InvalidParameter(f"checks: came {given!r} for {name}, expected its parameters by name")
        parameters = check.resolve(given)
        reason = check.refuse(Asked(method, settings, parameters, references))
        if reason is not None:
            raise MethodUnavailable(f"check {name}: {reason}")
        found.append((check, parameters))
    return Checks(tuple(found))
