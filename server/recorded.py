"""A recorded decision as the answer it was, so that its picture can be drawn again at any time.

Everything is the record's own: inputs, outputs, attributions and figures, and what the client sent. Only names, labels
and units come from the model's manifest, which must be the very one that answered. Nothing is computed anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PIL.Image import Image

from audit import Decision
from model_store import Decoded, Manifest, ModelVersion, decode_image, decode_rows, decode_tensors, to_model_layout

from . import features, targets
from .errors import NotAcceptable
from .messages import Array, ExplainAnswer, Runs
from .wire import strict_json

ERRORS = ("standard_error", "quadrature_error")
NEEDED = ("method", "output", "explained_name", "units", "target", "explained_value", "quality")


def require_drawable(decision: Decision) -> Mapping[str, Any]:
    """The explanation of a decision that has one to draw.

    Raises:
        NotAcceptable: it records a prediction alone, or an explanation that is not a number; the message says which.
    """
    explanation = decision.entry["explanation"]
    if explanation is None:
        raise NotAcceptable(f"picture: decision {decision.id} records a prediction without an explanation")
    if decision.entry["status"] != "ok":
        raise NotAcceptable(f"picture: decision {decision.id} cannot be drawn: {decision.entry['note']}")
    missing = [name for name in NEEDED if explanation.get(name) is None]
    if missing:
        raise NotAcceptable(f"picture: the record of decision {decision.id} does not say {', '.join(missing)}")
    found: Mapping[str, Any] = explanation
    return found


def answer_of(decision: Decision, version: ModelVersion, max_pixels: int) -> ExplainAnswer:
    """The answer with one row that this decision records.

    `version` is the model that answered, `max_pixels` the size of the largest picture that is opened.

    Raises:
        NotAcceptable: there is nothing to draw, or the version is not the one that answered.
        StoreError: what the client sent can no longer be read as the model's input.
    """
    explanation = require_drawable(decision)
    if version.digest != decision.entry["model"]["digest"]:
        raise NotAcceptable(
            f"picture: decision {decision.id} was made with manifest {decision.entry['model']['digest']}, "
            f"and model {version.name} version {version.version} of this store has {version.digest}"
        )
    manifest, tensors = version.manifest, decision.explanation_tensors
    (kind, errors), half_widths, index = _errors(tensors), *(_of_kind(tensors, k) for k in ("half_width", "groups"))
    figures = decision.attributions, errors, half_widths
    named = features.by_feature(manifest, decision.inputs, figures, _group_names(explanation, manifest), 1)
    return ExplainAnswer(
        version=version,
        inputs=decision.inputs,
        outputs=decision.outputs,
        rows=1,
        labels=targets.labels(manifest, decision.outputs, 1),
        runs=Runs(),
        decisions=(decision.id,),
        method=explanation["method"],
        parameters=explanation.get("parameters") or {},
        seed=explanation.get("seed") or 0,
        output=explanation["output"],
        explained_name=explanation["explained_name"],
        units=explanation["units"],
        targets=[explanation["target"]],
        values=decision.attributions,
        errors=errors,
        error_kind=kind,
        half_widths=half_widths,
        group_index=index or {},
        features=named,
        base_values=None if explanation.get("base_value") is None else [explanation["base_value"]],
        explained_values=[explanation["explained_value"]],
        quality=[explanation["quality"]],
        program_digest=explanation.get("program_digest"),
        baseline_digest=explanation.get("baseline_digest"),
        background_digest=explanation.get("background_digest"),
        approximations=explanation.get("approximations") or (),
        # Opened only where it will be drawn over.
        images=_images(decision, manifest, max_pixels) if named is None or index else (),
    )


def _errors(tensors: Mapping[str, Any]) -> tuple[str | None, dict[str, Any] | None]:
    """The errors of the attributions by input name, and what kind they are; None where there are none."""
    kind = next((kind for kind in ERRORS if any(name.startswith(f"{kind}.") for name in tensors)), None)
    return kind, _of_kind(tensors, str(kind))


def _of_kind(tensors: Mapping[str, Any], kind: str) -> dict[str, Any] | None:
    start = f"{kind}."
    return {name.removeprefix(start): array for name, array in tensors.items() if name.startswith(start)} or None


def _group_names(explanation: Mapping[str, Any], manifest: Manifest) -> list[list[str]] | None:
    """The names of the groups; of a record that does not say them, those that the manifest declares."""
    told = explanation.get("groups")
    names = features.declared_groups(manifest).get("group_names") if told is None else told["names"]
    return None if names is None else [names]


def _images(decision: Decision, manifest: Manifest, max_pixels: int) -> Sequence[Image | None]:
    return _decoded(decision.received, decision.entry["received"], manifest, decision.inputs, max_pixels).images


def _decoded(
    received: bytes | None, described: Any, manifest: Manifest, inputs: Mapping[str, Array], max_pixels: int
) -> Decoded:
    """What came, read as it was then; where no more than tensors came, those."""
    media_type = described["media_type"] if described else None
    if received is not None and media_type in ("image/png", "image/jpeg"):
        return decode_image(manifest, received, max_pixels)
    if received is not None and media_type == "application/json":
        return decode_rows(manifest, [strict_json.loads(received)], max_pixels)
    return decode_tensors(manifest, to_model_layout(manifest, inputs))
