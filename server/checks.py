"""Which checks an explanation is put to, and what they need to be given beside what the method needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import explain

from .errors import BadRequest
from .messages import ExplainRequest


def asked(request: ExplainRequest, limit: int) -> dict[str, dict[str, Any]]:
    """The parameters of every check that was asked for, by name.

    Raises:
        BadRequest: neither names nor an object, an unknown name, or a number larger than ``limit``.
    """
    given = request.checks
    if given is None:
        return {}
    if not isinstance(given, list | dict):
        raise BadRequest("checks", repr(given)[:60], "a list of names, or an object of parameters by name")
    for name in given:
        if not isinstance(name, str) or name not in explain.CHECKS:
            raise BadRequest("checks", repr(name)[:60], f"names among {', '.join(explain.CHECKS)}")
    found = {name: _parameters(name, given[name], limit) if isinstance(given, dict) else {} for name in given}
    return dict(found)


def _parameters(name: str, given: Any, limit: int) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise BadRequest(f"checks.{name}", repr(given)[:60], "an object of the check's parameters")
    for key, value in given.items():
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) > limit:
            raise BadRequest(f"checks.{name}.{key[:60]}", f"{value:g}"[:40], f"at most {limit}")
    return dict(given)


def remove(request: ExplainRequest) -> bool:
    """Whether a check that was asked for removes elements, so that something has to take their place."""
    names = request.checks if isinstance(request.checks, list | dict) else ()
    known = [explain.CHECKS[name] for name in names if isinstance(name, str) and name in explain.CHECKS]
    return any("reference" in check.parameters["properties"] for check in known)


def describe() -> list[Mapping[str, Any]]:
    """What ``/explainers`` says of the checks."""
    return [
        {
            "name": check.name,
            "summary": check.summary,
            "parameters": check.parameters,
            "figures": list(check.figures),
            "cost": check.passes,
            "caution": check.caution,
        }
        for check in explain.CHECKS.values()
    ]
