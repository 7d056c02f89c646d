"""Write the pages of docs/ that are tables of what the code says: settings, methods, the record of a decision.

`make docs` writes them; `tests/test_docs.py` compares them with what would be written.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import audit
import explain
import server

FOLDER = Path(__file__).parent
METHODS_PAGE = """# Explanation methods

What `method` may be in an explain request. A model offers the methods whose needs it meets: a gradient through all of
its operators, a baseline or a background set in its manifest, a spatial layer. An answer names all parameters,
defaulted ones included. Cost is in forward passes (F) of one item.
"""
RECORD_PAGE = """# The record of a decision

Every row of every answer is a decision with the id `<ulid>.<row>`, committed before the answer leaves. Its *entry* is
the object below as canonical JSON (RFC 8785), stored with the SHA-256 of those bytes; its tensors are stored beside it
as raw little-endian bytes, and the entry holds the SHA-256 of each. `GET /v1/decisions/{id}` recomputes them all and
returns entry and content; a record that does not match its digests is refused, naming what differs.
The JSON Schema is `audit/schema/decision-1.json`; no entry that leaves it is stored.
"""


def pages() -> dict[str, str]:
    """File name and text of every generated page."""
    return {
        "configuration.md": server.configuration_page(),
        "methods.md": METHODS_PAGE + "".join(_method(method) for method in explain.METHODS.values()),
        "decision-record.md": RECORD_PAGE + "\n" + _table(("field", "type", "what"), record_rows(audit.entry_schema())),
    }


def _method(method: Any) -> str:
    needs = ", ".join(sorted(method.needs)) or "nothing beyond the model"
    head = (
        f"\n## `{method.name}`\n\n{method.summary}\n\nNeeds: {needs}. Cost: {method.passes}. Source: {method.source}.\n"
    )
    rows = [
        (f"`{name}`", json.dumps(rule["default"]), _allowed(rule), rule["description"])
        for name, rule in method.parameters["properties"].items()
    ]
    return head + ("\n" + _table(("parameter", "default", "allowed", "what"), rows) if rows else "\nNo parameters.\n")


def _allowed(rule: dict[str, Any]) -> str:
    if "enum" in rule:
        return ", ".join(f"`{json.dumps(value)}`" for value in rule["enum"])
    bounds = [f"{word} {rule[key]}" for key, word in (("minimum", "at least"), ("maximum", "at most")) if key in rule]
    return ", ".join([_type(rule), *bounds])


def _type(rule: dict[str, Any]) -> str:
    kinds = rule.get("type", "any")
    return " or ".join([kinds] if isinstance(kinds, str) else kinds)


def record_rows(
    schema: dict[str, Any], path: str = "", root: dict[str, Any] | None = None
) -> Iterator[tuple[str, ...]]:
    """One row per field of a schema, nested fields by their path."""
    root = root or schema
    for name, given in schema.get("properties", {}).items():
        rule = root["$defs"][given["$ref"].removeprefix("#/$defs/")] | given if "$ref" in given else given
        kind = (
            json.dumps(rule["const"]) if "const" in rule else ", ".join(rule["enum"]) if "enum" in rule else _type(rule)
        )
        yield f"`{path}{name}`", kind, rule.get("description", "")
        yield from record_rows(rule, f"{path}{name}.", root)
        if isinstance(nested := rule.get("additionalProperties"), dict):
            yield from record_rows(nested, f"{path}{name}.<name>.", root)


def _table(head: tuple[str, ...], rows: Any) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def main() -> None:
    """Write every page."""
    for name, text in pages().items():
        (FOLDER / name).write_text(text, "utf-8")
        print(f"docs/{name}")


if __name__ == "__main__":
    main()
