"""The published JSON Schema of an entry, and the check that every entry passes before it is stored.

The check knows the few keywords that our schema uses and refuses a schema with any other, so that no rule of it is
passed over in silence. Source: JSON Schema, draft 2020-12.
"""

import functools
import json
import re
from collections.abc import Iterator
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
SILENT = {"$schema", "$defs", "title", "description"}


@functools.cache
def entry_schema() -> dict[str, Any]:
    """The JSON Schema of an entry of schema version 1."""
    text = resources.files(__package__).joinpath("schema/decision-1.json").read_text("utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def check_entry(entry: dict[str, Any]) -> None:
    """Raise InvalidDraft for the first place where an entry leaves the schema."""
    schema = entry_schema()
    for field, came, expected in violations(entry, schema, schema, ""):
        raise InvalidDraft(field or "entry", came, expected)


def violations(value: Any, rule: dict[str, Any], root: dict[str, Any], path: str) -> Iterator[tuple[str, str, str]]:
    """Every (path, what came, what was expected) where a JSON value breaks a schema rule."""
    for keyword, argument in rule.items():
        if keyword in SILENT:
            continue
        if keyword not in KEYWORDS:
            raise ValueError(f"schema keyword '{keyword}' at '{path}' is not supported")
        yield from KEYWORDS[keyword](value, argument, rule, root, path)


def _type(value: Any, argument: Any, _rule: Any, _root: Any, path: str) -> Iterator[tuple[str, str, str]]:
    names = [argument] if isinstance(argument, str) else argument
    accepted = tuple(kind for name in names for kind in TYPES[name])
    stray_bool = isinstance(value, bool) and bool not in accepted
    if stray_bool or not isinstance(value, accepted):
        yield path, _show(value), " or ".join(names)


def _const(value: Any, argument: Any, _rule: Any, _root: Any, path: str) -> Iterator[tuple[str, str, str]]:
    yield from _enum(value, [argument], None, None, path)


def _enum(value: Any, argument: Any, _rule: Any, _root: Any, path: str) -> Iterator[tuple[str, str, str]]:
    if not any(type(value) is type(item) and value == item for item in argument):
        yield path, _show(value), " or ".join(_show(item) for item in argument)


def _pattern(value: Any, argument: Any, _rule: Any, _root: Any, path: str) -> Iterator[tuple[str, str, str]]:
    if isinstance(value, str) and not re.search(argument.removesuffix("$") + r"\Z", value):
        yield path, _show(value), f"text of the form {argument}"


def _minimum(value: Any, argument: Any, _rule: Any, _root: Any, path: str) -> Iterator[tuple[str, str, str]]:
    if isinstance(value, int | float) and value < argument:
        yield path, _show(value), f"at least {argument}"


def _items(value: Any, argument: Any, _rule: Any, root: Any, path: str) -> Iterator[tuple[str, str, str]]:
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from violations(item, argument, root, f"{path}[{index}]")


def _required(value: Any, argument: Any, _rule: Any, _root: Any, path: str) -> Iterator[tuple[str, str, str]]:
    if isinstance(value, dict):
        for name in argument:
            if name not in value:
                yield _join(path, name), "nothing", "a value"


def _properties(value: Any, argument: Any, _rule: Any, root: Any, path: str) -> Iterator[tuple[str, str, str]]:
    if isinstance(value, dict):
        for name in argument.keys() & value.keys():
            yield from violations(value[name], argument[name], root, _join(path, name))


def _additional(value: Any, argument: Any, rule: Any, root: Any, path: str) -> Iterator[tuple[str, str, str]]:
    if isinstance(value, dict):
        for name in value.keys() - rule.get("properties", {}).keys():
            if argument is False:
                yield _join(path, name), "a field that the schema does not name", "no such field"
            else:
                yield from violations(value[name], argument, root, _join(path, name))


def _ref(value: Any, argument: Any, _rule: Any, root: Any, path: str) -> Iterator[tuple[str, str, str]]:
    yield from violations(value, root["$defs"][argument.removeprefix("#/$defs/")], root, path)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _show(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."


KEYWORDS = {
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
