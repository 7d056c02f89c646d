"""What a request says in JSON, held against a JSON Schema: a kind by its name, alone or with its options."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from typing import Any

from .errors import InvalidParameter

Schema = Mapping[str, Any]


def read_kind(label: str, spec: Any, kinds: Mapping[str, Schema]) -> tuple[str, Any]:
    """The kind and what came with it ({} for a bare name): from "kind" or {"kind": options}. Raises InvalidParameter.

    Options of a kind whose schema is an object are checked and completed with their defaults; what else comes is left
    to whoever reads it.
    """
    kind: Any
    given: Any = {}
    if isinstance(spec, str):
        kind = spec
    elif isinstance(spec, Mapping) and len(spec) == 1:
        kind, given = next(iter(spec.items()))
    else:
        raise refused(label, spec, f"one of {', '.join(kinds)}, or an object with one of them as its only member")
    if kind not in kinds:
        raise refused(label, kind, f"one of {', '.join(kinds)}")
    schema = kinds[kind]
    return kind, _options(f"{label}: {kind}", given, schema) if schema.get("type") == "object" else given


def _options(label: str, given: Any, schema: Schema) -> dict[str, Any]:
    known = schema["properties"]
    if not isinstance(given, Mapping):
        raise refused(label, given, f"an object with {', '.join(known) or 'no members'}")
    for name, value in given.items():
        if name not in known:
            raise InvalidParameter(f"{label}: option {name!r} is unknown; expected {', '.join(known) or 'none'}")
        if not fits(value, known[name]):
            raise refused(f"{label}: {name}", value, known[name]["description"])
    for name in schema.get("required", ()):
        if name not in given:
            raise InvalidParameter(f"{label}: {name} is missing; expected {known[name]['description']}")
    return {name: given.get(name, known[name].get("default")) for name in known}


def fits(value: Any, schema: Schema) -> bool:
    """Whether a JSON value is what a schema allows; knows the few keywords that our schemas use."""
    if "anyOf" in schema:
        return any(fits(value, one) for one in schema["anyOf"])
    if "enum" in schema:
        return isinstance(value, str) and value in schema["enum"]
    kind = schema["type"]
    if kind in ("integer", "number"):
        if isinstance(value, bool) or not isinstance(value, int if kind == "integer" else int | float):
            return False
        above = value > schema.get("exclusiveMinimum", -math.inf)
        return math.isfinite(value) and above and value >= schema.get("minimum", -math.inf)
    if kind == "array":
        least, most = schema.get("minItems", 0), schema.get("maxItems", math.inf)
        return (
            isinstance(value, list | tuple)
            and least <= len(value) <= most
            and all(fits(one, schema["items"]) for one in value)
        )
    return isinstance(value, {"string": str, "boolean": bool}[kind])


def object_schema(properties: Schema, required: tuple[str, ...] = ()) -> dict[str, Any]:
    """The schema of a kind's options."""
    schema = {"type": "object", "properties": dict(properties), "additionalProperties": False}
    return schema | ({"required": list(required)} if required else {})


def kinds_schema(kinds: Mapping[str, Schema], bare: tuple[str, ...], description: str) -> dict[str, Any]:
    """The schema of a spec: a bare name, or an object whose only member is a kind."""
    members = [
        {"type": "object", "properties": {kind: schema}, "required": [kind], "additionalProperties": False}
        for kind, schema in kinds.items()
    ]
    return {"description": description, "anyOf": [{"type": "string", "enum": list(bare)}, *members]}


def refused(label: str, value: Any, expected: str) -> InvalidParameter:
    """The error that says what came and what was expected."""
    return InvalidParameter(f"{label}: came {reprlib.repr(value)}, expected {expected}")
