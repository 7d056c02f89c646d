"""docs/operators.md shows what every judge said of every operator, and was made with the versions that are pinned.

That the page is what docs/operators.json and the registry say is in tests/test_docs.py.
"""

import importlib
import importlib.metadata
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "operators.md").read_text("utf-8")
MEASURED: dict[str, Any] = json.loads((ROOT / "docs" / "operators.json").read_text("utf-8"))


def unmeasured(rules: Iterable[str], errors: dict[str, Any]) -> list[str]:
    """Operators with a rule that the file does not list, or none of whose gradients in the suite was checked."""
    return [name for name in rules if name not in errors or (errors[name]["left_out"] and not errors[name]["checked"])]


def test_every_rule_was_measured() -> None:
    """Wherever the backend suite has a gradient to check (`make docs-errors`)."""
    rules = importlib.import_module("explain.registry").REGISTRY.rules
    names = [f"{domain}::{name}" if domain else name for domain, name in rules]
    assert unmeasured(names, MEASURED["operators"]) == ["DequantizeLinear"], (
        "its scale is held: test_rules_quantized.py"
    )


def test_a_rule_without_a_figure_is_named() -> None:
    rows = {"Relu": (2, 1), "Trilu": (0, 0), "Tanh": (0, 1)}
    errors = {name: {"checked": checked, "left_out": left} for name, (checked, left) in rows.items()}
    assert unmeasured(["Relu", "Trilu", "Tanh", "ml::New"], errors) == ["Tanh", "ml::New"]


def outdated(versions: dict[str, str], pins: str) -> list[str]:
    """What was measured with another version than is pinned and installed."""
    pinned = dict(line.split("==") for line in pins.splitlines() if "==" in line)
    return [
        name
        for name, version in versions.items()
        if not version == pinned[name] == importlib.metadata.version(name).partition("+")[0]
    ]


def test_errors_were_measured_with_what_is_installed() -> None:
    """A new version of a judge or of a runtime: `make docs-errors`."""
    versions = MEASURED["versions"]
    assert list(versions) == ["onnx", "onnxruntime", "torch", "onnx-ad"]
    assert outdated(versions, (ROOT / "constraints.txt").read_text()) == []


def test_an_outdated_measurement_is_named() -> None:
    installed = importlib.metadata.version("onnx")
    pins = f"# pins\nonnx=={installed}\n"
    assert outdated({"onnx": installed}, pins) == []
    assert outdated({"onnx": "1.0"}, pins) == ["onnx"]
    assert outdated({"onnx": installed}, "onnx==1.0\n") == ["onnx"]


def test_errors_of_every_judge_are_there() -> None:
    """The columns say what was measured, and how many outputs each of the other judges judged."""
    rows = {cells[0].strip("`"): cells for cells in table(PAGE)}
    columns = rows["operator"]
    assert columns[-4:] == ["float64", "float32", "torch", "onnx-ad"]
    for name, measured in MEASURED["operators"].items():
        if (cells := rows.get(name)) is not None:
            for column, key in (("torch", "torch"), ("onnx-ad", "onnx_ad")):
                said = "" if measured[key] is None else f"{measured[key]:.0e} ({measured[f'{key}_tests']})"
                assert cells[columns.index(column)] == said, f"{name}: {column}"


def above(bar: float, errors: dict[str, Any]) -> list[str]:
    """Operators with a larger error against PyTorch or onnx-ad: a hundred times larger where a note says why."""
    largest = {name: max(row["torch"] or 0.0, row["onnx_ad"] or 0.0) for name, row in errors.items()}
    return [name for name, row in errors.items() if largest[name] > (100 * bar if row.get("rounded") else bar)]


def test_errors_are_within_the_bar() -> None:
    """1e-4 in float32, or a reason on the page; and in float64 hardly any."""
    errors = MEASURED["operators"]
    assert above(1e-4, errors) == []
    assert [name for name, row in errors.items() if (row["torch_float64"] or 0.0) > 1e-6] == []
    notes = PAGE.partition("## Above 1e-4")[2]
    for name, row in errors.items():
        assert all(f"- `{name}`: {reason}" in notes for key in ("rounded", "mistaken") for reason in row.get(key, ()))


def test_an_error_above_the_bar_is_named() -> None:
    said = {"A": (2.0, None), "B": (None, 2.0), "C": (2.0, 2.0), "D": (0.5, None), "E": (1.0, 101.0)}
    errors: dict[str, Any] = {name: {"torch": torch, "onnx_ad": onnx_ad} for name, (torch, onnx_ad) in said.items()}
    errors["C"]["rounded"] = errors["E"]["rounded"] = ["why"]
    assert above(1.0, errors) == ["A", "B", "E"]


def table(text: str) -> list[list[str]]:
    """The rows of a page's tables, cell by cell."""
    return [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in text.splitlines()
        if line.startswith("| ")
    ]
