"""The certificate: what was measured of a model before it may be served, each figure with its worst row.

Everything is measured on real rows, by programs the server itself would run in the engine it would use. What has no
independent judge here says "not judged" and why; it is not thereby wrong.
"""

from __future__ import annotations

import datetime
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

import explain
from model_store import Manifest

from .case import Case, case_of
from .checks import gradients, unjudged
from .describing import rebuilt, replaced
from .effort import QUICK, Effort, Pace
from .examining import examined
from .exported import Evidence, Exported
from .float16 import held_against
from .parity import TOLERANCE, client_inputs, parity

if TYPE_CHECKING:
    from torch import nn

    from engine import Engine

SCHEMA_VERSION = 2
_PARTS = ("judge", "completeness", "randomisation", "error_bars")
_LIBRARIES = ("numpy", "onnx", "onnxruntime", "onnxruntime-gpu", "torch", "scikit-learn", "skl2onnx")
Certificate = dict[str, Any]


def certify(
    exported: Exported,
    evidence: Evidence,
    engine: Engine,
    *,
    network: nn.Module | None = None,
    tolerance: float = TOLERANCE,
    effort: Effort = QUICK,
) -> Exported:
    """The export with its certificate, and without the methods that failed a check.

    network  the torch original in the explained space (logits or values), as the judge of gradients; None: no judge
    effort   how many of the evidence's rows the explanations are checked on; parity takes all of them

    Raises ParityFailed when the model itself is not faithful to its source.
    """
    start = time.monotonic()
    faithful = parity(exported, evidence, engine, tolerance=tolerance)
    case = case_of(exported, evidence, engine, effort.rows)
    found = measured(case, exported.manifest.explanation.methods, effort, network)
    withheld = failing(found)
    if withheld:
        exported = exported.but(manifest=refusing(exported.manifest, withheld))
    found["parity"] = faithful.to_dict()
    if exported.float16 is not None:
        every = client_inputs(exported.manifest, evidence.instances)
        found["float16"] = held_against(exported, every, evidence.rows, case)
    certificate = sealed(case, found, withheld, start)
    return exported.but(certificate=certificate)


def measured(
    case: Case,
    methods: Sequence[str],
    effort: Effort,
    network: nn.Module | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Certificate:
    """Coverage, gradients and the report of every method; `tell` gets the name of each when its turn comes."""
    pace = Pace(case)
    coverage = explain.coverage(case.model, output=case.output).to_dict()
    slopes: Any = unjudged("the model has operators without a derivative")
    if coverage["differentiable"]:
        slopes = gradients(case, network)
    reports = {}
    for name in methods:
        tell(name)
        reports[name] = examined(case, name, effort, pace, network)
    return {"coverage": coverage, "gradients": slopes, "methods": reports}


def sealed(case: Case, found: Certificate, withheld: Mapping[str, str], start: float) -> Certificate:
    """What was found with its verdict, and what it was found on: rows, runtime, versions and time."""
    reports = {name: report | {"passed": _passed(report)} for name, report in found["methods"].items()}
    failures = list(_failures(found, withheld))
    return {
        "schema_version": SCHEMA_VERSION,
        "model": case.model.digest,
        "passed": not failures,
        "failures": failures,
        **found,
        "methods": reports,
        "withheld": dict(withheld),
        "rows": {"n": len(case.rows), "digest": _digest(case)},
        "runtime": {"name": case.engine.info().runtime, "version": case.engine.info().version},
        "versions": _versions(),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - start, 1),
    }


def failing(found: Certificate) -> dict[str, str]:
    """Methods that an independent judge contradicts, that are not complete, or that refuse a real row, each with the
    reason.

    Where the judge contradicts the gradient itself, so are all methods that rest on gradients, judged or not.
    """
    failed: dict[str, str] = {}
    for name, report in found["methods"].items():
        wrong = [report[part] for part in ("judge",) if _is_figure(report[part]) and not report[part]["passed"]]
        if wrong:
            failed[name] = f"it failed its check: {_said(wrong[0])}"
    autograd = found["gradients"]["autograd"] if isinstance(found["gradients"], Mapping) else None
    if _is_figure(autograd) and not autograd["passed"]:
        resting = [name for name in found["methods"] if "gradient" in explain.METHODS[name].needs]
        failed = dict.fromkeys(resting, f"the gradient failed its check: {_said(autograd)}") | failed
    return failed | {name: str(each["refused"]) for name, each in found["methods"].items() if "refused" in each}


def refusing(manifest: Manifest, reasons: Mapping[str, str]) -> Manifest:
    """The manifest without some of its methods, each with the reason."""
    before = manifest.explanation
    offered = [name for name in before.methods if name not in reasons]
    after = replaced(
        before,
        method=before.method if before.method in offered else next(iter(offered), None),
        methods=offered,
        refused={**before.refused, **reasons},
    )
    return rebuilt(manifest, explanation=after)


def _failures(found: Certificate, withheld: Mapping[str, str]) -> Iterator[str]:
    """What failed of the model and of the methods that are offered, a sentence each."""
    offered = {name: report for name, report in found["methods"].items() if name not in withheld}
    general = {"parity": found.get("parity"), "float16": found.get("float16")}
    if isinstance(found["gradients"], Mapping) and any("gradient" in explain.METHODS[name].needs for name in offered):
        general |= {"gradient": found["gradients"]["autograd"], "gradient ": found["gradients"]["finite_difference"]}
    for name, figure in general.items():
        if _is_figure(figure) and figure["passed"] is False:
            yield f"{name.strip()}: {_said(figure)}"
    for name, report in offered.items():
        if "refused" in report:
            yield f"{name}: {report['refused']}"
        for figure in _figures(report):
            if figure["passed"] is False:
                yield f"{name}: {_said(figure)}"


def _figures(report: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The figures of a method that have a verdict."""
    for part in _PARTS:
        if _is_figure(report[part]):
            yield report[part]
            reasons = report[part].get("reasons")
            if _is_figure(reasons):
                yield reasons


def _passed(report: Mapping[str, Any]) -> bool | None:
    """False if anything of a method failed, None if nothing of it has a verdict."""
    if "refused" in report:
        return False
    verdicts = [figure["passed"] for figure in _figures(report) if figure["passed"] is not None]
    return all(verdicts) if verdicts else None


def _said(figure: Mapping[str, Any]) -> str:
    if "share" in figure:
        return f"{figure['what']}: {figure['share']:.3f}, worst on row {figure['row']}"
    if "median_spearman" in figure:
        return f"{figure['what']}: {figure['median_spearman']:.3f}, worst {figure['worst']:.3f} on row {figure['row']}"
    return f"{figure['what']} {figure['worst']:.3g} on row {figure['row']}, tolerance {figure['tolerance']:.3g}"


def _is_figure(value: Any) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping) and "passed" in value


def _digest(case: Case) -> str:
    """SHA-256 of the rows as the model takes them: names, dtypes, shapes and numbers."""
    whole = hashlib.sha256()
    for name in sorted(case.inputs):
        array = np.ascontiguousarray(case.inputs[name])
        data = array.tobytes() if array.dtype.kind != "O" else repr(array.tolist()).encode()
        whole.update(f"{name}:{array.dtype}:{array.shape};".encode() + data)
    return whole.hexdigest()


def _versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
