"""The V1 protocol: rows in, predictions and explanations out.

Read: ``{"instances": [...]}`` or ``{"inputs": [...]}``, or one PNG or JPEG as the whole body. Written: one entry per
row, in order, with what names the model, its digests and the decisions that record the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import BadRequest, UnsupportedMedia
from ..messages import Answer, ExplainAnswer, ImageBody, Payload, Rows
from ..plain import plain
from . import strict_json
from .options import from_query
from .strict_json import kind_of
from .tensors import require_finite

IMAGE_TYPES = ("image/png", "image/jpeg")
JSON_TYPES = ("application/json", "")
ROW_MEMBERS = ("instances", "inputs")
IGNORED_MEMBERS = frozenset({"signature_name", "id"})


def read(body: bytes, media_type: str, query: Mapping[str, str]) -> tuple[Payload, dict[str, Any]]:
    """The rows of a request and the members beside them.

    Raises:
        BadRequest: the body has no rows, or is not strict JSON, or a query stands beside JSON.
        UnsupportedMedia: a body that is neither JSON nor PNG nor JPEG.
    """
    if media_type in IMAGE_TYPES:
        return ImageBody(body, media_type), from_query(query)
    if media_type not in JSON_TYPES:
        accepted = ", ".join(["application/json", *IMAGE_TYPES, "multipart/form-data"])
        raise UnsupportedMedia(f"Content-Type: got {media_type[:80]!r}, expected one of {accepted}")
    for name in query:
        raise BadRequest(f"query {name[:60]!r}", "it beside a JSON body", "this member in the body")
    content = strict_json.loads(body)
    if not isinstance(content, dict):
        raise BadRequest("body", kind_of(content), 'an object with "instances"')
    given = [name for name in ROW_MEMBERS if name in content]
    if len(given) != 1:
        came = "both of them" if given else "neither"
        raise BadRequest('"instances" or "inputs"', came, "one of them, a list of rows")
    rows = content.pop(given[0])
    if not isinstance(rows, list) or not rows:
        raise BadRequest(given[0], kind_of(rows), "a list with at least one row")
    return Rows(rows), {name: value for name, value in content.items() if name not in IGNORED_MEMBERS}


def no_options(options: Mapping[str, Any]) -> None:
    """Raises BadRequest for members a predict request does not have."""
    for name, value in options.items():
        if value not in ({}, None):
            raise BadRequest(f"member {name[:60]!r}", "it", 'only "instances" or "inputs" in a predict request')


def predict_answer(answer: Answer) -> dict[str, Any]:
    """The body of a predict answer.

    Raises:
        InvalidOutput: an output holds a NaN or an infinity.
    """
    body: dict[str, Any] = {"predictions": predictions(answer)}
    if answer.labels is not None:
        body["labels"] = list(answer.labels)
    body["model_name"] = answer.version.name
    body["model_version"] = str(answer.version.version)
    body["model_digest"] = answer.version.model_digest
    body["runs"] = answer.runs.to_dict()
    body["decisions"] = list(answer.decisions)
    return body


def predictions(answer: Answer) -> list[Any]:
    """One entry per row: the row's output, or an object of them by name where the model has several."""
    for name, array in answer.outputs.items():
        require_finite(array, f"output {name}", answer.decisions)
    rows = []
    for row in range(answer.rows):
        parts = {name: array[row].tolist() for name, array in answer.outputs.items()}
        rows.append(next(iter(parts.values())) if len(parts) == 1 else parts)
    return rows


def explain_answer(answer: ExplainAnswer) -> dict[str, Any]:
    """The body of an explain answer.

    Raises:
        InvalidOutput: an output or an attribution holds a NaN or an infinity.
    """
    body = predict_answer(answer)
    body["explanations"] = [explanation(answer, row) for row in range(answer.rows)]
    body["manifest_digest"] = answer.version.digest
    body["certificate_digest"] = answer.version.certificate_digest
    body["program_digest"] = answer.program_digest
    body["baseline_digest"] = answer.baseline_digest
    body["background_digest"] = answer.background_digest
    body["background"] = plain(answer.background)
    return body


def explain_event(answer: ExplainAnswer) -> dict[str, Any]:
    """One line of a stream of answers: as `explain_answer`, and whether it is provisional."""
    return {"provisional": answer.provisional, **explain_answer(answer)}


def explanation(answer: ExplainAnswer, row: int) -> dict[str, Any]:
    """The explanation of one row."""
    return {
        "method": answer.method,
        "parameters": plain(answer.parameters),
        "seed": answer.seed,
        "target": plain(answer.targets[row]),
        "output": answer.output,
        "explained_name": answer.explained_name,
        "units": answer.units,
        "base_value": None if answer.base_values is None else plain(answer.base_values[row]),
        "explained_value": plain(answer.explained_values[row]),
        "attributions": _attributions(answer, row),
        "groups": _groups(answer, row),
        "removal": None if answer.removal is None else plain(answer.removal[row]),
        "quality": plain(answer.quality[row]),
        "approximations": list(answer.approximations),
        "runs": answer.runs.to_dict(),
        "cached": answer.cached,
    }


def _groups(answer: ExplainAnswer, row: int) -> Any:
    """What was removed together: spec, names, digest, and the group of each element where a client can paint it."""
    if answer.groups is None:
        return None
    index = {name: array[row].tolist() for name, array in answer.group_index.items()}
    return {**plain(answer.groups[row]), **({"index": index} if index else {})}


def _attributions(answer: ExplainAnswer, row: int) -> Any:
    for name, array in answer.values.items():
        require_finite(array, f"attribution of {name}", answer.decisions)
    if answer.features is None:
        return {name: array[row].tolist() for name, array in answer.values.items()}
    return [
        {
            "feature": entry.feature,
            "label": entry.label,
            "value": plain(entry.value),
            "shown": entry.shown,
            "unit": entry.unit,
            "attribution": entry.attribution,
            **({} if entry.error is None or answer.error_kind is None else {answer.error_kind: plain(entry.error)}),
            **({} if entry.half_width is None else {"half_width": plain(entry.half_width)}),
        }
        for entry in answer.features[row]
    ]
