"""Measure every operator's gradient over the node tests of the ONNX backend suite, and keep the largest errors.

`make docs-errors` writes docs/operators.json, of which `make docs` makes columns of docs/operators.md. What is measured
against finite differences, and how, is in tests/explain/differences.py; against PyTorch and against onnx-ad, in
tests/explain/others.py. A minute on one core.
"""

import json
from collections import defaultdict
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("operators.json")
MADE_WITH = ("onnx", "onnxruntime", "torch", "onnx-ad")
FIGURES = ("float64", "float32", "torch", "torch_float64", "onnx_ad")
NOTES = ("rounded", "mistaken")
Said = dict[str, Any]


def measured() -> dict[str, dict[str, Any]]:
    """Every operator with a rule or a test: how many outputs were checked, how many left out, the largest errors."""
    suite, registry = import_module("tests.explain.test_backend_suite"), import_module("explain.registry").REGISTRY
    found: dict[str, list[Said | None]] = defaultdict(list)
    for test, output in suite.pairs():
        outcome = suite.judge(test, output)
        if outcome.verdict != "none":
            found[test.operator].append(_said(outcome.checked) if outcome.verdict == "right" else None)
    ruled = {f"{domain}::{name}" if domain else name for domain, name in registry.rules}
    return {operator: _summary(found.get(operator, [])) for operator in sorted(ruled | set(found))}


def _said(checked: Any) -> Said:
    """What every judge says of one gradient that is right."""
    others, own = import_module("tests.explain.others"), checked.errors
    by = others.by_torch(checked), others.by_torch_in_double(checked), others.by_onnx_ad(checked)
    notes = {key: others.reason(checked, getattr(others, key.upper())) for key in NOTES}
    return dict(zip(FIGURES, (own.double, own.single, *by), strict=True)) | notes


def _summary(found: list[Said | None]) -> dict[str, Any]:
    right = [said for said in found if said is not None]
    known = {key: [said[key] for said in right if said[key] is not None] for key in FIGURES}
    counts = {f"{key}_tests": len(known[key]) for key in ("torch", "onnx_ad")}
    errors = {key: _largest(errors) for key, errors in known.items()}
    notes = {key: sorted({said[key] for said in right if said[key]}) for key in NOTES}
    written = {key: reasons for key, reasons in notes.items() if reasons}
    return {"checked": len(right), "left_out": len(found) - len(right), **counts, **errors, **written}


def _largest(errors: list[Any]) -> float | None:
    """Two digits; None where nothing was measured."""
    return float(f"{max(errors):.1e}") if errors else None


def main() -> None:
    """Write the file."""
    versions = {name: metadata.version(name).partition("+")[0] for name in MADE_WITH}
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(row, allow_nan=False)}" for name, row in measured().items())
    FILE.write_text(f'{{\n "versions": {json.dumps(versions)},\n "operators": {{\n{lines}\n }}\n}}\n', "utf-8")


if __name__ == "__main__":
    main()
