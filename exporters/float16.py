"""The variant of a model in float16: made, held against the model's own file on real rows, kept only if it agrees.

What takes and gives float32 goes on to do so; inside, products and what follows them compute in float16
(halving/). Two judges: the variant in the engine at hand, and the same with every value rounded as float16 holds it,
since a processor without such arithmetic computes in float32 and would vouch for what a GPU cannot.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper

from model_store import StoreError, check_model, decode_rows, to_model_layout

from .case import Case, case_of_arrays
from .describing import check_graph, rebuilt
from .errors import InvalidImport, VariantRefused
from .exported import Array, Exported
from .halving import chosen, halved, network_of, rounded, seen
from .judging import gradient_errors
from .offers import offers
from .parity import figure, spread_figure
from .running import predict, run, stored

if TYPE_CHECKING:
    from engine import Engine

    from .halving import Network

TOLERANCE = 1e-2
STEP = 8  # rows of a run that looks at every value
GRADIENT_ROWS = 32
MOST_BYTES = 1 << 30
WHAT = "largest difference of an output from the float32 file's, relative to its largest magnitude"


def with_float16(
    exported: Exported, engine: Engine, *, rows: Mapping[str, Array] | None = None, tolerance: float = TOLERANCE
) -> Exported:
    """The model with its variant in float16, which its manifest's lineage tells of.

    rows       real rows [N, ...item] by input, as many as there are; None for the examples and the background
    tolerance  what an output may differ by from the model's own, relative to its largest magnitude over the rows

    Raises VariantRefused where nothing of the model can compute in float16, the variant cannot be read, explained by
    the same methods, or does not answer as the model does; InvalidImport without a row; what the engine raises.
    """
    inputs = dict(rows or own_rows(exported))
    count = len(next(iter(inputs.values()), ()))
    if not count:
        raise InvalidImport("a float16 variant is held against the model on real rows: give some, or a background")
    network = network_of(exported.model, exported.data_files)
    halves = chosen(network, _largest(network, exported, inputs, engine))
    if not halves:
        raise VariantRefused("there is no product or convolution in it that float16 can hold")
    made = exported.but(float16=_written(halved(network, halves)))
    check_variant(made)
    found = agreement(made, inputs, range(count), engine, tolerance=tolerance)
    if not found["passed"]:
        raise VariantRefused(
            f"it differs from the model by {found['worst']:.3g} on row {found['row']} (worst of {found['n']} rows, "
            f"relative to the output's largest magnitude), tolerance {tolerance:.3g}"
        )
    told = {"nodes": len(network.nodes), "nodes_in_float16": len({id(node) for node in halves.values()}), **found}
    return made.but(manifest=rebuilt(made.manifest, lineage={**made.manifest.lineage, "float16": told}))


def check_variant(exported: Exported) -> None:
    """The variant as a file: the gate, the same inputs and outputs, the same methods. Raises VariantRefused,
    InvalidExport, and model_store's RefusedModel."""
    manifest, model = exported.manifest, exported.float16 or b""
    check_model(model)
    check_graph(model, manifest.inputs, manifest.outputs)
    told = manifest.explanation
    offered, refused = offers(
        model,
        inputs=manifest.inputs,
        outputs=manifest.outputs,
        features=manifest.features,
        background=exported.background,
        baseline=told.baseline,
        removal=told.removal,
        row_by_row=manifest.batching.mode == "row",
        held=told.held,
    )
    for method in told.methods:
        if method not in offered:
            raise VariantRefused(f"it cannot be explained by {method}: {refused.get(method, 'unknown')}")


def agreement(
    exported: Exported, inputs: Mapping[str, Array], rows: Sequence[int], engine: Engine, tolerance: float = TOLERANCE
) -> dict[str, Any]:
    """How far the variant's answers to decoded rows [N, ...item] are from the model's own, as a figure, and its digest.

    The worse of the two: as the engine at hand runs it, and with every value rounded.
    """
    variant = exported.float16 or b""
    own = predict(exported.model, exported.manifest, inputs, engine, exported.data_files)
    files = (variant, _written(rounded(onnx.load_model_from_string(variant))))
    errors = [_errors(own, predict(file, exported.manifest, inputs, engine)) for file in files]
    worst = figure(np.maximum(*errors), rows, tolerance, WHAT).to_dict()
    return {"model": hashlib.sha256(variant).hexdigest(), **worst}


