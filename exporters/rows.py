"""A background set as a person has it: a CSV file whose header names the features."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model_store import Feature, InvalidInput, Manifest, decode_rows

from .describing import rebuilt
from .errors import InvalidImport
from .exported import Array

MOST_ROWS = 100


def read_table(path: Path) -> tuple[list[str], list[list[str]]]:
    """Header and rows. Raises InvalidImport for a file without both, or with a row of another length."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            lines = [line for line in csv.reader(stream, skipinitialspace=True) if line]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidImport(f"background {path.name}: cannot be read as CSV in UTF-8: {error}") from error
    if len(lines) < 2:
        raise InvalidImport(f"background {path.name}: {len(lines)} lines, expected a header and at least one row")
    header = [name.strip() for name in lines[0]]
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(header):
            raise InvalidImport(
                f"background {path.name}, line {number}: {len(line)} values, the header has {len(header)}"
            )
    return header, lines[1:]


def named_by_header(manifest: Manifest, header: Sequence[str]) -> Manifest:
    """The draft with its numbered features called as the header's columns, in the header's order."""
    if len(header) != len(manifest.features) or len(set(header)) != len(header):
        return manifest
    features = [
        Feature(name=name, label=name, input=feature.input, index=feature.index)
        for name, feature in zip(header, manifest.features, strict=True)
    ]
    return rebuilt(manifest, features=features)


def background_rows(
    manifest: Manifest, path: Path, header: Sequence[str], lines: Sequence[Sequence[str]]
) -> dict[str, Array]:
    """At most 100 rows, evenly spaced through the file, through the decoder that clients' rows go through."""
    names = [feature.name for feature in manifest.features]
    if not names:
        raise InvalidImport(f"background {path.name}: the model has no named features; describe them in a manifest")
    if sorted(header) != sorted(names):
        missing = [name for name in names if name not in header]
        unknown = [name for name in header if name not in names]
        raise InvalidImport(
            f"background {path.name}: its header does not name the model's features"
            + (f"; missing: {', '.join(missing[:5])}" if missing else "")
            + (f"; unknown: {', '.join(unknown[:5])}" if unknown else "")
        )
    chosen = np.unique(np.linspace(0, len(lines) - 1, min(MOST_ROWS, len(lines))).round().astype(int))
    kinds = {feature.name: feature.kind for feature in manifest.features}
    rows = []
    for place in chosen.tolist():
        values = zip(header, lines[place], strict=True)
        rows.append({name: _value(kinds[name], text, name, path, place + 2) for name, text in values})
    try:
        return decode_rows(manifest, rows).inputs
    except InvalidInput as error:
        raise InvalidImport(f"background {path.name}: {error}") from error


def _value(kind: str, text: str, name: str, path: Path, line: int) -> Any:
    if kind == "category":
        return text
    try:
        return float(text)
    except ValueError as error:
        raise InvalidImport(f"background {path.name}, line {line}: {name} is {text!r}, expected a number") from error
