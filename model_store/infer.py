"""A manifest's draft from an ONNX file alone, and in plain sentences what the file does not say.

Nothing is guessed: where the file leaves a meaning open the draft takes the plain kind ("tensor"), and a sentence says
what a written manifest would add. The batch axes are found by running the model, which this room does not do, so they
are told. Call it with bytes that passed `check_model`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import onnx

from .errors import InvalidManifest, RefusedModel, shown
from .manifest import (
    Batching,
    Dim,
    ExplanationDefaults,
    Feature,
    ImageSpec,
    InputKind,
    InputSpec,
    Manifest,
    OutputKind,
    OutputSpec,
)

MAX_FEATURES = 4096
# What transformers' exporters call inputs that say where and how far to look, and not what there is to see.
HELD = frozenset(
    {"attention_mask", "cache_position", "decoder_attention_mask", "encoder_attention_mask", "pixel_attention_mask"}
    | {"position_ids", "token_type_ids"}
)
CACHES = ("past_key_values", "past_key", "past_value", "cache.")

_DTYPES = {
    "FLOAT16": "float16",
    "FLOAT": "float32",
    "DOUBLE": "float64",
    **{f"{sign}INT{bits}": f"{sign.lower()}int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)},
    "BOOL": "bool",
}
_PASS_THROUGH = frozenset({"Identity", "Cast", "Flatten", "Reshape", "Squeeze"})
_OUTPUT_KINDS: dict[str, OutputKind] = {"Softmax": "probabilities", "Sigmoid": "probabilities", "LogSoftmax": "logits"}
# The pixel ranges that ONNX's image metadata know (docs/MetadataProps.md), as scale and offset.
_PIXEL_RANGES = {
    "NominalRange_0_255": (1.0, 0.0),
    "Normalized_0_1": (1.0 / 255.0, 0.0),
    "Normalized_1_1": (2.0 / 255.0, -1.0),
}


@dataclass
class _File:
    """The model, what was told about it, and what is found to be missing."""

    graph: onnx.GraphProto
    metadata: dict[str, str]
    batch_axes: Mapping[str, int | None]
    shapes: Mapping[str, Sequence[Dim]]
    unsure: list[str] = field(default_factory=list)


def infer_manifest(
    data: bytes,
    name: str,
    *,
    batch_axes: Mapping[str, int | None],
    batching: Batching | None = None,
    shapes: Mapping[str, Sequence[Dim]] | None = None,
    description: str = "",
) -> tuple[Manifest, list[str]]:
    """The draft, and the sentences that say what could not be inferred.

    `batch_axes` tells for each input and output its batch axis, or None for none (as for a name left out). `shapes`
    tells shapes, batch axis included, where the file does not or tells wrong ones.
    Raises RefusedModel for a model whose inputs are no plain tensors, InvalidManifest where a shape is not known.
    """
    model = _read(data)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    file = _File(model.graph, metadata, batch_axes, shapes or {})
    stored = {tensor.name for tensor in model.graph.initializer}
    fed = [value for value in model.graph.input if value.name not in stored]
    inputs = [_input(file, value, len(fed)) for value in fed]
    features = _features(file, inputs)
    draft = Manifest(
        name=name,
        description=description or model.graph.doc_string[:1000],
        inputs=inputs,
        outputs=_outputs(file),
        features=features,
        explanation=ExplanationDefaults(held=_held(file, inputs)),
        batching=batching or Batching(),
        lineage={"producer": f"{model.producer_name} {model.producer_version}".strip()},
    )
    return draft.validated(), file.unsure


def _read(data: bytes) -> onnx.ModelProto:
    """The model, the shapes of its outputs inferred where it does not tell them."""
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:
        # protobuf has its own tree of errors; whatever it is, the bytes are not a model.
        raise RefusedModel("the bytes are no ONNX model") from error
    if any(not value.type.tensor_type.HasField("shape") for value in model.graph.output):
        with contextlib.suppress(onnx.shape_inference.InferenceError):
            return onnx.shape_inference.infer_shapes(model)
    return model


def _tensor(file: _File, value: onnx.ValueInfoProto) -> tuple[str | None, list[Dim] | None]:
    """A value's numpy dtype (None if it is no tensor of numbers) and its shape (None if its rank is unknown)."""
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type"):
        return None, None
    dtype = _DTYPES.get(onnx.TensorProto.DataType.Name(kind.elem_type))
    if value.name in file.shapes:
        return dtype, list(file.shapes[value.name])
    if not kind.HasField("shape"):
        return dtype, None
    dims: list[Dim] = []
    for dim in kind.shape.dim:
        dims.append(dim.dim_value if dim.dim_value > 0 else dim.dim_param or None)
    return dtype, dims


def _input(file: _File, value: onnx.ValueInfoProto, count: int) -> InputSpec:
    dtype, shape = _tensor(file, value)
    where = f"input {shown(value.name)}"
    if dtype is None:
        raise RefusedModel(f"{where} is {_type_name(value)}, which is not served; expected a tensor of numbers")
    if shape is None:
        raise InvalidManifest(where, "the file does not tell its shape; give it in a manifest")
    plain = InputSpec(value.name, "tensor", dtype, shape, file.batch_axes.get(value.name))
    image = _image(file, plain, value)
    kind: InputKind = "image" if image else "tabular" if _is_tabular(file, plain, count) else "tensor"
    return InputSpec(plain.name, kind, dtype, shape, plain.batch_axis, image)


