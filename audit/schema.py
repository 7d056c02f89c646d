"""The published JSON Schema of an entry, and the check that every entry passes before it is stored.

The schema is compiled once into functions, since every answer waits for the check. They know the few keywords that our
schema uses; any other is refused when it is compiled, so that no rule is passed over in silence. Source: JSON Schema,
draft 2020-12.
"""

import functools
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any

from .errors import InvalidDraft

TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "null": (type(None),),
    "boolean": (bool,),
}
Rule = Mapping[str, Any]
SILENT = {"$schema", "$defs", "title", "description"}


@functools.cache
def entry_schema() -> dict[str, Any]:
    """The JSON Schema of an entry of schema version 1."""
    text = resources.files(__package__).joinpath("schema/decision-1.json").read_text("utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


@dataclass(frozen=True)
class Violation:
    """Where a JSON value breaks a rule, what came there and what was expected."""

    path: str
    came: str
    expected: str

    def within(self, part: str) -> "Violation":
        """The same, seen from the value around: `part` is a member's name, or an index in brackets."""
        between = "." if self.path and not self.path.startswith("[") else ""
        return replace(self, path=f"{part}{between}{self.path}")


Check = Callable[[Any], Violation | None]


def check_entry(entry: dict[str, Any]) -> None:
    """Raise InvalidDraft for the first place where an entry leaves the schema."""
    found = _entry_check()(entry)
    if found is not None:
        raise InvalidDraft(found.path or "entry", found.came, found.expected)


@functools.cache
def _entry_check() -> Check:
    return compiled(entry_schema(), entry_schema())


def compiled(rule: Rule, root: Rule) -> Check:
    """The check of one rule of a schema `root`; raises ValueError for a keyword that is not supported."""
    unknown = rule.keys() - KEYWORDS.keys() - SILENT
    if unknown:
        raise ValueError(f"schema keyword '{min(unknown)}' is not supported")
    checks = [KEYWORDS[keyword](argument, rule, root) for keyword, argument in rule.items() if keyword not in SILENT]
    if len(checks) == 1:
        return checks[0]

    def check(value: Any) -> Violation | None:
        for each in checks:
            found = each(value)
            if found is not None:
                return found
        return None

    return check


def _type(argument: Any, _rule: Rule, _root: Rule) -> Check:
    names = [argument] if isinstance(argument, str) else argument
    accepted = tuple(kind for name in names for kind in TYPES[name])
    expected = " or ".join(names)

    def check(value: Any) -> Violation | None:
        stray_bool = value.__class__ is bool and bool not in accepted
        if isinstance(value, accepted) and not stray_bool:
            return None
        return Violation("", _show(value), expected)

    return check


def _const(argument: Any, rule: Rule, root: Rule) -> Check:
    return _enum([argument], rule, root)


def _enum(argument: Any, _rule: Rule, _root: Rule) -> Check:
    def check(value: Any) -> Violation | None:
        if any(type(value) is type(item) and value == item for item in argument):
            return None
        return Violation("", _show(value), " or ".join(map(_show, argument)))

    return check


def _pattern(argument: Any, _rule: Rule, _root: Rule) -> Check:
    pattern = re.compile(argument.removesuffix("$") + r"\Z")

    def check(value: Any) -> Violation | None:
        if not isinstance(value, str) or pattern.search(value):
            return None
        return Violation("", _show(value), f"text of the form {argument}")

    return check


def _minimum(argument: Any, _rule: Rule, _root: Rule) -> Check:
    def check(value: Any) -> Violation | None:
        low = isinstance(value, int | float) and value < argument
        return Violation("", _show(value), f"at least {argument}") if low else None

    return check


def _items(argument: Any, _rule: Rule, root: Rule) -> Check:
    inner = compiled(argument, root)

    def check(value: Any) -> Violation | None:
        for index, item in enumerate(value if isinstance(value, list) else ()):
            found = inner(item)
            if found is not None:
                return found.within(f"[{index}]")
        return None

    return check


def _required(argument: Any, _rule: Rule, _root: Rule) -> Check:
    names = frozenset(argument)

    def check(value: Any) -> Violation | None:
        if not isinstance(value, dict) or names <= value.keys():
            return None
        return Violation(next(name for name in argument if name not in value), "nothing", "a value")

    return check


def _properties(argument: Any, _rule: Rule, root: Rule) -> Check:
    members = {name: compiled(rule, root) for name, rule in argument.items()}

    def check(value: Any) -> Violation | None:
        for name, item in value.items() if isinstance(value, dict) else ():
            inner = members.get(name)
            found = None if inner is None else inner(item)
            if found is not None:
                return found.within(name)
        return None

    return check


def _additional(argument: Any, rule: Rule, root: Rule) -> Check:
    known = frozenset(rule.get("properties", {}))
    inner = None if argument is False else compiled(argument, root)

    def check(value: Any) -> Violation | None:
        for name in value.keys() - known if isinstance(value, dict) else ():
            if inner is None:
                return Violation(name, "a field that the schema does not name", "no such field")
            found = inner(value[name])
            if found is not None:
                return found.within(name)
        return None

    return check


def _ref(argument: Any, _rule: Rule, root: Rule) -> Check:
    return compiled(root["$defs"][argument.removeprefix("#/$defs/")], root)


def _show(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."


KEYWORDS: dict[str, Callable[[Any, Rule, Rule], Check]] = {
    "type": _type,
    "const": _const,
    "enum": _enum,
    "pattern": _pattern,
    "minimum": _minimum,
    "items": _items,
    "required": _required,
    "properties": _properties,
    "additionalProperties": _additional,
    "$ref": _ref,
}