def held_against(exported: Exported, evidence: Mapping[str, Array], rows: Sequence[int], case: Case) -> dict[str, Any]:
    """What a certificate says of the variant: its agreement on decoded rows [N, ...item], and, with no verdict, how far
    the gradients compiled from it are from those of the model's own file on the first rows of the case. Where a ReLU
    or a maximum falls the other way a gradient jumps, however near the answers are."""
    found = agreement(exported, evidence, rows, case.engine)
    if "saliency" not in exported.manifest.explanation.methods:
        return found
    part = case.first(GRADIENT_ROWS)
    variant = case_of_arrays(exported.but(model=exported.float16, data_files={}), part.inputs, part.rows, case.engine)
    own, other = (each.explained("saliency", target=part.aim, absolute=False).values for each in (part, variant))
    figures = spread_figure(gradient_errors(other, own), part.rows, 0.0, "relative L2 distance of the gradient")
    return found | {"gradient": {name: each for name, each in figures.items() if name not in ("passed", "tolerance")}}


def own_rows(exported: Exported) -> dict[str, Array]:
    """The rows that came with a model, [N, ...item] by input: its examples, then its background; {} without either.

    Raises InvalidImport.
    """
    found: list[Mapping[str, Array]] = []
    instances = [entry["instance"] for entry in exported.examples if "instance" in entry]
    if instances:
        try:
            found.append(decode_rows(exported.manifest, instances).inputs)
        except StoreError as error:
            raise InvalidImport(f"examples: {error}") from error
    if exported.background is not None:
        found.append(exported.background)
    names = [spec.name for spec in exported.manifest.inputs] if found else []
    return {name: np.concatenate([rows[name] for rows in found]) for name in names}


def _errors(own: Mapping[str, Array], other: Mapping[str, Array]) -> Array:
    """The largest difference of an output element of each row, relative to the output's largest magnitude; labels
    differ by 1. What is finite in one alone is infinitely far."""
    rows = len(next(iter(own.values())))
    errors = np.zeros(rows)
    for name, expected in own.items():
        if expected.dtype.kind != "f":
            errors = np.fmax(errors, (other[name] != expected).reshape(rows, -1).max(axis=1, initial=False))
            continue
        with np.errstate(invalid="ignore"):
            gap = np.abs(other[name].astype(np.float64) - expected)
        alike = (other[name] == expected) | (np.isnan(expected) & np.isnan(other[name]))
        scale = np.abs(expected[np.isfinite(expected)]).max(initial=0.0) or 1.0
        gap = np.where(alike, 0.0, np.where(np.isnan(gap), np.inf, gap / scale))
        errors = np.fmax(errors, gap.reshape(rows, -1).max(axis=1, initial=0.0))
    return errors


def _largest(network: Network, exported: Exported, inputs: Mapping[str, Array], engine: Engine) -> dict[str, float]:
    """The largest magnitude over all rows of each value that may become float16, by name."""
    names = seen(network)
    if not names:
        return {}
    model, outputs = _watched(network.model, names)
    given = [spec.name for spec in exported.manifest.inputs]
    artifact = stored(model, given, outputs, whole=True, data_files=exported.data_files)
    rows = len(next(iter(inputs.values())))
    step = 1 if exported.manifest.batching.mode == "row" else STEP
    found = []
    for start in range(0, rows, step):
        part = {name: array[start : start + step] for name, array in inputs.items()}
        made = run(engine, artifact, to_model_layout(exported.manifest, part))
        found.append([float(made[name]) for name in outputs])
    return dict(zip(names, np.max(found, axis=0).tolist(), strict=True))


def _watched(model: onnx.ModelProto, names: Sequence[str]) -> tuple[bytes, list[str]]:
    """The model with the largest magnitude of these values as its only outputs, and what these are called."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    watched.graph.ClearField("output")
    outputs = [f"largest/{place}" for place in range(len(names))]
    for name, output in zip(names, outputs, strict=True):
        watched.graph.node.append(helper.make_node("Abs", [name], [f"{output}/of"]))
        watched.graph.node.append(helper.make_node("ReduceMax", [f"{output}/of"], [output], keepdims=0))
        watched.graph.output.append(helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, ()))
    return _written(watched), outputs


def _written(model: onnx.ModelProto) -> bytes:
    size = model.ByteSize()
    if size > MOST_BYTES:
        raise VariantRefused(f"it takes {size} bytes, the limit is {MOST_BYTES}")
    data: bytes = model.SerializeToString(deterministic=True)
    return data
