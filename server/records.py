"""From an answer to the decision draft that audit/ commits: one row draft for each row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from audit import DecisionDraft, RowDraft
from engine import EngineInfo
from model_store import ModelVersion

from .machine import cpu
from .messages import Answer, Array, Arrays, ExplainAnswer, ImageBody, PredictRequest, RawTensor, Rows
from .plain import plain
from .version import VERSION
from .wire import strict_json

ANONYMOUS = "anonymous"


def draft(
    answer: Answer,
    request: PredictRequest,
    info: EngineInfo,
    received_at: datetime,
    received_ns: int,
    image: str | None = None,
) -> DecisionDraft:
    """The record of one request.

    Args:
        answer: what will be answered; an ExplainAnswer is recorded with its explanation.
        request: what was asked.
        info: the runtime that computed it.
        received_at: when the request came, aware.
        received_ns: ``time.monotonic_ns()`` of the same moment.
        image: the container image the server runs from, where it was told.
    """
    version = answer.version
    return DecisionDraft(
        model={
            "name": version.name,
            "version": version.version,
            "digest": version.digest,
            "model_digest": version.model_digest,
            "certificate_digest": version.certificate_digest,
        },
        route=request.route,
        principal=ANONYMOUS,
        received_at=received_at,
        received_ns=received_ns,
        request_id=request.request_id or None,
        rows=[_row(answer, request, row) for row in range(answer.rows)],
        runtime={
            "server_version": VERSION,
            "image": image,
            "engine": info.runtime,
            "engine_version": info.version,
            "providers": list(info.providers),
            "threads": min(info.threads, answer.runs.threads or info.threads),
            "cpu": cpu(),
            "runs": answer.runs.to_dict(),
            **told(version),
        },
    )


def told(version: ModelVersion) -> dict[str, str]:
    """Which of its files is run, of a version that has two."""
    return {"precision": version.precision} if len(version.precisions) > 1 else {}


def _row(answer: Answer, request: PredictRequest, row: int) -> RowDraft:
    inputs = {name: array[row : row + 1] for name, array in answer.inputs.items()}
    outputs = {name: array[row : row + 1] for name, array in answer.outputs.items()}
    values = answer.values if isinstance(answer, ExplainAnswer) else {}
    attributions = {name: array[row : row + 1] for name, array in values.items()}
    broken = [f"output {name}" for name in not_finite(outputs)]
    broken += [f"attribution of {name}" for name in not_finite(attributions)]
    received, media_type = _received(request, row)
    return RowDraft(
        inputs=inputs,
        outputs=outputs,
        received=received,
        received_type=media_type,
        explanation=_explanation(answer, row) if isinstance(answer, ExplainAnswer) else None,
        attributions=attributions or None,
        explanation_tensors=_explanation_tensors(answer, row) if isinstance(answer, ExplainAnswer) else None,
        status="invalid_output" if broken else "ok",
        note=f"{', '.join(broken)}: NaN or infinite" if broken else None,
    )


def _explanation_tensors(answer: ExplainAnswer, row: int) -> dict[str, Array]:
    """What the explanation rests on beside the model's own files: errors, groups, and references the client sent."""
    rows = {str(answer.error_kind): answer.errors, "half_width": answer.half_widths, "groups": answer.group_index}
    own = {f"{kind}.{name}": array[row : row + 1] for kind, by in rows.items() for name, array in (by or {}).items()}
    return {**own, **answer.compared}


def not_finite(arrays: Arrays) -> list[str]:
    """The names of the arrays that hold a NaN or an infinity."""
    return [name for name, array in arrays.items() if array.dtype.kind in "fc" and not np.isfinite(array).all()]


def _received(request: PredictRequest, row: int) -> tuple[bytes | None, str | None]:
    """What the client sent for this row alone, so that one row can be erased without the others."""
    payload = request.payload
    if isinstance(payload, ImageBody):
        return payload.body, payload.media_type
    if isinstance(payload, RawTensor):
        return payload.body, "application/octet-stream"
    if isinstance(payload, Rows):
        return strict_json.dumps(payload.instances[row]), "application/json"
    return None, None


def _explanation(answer: ExplainAnswer, row: int) -> Mapping[str, Any]:
    summary: Mapping[str, Any] = plain(
        {
            "method": answer.method,
            "parameters": answer.parameters,
            "seed": answer.seed,
            "output": answer.output,
            "explained_name": answer.explained_name,
            "units": answer.units,
            "target": answer.targets[row],
            "base_value": _at(answer.base_values, row),
            "explained_value": answer.explained_values[row],
            "quality": answer.quality[row],
            "program_digest": answer.program_digest,
            "baseline_digest": answer.baseline_digest,
            "background_digest": answer.background_digest,
            "approximations": list(answer.approximations),
            "background": answer.background,
            "groups": None if answer.groups is None else answer.groups[row],
            "removal": None if answer.removal is None else answer.removal[row],
            "cached": answer.cached,
        }
    )
    return summary


def _at(values: Sequence[float] | None, row: int) -> float | None:
    return None if values is None else values[row]