def _held(file: _File, inputs: list[InputSpec]) -> list[str]:
    """Inputs that go by the names of masks, positions and caches, beside others that are features."""
    found = [spec.name for spec in inputs if spec.name in HELD or spec.name.startswith(CACHES)]
    if not found or len(found) == len(inputs):
        return []
    listed = ", ".join(shown(name) for name in found[:6]) + (" and others" if len(found) > 6 else "")
    file.unsure.append(
        f"By their names, {listed} are no "
        "features: explanations take them as they come. A manifest (`explanation.held`) says otherwise."
    )
    return found


def _image(file: _File, spec: InputSpec, value: onnx.ValueInfoProto) -> ImageSpec | None:
    """How pictures enter, if the file leaves no doubt: fixed size, 1 or 3 channels, colour order and range known."""
    item = spec.item_shape
    if len(item) != 3 or not all(isinstance(dim, int) for dim in item):
        return None
    first, middle, last = (int(dim) for dim in item if isinstance(dim, int))
    if first in (1, 3) and min(middle, last) > 3:
        channels, height, width, nchw = first, middle, last, True
    elif last in (1, 3) and min(first, middle) > 3:
        channels, height, width, nchw = last, first, middle, False
    else:
        return None
    bounds = _PIXEL_RANGES.get(file.metadata.get("Image.NominalPixelRange", ""))
    order = file.metadata.get("Image.BitmapPixelFormat", "")
    told = value.type.denotation == "IMAGE" and bounds is not None
    if told and order in ("Gray8", "Rgb8") and (order == "Gray8") == (channels == 1) and spec.dtype.startswith("float"):
        scale, offset = bounds or (1.0, 0.0)
    elif spec.dtype == "uint8" and channels == 1:
        scale, offset = 1.0, 0.0
    else:
        file.unsure.append(
            f"Input {shown(spec.name)} has the shape of a picture: {height} x {width} pixels and {channels} channels; "
            "but the file does not say how pixels are scaled and colours ordered: it takes arrays. "
            "A manifest with an `image` lets it take PNG and JPEG."
        )
        return None
    return ImageSpec(height, width, "L" if channels == 1 else "RGB", "NCHW" if nchw else "NHWC", scale, offset)


def _is_tabular(file: _File, spec: InputSpec, count: int) -> bool:
    item = spec.item_shape
    if len(item) != 1 or not isinstance(item[0], int) or spec.batch_axis is None or spec.dtype == "bool":
        return False
    if item[0] > MAX_FEATURES:
        file.unsure.append(f"Input {shown(spec.name)} has {item[0]} columns, too many to name: it takes arrays.")
        return False
    # Whole numbers may be counts, codes or tokens; a column of its own is a feature in any case.
    return spec.dtype.startswith("float") or (item[0] == 1 and count > 1)


def _features(file: _File, inputs: list[InputSpec]) -> list[Feature]:
    tabular = [spec for spec in inputs if spec.kind == "tabular"]
    features = []
    for spec in tabular:
        size = spec.item_shape[0]
        columns = range(size if isinstance(size, int) else 0)
        if len(tabular) == 1:
            names = [f"f{index}" for index in columns]
        else:
            names = [spec.name] if len(columns) == 1 else [f"{spec.name}.{index}" for index in columns]
        features += [Feature(name=each, input=spec.name, index=index) for index, each in enumerate(names)]
    if features:
        file.unsure.append(
            f"The file names no columns: the {len(features)} features are called {shown(features[0].name)} to "
            f"{shown(features[-1].name)}. A manifest gives their names, units and category levels."
        )
    return features


def _outputs(file: _File) -> list[OutputSpec]:
    producers = {name: node for node in file.graph.node for name in node.output}
    outputs = []
    for value in file.graph.output:
        dtype, shape = _tensor(file, value)
        where = f"output {shown(value.name)}"
        if dtype is None:
            file.unsure.append(f"The {where} is {_type_name(value)} and is left out; tensors of numbers are served.")
            continue
        if shape is None:
            raise InvalidManifest(where, "the file does not tell its shape; give it in a manifest")
        plain = OutputSpec(value.name, "tensor", dtype, shape, file.batch_axes.get(value.name))
        kind = _output_kind(producers, plain)
        if kind in ("probabilities", "logits"):
            file.unsure.append(f"The {where} holds {kind} without class names. A manifest gives them.")
        else:
            file.unsure.append(
                f"The file does not say what the numbers of {where} mean: it is taken as a plain {kind}."
            )
        outputs.append(OutputSpec(plain.name, kind, dtype, shape, plain.batch_axis))
    if not outputs:
        raise RefusedModel("none of the model's outputs is a tensor of numbers")
    return outputs


def _output_kind(producers: Mapping[str, onnx.NodeProto], spec: OutputSpec) -> OutputKind:
    name, seen = spec.name, set()
    while name in producers and name not in seen:
        seen.add(name)
        node = producers[name]
        if node.domain in ("", "ai.onnx") and node.op_type in _OUTPUT_KINDS:
            return _OUTPUT_KINDS[node.op_type]
        if node.op_type not in _PASS_THROUGH or not node.input:
            break
        name = node.input[0]
    single = spec.item_shape in ((), (1,)) and spec.dtype.startswith("float")
    return "value" if single else "tensor"


def _type_name(value: onnx.ValueInfoProto) -> str:
    if value.type.HasField("tensor_type"):
        return f"a tensor of {onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type)}"
    kind = value.type.WhichOneof("value")
    return f"a {kind.removesuffix('_type')}" if kind else "of no declared type"
