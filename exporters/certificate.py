"""The certificate: what was measured of a model before it may be served, each figure with its worst row.

Everything is measured on real test rows, decoded from client bytes, by programs the server itself would run in the
engine it would use. A method that has no independent judge here says "not judged"; it is not thereby wrong, and its
completeness is still reported where completeness means something.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import explain
from model_store import Manifest

from .case import case_of
from .checks import NOT_JUDGED, examined, gradients
from .describing import rebuilt
from .exported import Evidence, Exported
from .judges import TorchJudge
from .parity import TOLERANCE, parity

if TYPE_CHECKING:
    from torch import nn

    from engine import Engine

SCHEMA_VERSION = 1
ROWS = 8
_LIBRARIES = ("numpy", "onnx", "onnxruntime", "onnxruntime-gpu", "torch", "scikit-learn", "skl2onnx")


def certify(
    exported: Exported,
    evidence: Evidence,
    engine: Engine,
    *,
    network: nn.Module | None = None,
    tolerance: float = TOLERANCE,
    rows: int = ROWS,
) -> Exported:
    """The export with its certificate, and without the methods that failed a check.

    network  the torch original in the explained space (logits or values), as the judge of gradients; None: no judge
    rows     how many of the evidence's rows the explanations are checked on; parity takes all of them

    Raises ParityFailed when the model itself is not faithful to its source.
    """
    agreement = parity(exported, evidence, engine, tolerance=tolerance)
    case = case_of(exported, evidence, engine, rows)
    judge = TorchJudge(network, [spec.name for spec in exported.manifest.inputs]) if network is not None else None
    methods = {name: examined(case, name, judge) for name in exported.manifest.explanation.methods}
    coverage = explain.coverage(case.model).to_dict()
    slopes = gradients(case, judge) if coverage["differentiable"] else NOT_JUDGED
    certificate = {
        "schema_version": SCHEMA_VERSION,
        "model": hashlib.sha256(exported.model).hexdigest(),
        "parity": agreement.to_dict(),
        "coverage": coverage,
        "gradients": slopes,
        "methods": methods,
        "randomisation": NOT_JUDGED,
        "runtime": {"name": engine.info().runtime, "version": engine.info().version},
        "versions": _versions(),
    }
    return _without_failed(exported, methods, slopes).but(certificate=certificate)


def _without_failed(exported: Exported, methods: Mapping[str, Mapping[str, Any]], slopes: Any) -> Exported:
    """A method that an independent judge contradicts, or that refuses a real row, is not offered.

    Where the judge contradicts the gradient itself, no method that rests on gradients is offered, judged or not.
    """
    judged = {name: report["judge"] for name, report in methods.items() if isinstance(report["judge"], Mapping)}
    failed = {
        name: f"it failed its check: {found['what']} {found['worst']:.3g} on row {found['row']}"
        for name, found in judged.items()
        if not found["passed"]
    }
    autograd = slopes["autograd"] if isinstance(slopes, Mapping) else NOT_JUDGED
    if isinstance(autograd, Mapping) and not autograd["passed"]:
        sentence = f"the gradient failed its check: {autograd['what']} {autograd['worst']:.3g} on row {autograd['row']}"
        resting = [name for name in methods if "gradient" in explain.METHODS[name].needs]
        failed = dict.fromkeys(resting, sentence) | failed
    failed |= {name: str(report["refused"]) for name, report in methods.items() if "refused" in report}
    if not failed:
        return exported
    return exported.but(manifest=refusing(exported.manifest, failed))


def refusing(manifest: Manifest, reasons: Mapping[str, str]) -> Manifest:
    """The manifest without some of its methods, each with the reason."""
    before = manifest.explanation
    offered = [name for name in before.methods if name not in reasons]
    after = type(before)(
        method=before.method if before.method in offered else next(iter(offered), None),
        output=before.output,
        baseline=before.baseline,
        layer=before.layer,
        groups=before.groups,
        methods=offered,
        refused={**before.refused, **reasons},
    )
    return rebuilt(manifest, explanation=after)


def _versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
