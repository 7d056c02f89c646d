"""Measure every operator's gradient over the node tests of the ONNX backend suite, and keep the largest errors.

`make docs-errors` writes docs/operators.json, of which `make docs` makes columns of docs/operators.md. What is
measured, and how, is in tests/explain/differences.py; a minute on one core.
"""

import json
from collections import defaultdict
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("operators.json")


def measured() -> dict[str, dict[str, Any]]:
    """For each operator how many outputs were checked, how many are left out, and the largest errors."""
    suite = import_module("tests.explain.test_backend_suite")
    found: dict[str, list[Any]] = defaultdict(list)
    for test, output in suite.pairs():
        found[test.operator].append(suite.judge(test, output))
    rows = {operator: _summary(outcomes) for operator, outcomes in sorted(found.items())}
    return {operator: row for operator, row in rows.items() if row["checked"] or row["left_out"]}


def _summary(outcomes: list[Any]) -> dict[str, Any]:
    errors = [outcome.errors for outcome in outcomes if outcome.verdict == "right"]
    return {
        "checked": len(errors),
        "left_out": sum(outcome.verdict not in ("right", "none") for outcome in outcomes),
        "float64": _largest([error.double for error in errors]),
        "float32": _largest([error.single for error in errors]),
    }


def _largest(errors: list[float | None]) -> float | None:
    """Two digits; None where nothing was measured."""
    known = [error for error in errors if error is not None]
    return float(f"{max(known):.1e}") if known else None


def main() -> None:
    """Write the file."""
    versions = {name: metadata.version(name) for name in ("onnx", "onnxruntime")}
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in measured().items())
    FILE.write_text(f'{{\n "versions": {json.dumps(versions)},\n "operators": {{\n{lines}\n }}\n}}\n', "utf-8")


if __name__ == "__main__":
    main()
