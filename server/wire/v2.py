"""The Open Inference Protocol, version 2: named tensors in, named tensors out, as JSON or as binary tensor data.

Our typed extension ``explain`` takes an infer request with a member ``explain`` (method, target, parameters ...) and
answers an infer response with a member ``explanation`` beside ``outputs``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import BadRequest, InvalidOutput
from ..messages import Answer, ExplainAnswer, Payload, RawTensor, Tensors
from ..plain import plain
from . import binary, strict_json
from .strict_json import kind_of
from .tensors import Array, datatype_named, datatype_of, from_bytes, from_json, shape_of, to_bytes, to_json

MEMBERS = frozenset({"id", "parameters", "inputs", "outputs", "explain"})
UNSUPPORTED_PARAMETERS = ("shared_memory_region", "classification", "sequence_id", "sequence_start", "sequence_end")
TENSOR_MEMBERS = frozenset({"name", "shape", "datatype", "parameters", "data"})
OUTPUT_MEMBERS = frozenset({"name", "parameters"})
MAX_OUTPUTS = 1024
MICROSECONDS = 1e6


@dataclass(frozen=True)
class InferBody:
    """A V2 request, unframed: what to run, and how to write the answer."""

    payload: Payload
    outputs: list[str] | None
    binary: Mapping[str, bool] = field(default_factory=dict)
    binary_default: bool = False
    id: str | None = None
    timeout_seconds: float | None = None
    explain: Mapping[str, Any] = field(default_factory=dict)

    def is_binary(self, name: str) -> bool:
        """Whether the client wants this output as binary data."""
        return self.binary.get(name, self.binary_default)


def read(body: bytes, header: str | None) -> InferBody:
    """Unframes an infer or explain request.

    Raises:
        BadRequest: anything malformed: names the member, what came and what was expected.
    """
    head, rest = binary.split(body, header)
    if header is not None and not head:
        return InferBody(RawTensor(body), None, binary_default=True)
    content = strict_json.loads(head)
    if not isinstance(content, dict):
        raise BadRequest("body", kind_of(content), 'an object with "inputs"')
    _only(content, MEMBERS, "")
    parameters = _object(content, "parameters", "parameters")
    _refuse_unsupported(parameters, "parameters")
    names, wanted = _outputs(content.get("outputs"))
    return InferBody(
        payload=Tensors(_inputs(content.get("inputs"), binary.Reader(rest))),
        outputs=names,
        binary=wanted,
        binary_default=_flag(parameters, "binary_data_output", "parameters"),
        id=_id(content.get("id")),
        timeout_seconds=_timeout(parameters.get("timeout")),
        explain=_object(content, "explain", "explain"),
    )


def _inputs(entries: Any, reader: binary.Reader) -> dict[str, Array]:
    if not isinstance(entries, list) or not entries:
        raise BadRequest("inputs", kind_of(entries), "a list with at least one tensor")
    arrays: dict[str, Array] = {}
    for position, entry in enumerate(entries):
        what = f"inputs[{position}]"
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            raise BadRequest(what, kind_of(entry), "an object with name, shape, datatype and data")
        _only(entry, TENSOR_MEMBERS, what)
        name = entry["name"]
        if name in arrays:
            raise BadRequest(what, f"input {name[:60]!r} a second time", "each input once")
        arrays[name] = _tensor(entry, f"input {name[:60]}", reader)
    reader.finish()
    return arrays


def _tensor(entry: dict[str, Any], what: str, reader: binary.Reader) -> Array:
    datatype = datatype_named(entry.get("datatype"), what)
    shape = shape_of(entry.get("shape"), what)
    parameters = _object(entry, "parameters", f"{what}.parameters")
    _refuse_unsupported(parameters, f"{what}.parameters")
    size = parameters.get("binary_data_size")
    if (size is None) == ("data" not in entry):
        came = "neither" if size is None else "both"
        raise BadRequest(what, came, "either data or parameters.binary_data_size")
    if size is None:
        return from_json(entry["data"], datatype, shape, what)
    return from_bytes(reader.take(size, what), datatype, shape, what)


def _outputs(entries: Any) -> tuple[list[str] | None, dict[str, bool]]:
    if entries is None or entries == []:
        return None, {}
    if not isinstance(entries, list) or len(entries) > MAX_OUTPUTS:
        raise BadRequest("outputs", kind_of(entries), f"a list of at most {MAX_OUTPUTS} objects with a name")
    names: list[str] = []
    wanted: dict[str, bool] = {}
    for position, entry in enumerate(entries):
        what = f"outputs[{position}]"
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            raise BadRequest(what, kind_of(entry), "an object with a name")
        _only(entry, OUTPUT_MEMBERS, what)
        if entry["name"] in names:
            raise BadRequest(what, f"output {entry['name'][:60]!r} a second time", "each output once")
        parameters = _object(entry, "parameters", f"{what}.parameters")
        _refuse_unsupported(parameters, f"{what}.parameters")
        names.append(entry["name"])
        if "binary_data" in parameters:
            wanted[entry["name"]] = _flag(parameters, "binary_data", f"{what}.parameters")
    return names, wanted


def _only(holder: Mapping[str, Any], known: frozenset[str], what: str) -> None:
    for name in sorted(holder.keys() - known):
        raise BadRequest(f"{what} member {name[:60]!r}".lstrip(), "it", "only " + ", ".join(sorted(known)))


def _object(holder: dict[str, Any], member: str, what: str) -> dict[str, Any]:
    value = holder.get(member)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadRequest(what, kind_of(value), "an object")
    return value


def _flag(parameters: dict[str, Any], name: str, what: str) -> bool:
    value = parameters.get(name, False)
    if not isinstance(value, bool):
        raise BadRequest(f"{what}.{name}", kind_of(value), "true or false")
    return value


def _refuse_unsupported(parameters: dict[str, Any], what: str) -> None:
    for name in UNSUPPORTED_PARAMETERS if parameters else ():
        if parameters.get(name):
            raise BadRequest(f"{what}.{name}", "it", "a request without it: this server does not support it")


def _id(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise BadRequest("id", kind_of(value), "text")


def _timeout(value: Any) -> float | None:
    if value is None or value == 0:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise BadRequest("parameters.timeout", kind_of(value), "a whole number of microseconds")
    return value / MICROSECONDS


def infer_answer(answer: Answer, request: InferBody) -> tuple[bytes, dict[str, str]]:
    """Body and headers of an infer answer.

    Raises:
        InvalidOutput: a NaN or infinity in an output that is asked for as JSON.
    """
    return _framed(answer, request, {})


def explain_answer(answer: ExplainAnswer, request: InferBody) -> tuple[bytes, dict[str, str]]:
    """Body and headers of an explain answer.

    Raises:
        InvalidOutput: a NaN or infinity in an attribution, or in an output that is asked for as JSON.
    """
    return _framed(answer, request, {"explanation": explanation(answer)})


def _framed(answer: Answer, request: InferBody, extra: Mapping[str, Any]) -> tuple[bytes, dict[str, str]]:
    names = request.outputs or list(answer.outputs)
    arrays = {name: _model_layout(answer, name) for name in names}
    try:
        outputs = [_output(name, arrays[name], request.is_binary(name)) for name in names]
    except InvalidOutput as error:
        raise InvalidOutput(error.what, error.row, answer.decisions) from error
    body: dict[str, Any] = {"model_name": answer.version.name, "model_version": str(answer.version.version)}
    if request.id is not None:
        body["id"] = request.id
    if answer.decision is not None:
        body["parameters"] = {"decision_id": answer.decision}
    body |= {"outputs": outputs, **extra}
    tensors = [to_bytes(arrays[name]) for name in names if request.is_binary(name)]
    return binary.join(strict_json.dumps(body), tensors)


def _model_layout(answer: Answer, name: str) -> Array:
    """An output as the graph declares it: its batch axis where it belongs, or none."""
    array = answer.outputs[name]
    axis = next(spec.batch_axis for spec in answer.manifest.outputs if spec.name == name)
    if axis is None:
        return array[0] if answer.rows == 1 else array
    return array if axis == 0 else np.moveaxis(array, 0, axis)


def _output(name: str, array: Array, as_binary: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": name, "shape": list(array.shape), "datatype": datatype_of(array.dtype)}
    if as_binary:
        return {**entry, "parameters": {"binary_data_size": len(to_bytes(array))}}
    return {**entry, "data": to_json(array, f"output {name}")}


def explanation(answer: ExplainAnswer) -> dict[str, Any]:
    """The ``explanation`` member: attributions as tensors, and one entry per row of what belongs to a row."""
    return {
        "method": answer.method,
        "parameters": plain(answer.parameters),
        "seed": answer.seed,
        "output": answer.output,
        "explained_name": answer.explained_name,
        "units": answer.units,
        "target": plain(list(answer.targets)),
        "base_value": None if answer.base_values is None else plain(list(answer.base_values)),
        "explained_value": plain(list(answer.explained_values)),
        "attributions": _attributions(answer),
        **_further(answer),
        "features": _features(answer),
        "groups": None if answer.groups is None else plain(list(answer.groups)),
        "removal": None if answer.removal is None else plain(list(answer.removal)),
        "quality": plain(list(answer.quality)),
        "approximations": list(answer.approximations),
        "runs": answer.runs.to_dict(),
        "cached": answer.cached,
        "labels": None if answer.labels is None else list(answer.labels),
        "model_digest": answer.version.model_digest,
        "manifest_digest": answer.version.digest,
        "certificate_digest": answer.version.certificate_digest,
        "program_digest": answer.program_digest,
        "baseline_digest": answer.baseline_digest,
        "background_digest": answer.background_digest,
        "background": plain(answer.background),
        "decisions": list(answer.decisions),
    }


def _attributions(answer: ExplainAnswer) -> list[dict[str, Any]]:
    try:
        return [
            {
                "name": name,
                "datatype": datatype_of(array.dtype),
                "shape": list(array.shape),
                "data": to_json(array, f"attribution of {name}"),
            }
            for name, array in answer.values.items()
        ]
    except InvalidOutput as error:
        raise InvalidOutput(error.what, error.row, answer.decisions) from error


def _further(answer: ExplainAnswer) -> dict[str, Any]:
    """Further tensors by input, where there are any: errors (null if not known), half widths, groups of elements."""
    kinds = {str(answer.error_kind): answer.errors, "half_width": answer.half_widths, "groups": answer.group_index}
    tensors = [
        {
            "name": f"{name}.{kind}",
            "datatype": datatype_of(array.dtype),
            "shape": list(array.shape),
            "data": plain(array.reshape(-1)),
        }
        for kind, arrays in kinds.items()
        for name, array in (arrays or {}).items()
    ]
    return {"tensors": tensors} if tensors else {}


def _features(answer: ExplainAnswer) -> Sequence[Mapping[str, Any]] | None:
    """Names for the attributions, in the order of the manifest; values belong to rows and are not repeated here.

    A feature says which element of which tensor is its own; a group, which is an element of its own, has no such place.
    """
    if answer.features is None or not answer.features:
        return None
    fed = {} if "groups" in answer.values else {each.name: each for each in answer.manifest.features}
    return [
        {
            "feature": entry.feature,
            "label": entry.label,
            "unit": entry.unit,
            "input": fed[entry.feature].input if fed else None,
            "index": fed[entry.feature].index if fed else None,
        }
        for entry in max(answer.features, key=len)
    ]
