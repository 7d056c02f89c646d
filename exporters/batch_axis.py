"""Finds the batch axis of each input and output by running the model, because files do not say it.

For each way in which the inputs could be stacked, that axis is made free and the model is asked whether
f([a; b; c]) = [f(a); f([b; c])]. A file that fixes its batch at 1 is thereby relaxed where it can be; a model whose
rows influence each other, or which has no axis to stack along, is served row by row, with the reason.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

import explain
from engine import EngineError

from .describing import tensor_type
from .errors import InvalidImport
from .exported import Array
from .running import DataFiles, run, stored

if TYPE_CHECKING:
    from engine import Engine

BATCH = "N"
FREE_SIZES = (5, 16, 64, 224)
TOLERANCE = 1e-4
_MOST_WAYS = 64
Axes = dict[str, int | None]
Shape = list[int | str | None]


@dataclass(frozen=True)
class Found:
    """What was found: the file to serve (relaxed or as it came), an axis for each tensor, and why not where None.

    shapes  by name, the batch axis called N; of outputs as they were seen
    reason  None when rows can share a run; else one sentence
    """

    model: bytes
    axes: Axes
    shapes: dict[str, Shape]
    reason: str | None
    relaxed: bool


@dataclass(frozen=True)
class _Tensor:
    name: str
    dtype: Any
    shape: Shape


def find_batch_axes(
    model: bytes, engine: Engine, rows: Mapping[str, Array] | None = None, data_files: DataFiles | None = None
) -> Found:
    """Looks for the batch axes of a model. ``rows``: real items by input ([n, ...item]) to test with, else random ones;
    ``data_files``: where its external data lie.

    Raises InvalidImport when the model does not run even on a single row.
    """
    proto = onnx.load_model_from_string(model)
    stored = {tensor.name for tensor in proto.graph.initializer}
    inputs = [_tensor(value) for value in proto.graph.input if value.name not in stored]
    outputs = [value for value in proto.graph.output if _numeric(value)]
    probe = _Probe(proto, inputs, outputs, engine, rows, data_files)
    decided = _decided(proto)
    if decided is not None:
        return probe.single(decided)
    reason = "no input has an axis that could count rows"
    for axes in _ways(inputs):
        result = probe.try_axes(axes)
        if isinstance(result, Found):
            return result
        reason = result
    return probe.single(reason)


def _decided(proto: onnx.ModelProto) -> str | None:
    """What the values of an item decide for its run: few rows that are tried may all decide alike."""
    try:
        return explain.Model(proto).decided
    except explain.ExplainError:  # a model that cannot be read is served as it behaves
        return None


def _ways(inputs: list[_Tensor]) -> Iterator[dict[str, int]]:
    """Axes to try, the likeliest first: all 0, axes of one common name, all 1, then any mixture."""
    candidates = {
        tensor.name: [a for a, dim in enumerate(tensor.shape) if not isinstance(dim, int) or dim == 1]
        for tensor in inputs
    }
    if not inputs or not all(candidates.values()):
        return
    tried: list[dict[str, int]] = []
    uniform = [{tensor.name: axis for tensor in inputs} for axis in (0, 1)]
    named = []
    for name in {dim for tensor in inputs for dim in tensor.shape if isinstance(dim, str)}:
        if all(name in tensor.shape for tensor in inputs):
            named.append({tensor.name: tensor.shape.index(name) for tensor in inputs})
    mixed = (dict(zip(candidates, axes, strict=True)) for axes in itertools.product(*candidates.values()))
    for axes in itertools.islice(itertools.chain(uniform[:1], named, uniform[1:], mixed), _MOST_WAYS):
        if axes not in tried and all(axis in candidates[name] for name, axis in axes.items()):
            tried.append(axes)
            yield axes


class _Probe:
    """Runs one model with rows stacked this way and that."""

    def __init__(
        self,
        proto: onnx.ModelProto,
        inputs: list[_Tensor],
        outputs: list[onnx.ValueInfoProto],
        engine: Engine,
        rows: Mapping[str, Array] | None,
        data_files: DataFiles | None,
    ) -> None:
        self._data_files = data_files
        self._proto, self._inputs, self._engine, self._rows = proto, inputs, engine, rows
        self._outputs = [value.name for value in outputs]
        self._declared = {v.name: tensor_type(v)[1] for v in outputs if v.type.tensor_type.HasField("shape")}

    def try_axes(self, axes: dict[str, int]) -> Found | str:
        """The finding if rows stacked along these axes do not influence each other; else a sentence why not."""
        relaxed = _with_free_axes(self._proto, axes)
        for size in FREE_SIZES:
            items = [self._item(axes, size, seed) for seed in range(3)]
            joined = _stacked(items, axes)
            try:
                whole = self._run(relaxed, joined)
                parts = [self._run(relaxed, items[0]), self._run(relaxed, _stacked(items[1:], axes))]
            except EngineError as error:
                failure = f"it does not run with several rows at once: {str(error)[:200]}"
                continue
            return self._compared(relaxed, axes, whole, parts)
        return failure

    def _compared(
        self, relaxed: bytes, axes: dict[str, int], whole: Mapping[str, Array], parts: list[dict[str, Array]]
    ) -> Found | str:
        found: Axes = dict(axes)
        for name in self._outputs:
            one, two, three = parts[0][name], parts[1][name], whole[name]
            grown = [axis for axis in range(three.ndim) if _counts(one, two, three, axis)]
            if not grown:
                return f"output {name!r} has no axis that grows with the number of rows"
            matching = [axis for axis in grown if _equal(np.concatenate([one, two], axis=axis), three)]
            if not matching:
                return f"output {name!r} of a row changes with the other rows of its batch"
            found[name] = matching[0]
        shapes = {tensor.name: _marked(tensor.shape, found[tensor.name]) for tensor in self._inputs}
        shapes |= {name: self._shape(name, parts[0][name], found[name]) for name in self._outputs}
        changed = any(tensor.shape[axes[tensor.name]] == 1 for tensor in self._inputs)
        return Found(relaxed if changed else self._proto.SerializeToString(), found, shapes, None, changed)

    def single(self, reason: str) -> Found:
        """Row by row: axes of size 1 (or free) in front are still the row axis, so that a row need not carry them."""
        lead = all(
            tensor.shape and (not isinstance(tensor.shape[0], int) or tensor.shape[0] == 1) for tensor in self._inputs
        )
        axes: Axes = {tensor.name: 0 if lead and self._inputs else None for tensor in self._inputs}
        served = self._proto.SerializeToString()
        failure: EngineError | None = None
        for size in FREE_SIZES:
            try:
                answer = self._run(served, self._item({n: a for n, a in axes.items() if a is not None}, size, 0))
            except EngineError as error:
                failure = error
                continue
            axes |= {name: 0 if lead and value.ndim and len(value) == 1 else None for name, value in answer.items()}
            shapes = {tensor.name: tensor.shape for tensor in self._inputs}
            shapes |= {name: self._shape(name, value, None) for name, value in answer.items()}
            return Found(served, axes, shapes, reason, False)
        raise InvalidImport(f"the model does not run on one row: {failure}")

    def _shape(self, name: str, seen: Array, axis: int | None) -> Shape:
        """As the file tells it; where it does not, sizes that cannot depend on a free axis are as they were seen."""
        declared = self._declared.get(name, [])
        if len(declared) != seen.ndim:
            open_ended = any(not isinstance(dim, int) for t in self._inputs for dim in t.shape[1:])
            declared = [None if open_ended else size for size in seen.shape]
        return _marked(declared, axis)

    def _run(self, model: bytes, feeds: Mapping[str, Array]) -> dict[str, Array]:
        inputs = [tensor.name for tensor in self._inputs]
        artifact = stored(model, inputs, self._outputs, whole=True, data_files=self._data_files)
        try:
            return run(self._engine, artifact, feeds)
        finally:
            self._engine.unload(artifact.digest)

    def _item(self, axes: Mapping[str, int], size: int, seed: int) -> dict[str, Array]:
        """One item: batch axes of length 1, other free axes of length ``size``; real rows where there are any."""
        random = np.random.default_rng(seed)
        item = {}
        for tensor in self._inputs:
            axis = axes.get(tensor.name)
            shape = [1 if a == axis else dim if isinstance(dim, int) else size for a, dim in enumerate(tensor.shape)]
            if self._rows is not None and axis is not None:
                rows = self._rows[tensor.name]
                item[tensor.name] = np.expand_dims(rows[seed % len(rows)], axis)
            else:
                item[tensor.name] = _drawn(random, np.dtype(tensor.dtype), shape)
        return item


def _drawn(random: np.random.Generator, dtype: np.dtype[Any], shape: list[int]) -> Array:
    """Numbers that most models accept: floats of 0..1, whole numbers of 0 and 1, which are codes of any vocabulary."""
    if dtype.kind == "f":
        return random.random(shape).astype(dtype)
    return random.integers(0, 2, size=shape).astype(dtype)


def _stacked(items: list[dict[str, Array]], axes: Mapping[str, int]) -> dict[str, Array]:
    return {name: np.concatenate([item[name] for item in items], axis=axis) for name, axis in axes.items()}


def _counts(one: Array, two: Array, three: Array, axis: int) -> bool:
    """Whether sizes along the axis are those of 1, 2 and 3 rows, and all other sizes agree."""
    rest = [array.shape[:axis] + array.shape[axis + 1 :] for array in (one, two, three) if array.ndim == three.ndim]
    if len(rest) != 3 or len(set(rest)) != 1:
        return False
    return (one.shape[axis], two.shape[axis], three.shape[axis]) == (1, 2, 3)


def _equal(joined: Array, whole: Array) -> bool:
    """Equal but for the rounding of another batch size; NaN equals NaN."""
    if whole.dtype.kind != "f":
        return bool((joined == whole).all())
    finite = np.abs(whole[np.isfinite(whole)])
    scale = float(finite.max()) if finite.size else 1.0
    return bool(np.allclose(joined, whole, rtol=TOLERANCE, atol=TOLERANCE * max(scale, 1e-30), equal_nan=True))


def _with_free_axes(proto: onnx.ModelProto, axes: Mapping[str, int]) -> bytes:
    """A copy with these axes called N, and without the shapes that were inferred from the old ones."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for value in copy.graph.input:
        if value.name in axes:
            value.type.tensor_type.shape.dim[axes[value.name]].dim_param = BATCH
    if any(dim == 1 for dim in _fixed(proto, axes)):
        del copy.graph.value_info[:]
        for value in copy.graph.output:
            for dim in value.type.tensor_type.shape.dim:
                if dim.dim_value == 1:
                    dim.Clear()
    return bytes(copy.SerializeToString(deterministic=True))


def _fixed(proto: onnx.ModelProto, axes: Mapping[str, int]) -> list[int]:
    return [v.type.tensor_type.shape.dim[axes[v.name]].dim_value for v in proto.graph.input if v.name in axes]


def _tensor(value: onnx.ValueInfoProto) -> _Tensor:
    if not _numeric(value) or not value.type.tensor_type.HasField("shape"):
        raise InvalidImport(f"input {value.name!r} is no tensor of numbers with a known rank")
    dtype, shape = tensor_type(value)
    return _Tensor(value.name, dtype, shape)


def _numeric(value: onnx.ValueInfoProto) -> bool:
    kind = value.type.tensor_type.elem_type
    return value.type.HasField("tensor_type") and kind not in (onnx.TensorProto.STRING, onnx.TensorProto.UNDEFINED)


def _marked(shape: Shape, axis: int | None) -> Shape:
    return [BATCH if place == axis else dim for place, dim in enumerate(shape)]
