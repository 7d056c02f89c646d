"""How large the tensors are that a runtime would compute while it loads a model.

A runtime folds constants: a file of a hundred bytes can ask for gigabytes at load. This follows the nodes whose
inputs are all constant, takes the sizes from shape inference and, where a size is itself computed, computes it on
small tensors. What is too large is refused; so is a constant whose size cannot be known. Runs in the gate's child,
after functions are inlined.
"""

from __future__ import annotations

import contextlib
import math
from collections import ChainMap
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from .errors import shown
from .limits import Limits
from .outside import Refusal
from .structure import STANDARD, product

SMALL = 1 << 16
"""Tensors of at most so many elements are computed; of larger ones only the size is followed."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_COMPUTED = _words(
    """
    Abs Add And Cast CastLike Ceil Clip Concat ConstantOfShape Div Equal Exp Expand Flatten Floor Gather
    GatherElements GatherND Greater GreaterOrEqual Identity Less LessOrEqual Log Max Min Mod Mul Neg NonZero Not
    OneHot Or Pad Pow Range ReduceMax ReduceMin ReduceProd ReduceSum Reshape Round ScatterElements ScatterND
    Shape Sign Size Slice Sqrt Squeeze Sub Sum Tile Transpose Unsqueeze Where
    """
)
# Their outputs are never larger than their inputs together; NonZero is, by the rank.
_SHRINKING = _words(
    """
    Cast Compress Concat Flatten Identity NonZero Reshape Slice Split Squeeze Transpose Unique Unsqueeze
    """
)


@dataclass
class Constant:
    """What is known of a constant: a bound on its elements, its shape, its value."""

    bound: int
    shape: tuple[int, ...] | None = None
    value: Any = None


Known = ChainMap[str, Constant | None]
"""By name: a constant, or None for a value that is known to be none. Inner graphs see the outer names."""


class Folding:
    """One pass over a model with inferred shapes; `check` raises Refusal."""

    def __init__(self, model: onnx.ModelProto, limits: Limits) -> None:
        self._model, self._limits = model, limits
        self._opsets = {opset.domain: opset.version for opset in model.opset_import}
        self._total = 0

    def check(self) -> None:
        """Every inferred size against `max_tensor`, every constant against `max_constant` and their sum."""
        self._graph(self._model.graph, ChainMap())

    def _graph(self, graph: onnx.GraphProto, outer: Known) -> Known:
        known = outer.new_child()
        shapes = _shapes((*graph.input, *graph.value_info, *graph.output))
        for value in graph.input:
            known[value.name] = None
        for tensor in graph.initializer:
            known[tensor.name] = _stored(tensor)
        for sparse in graph.sparse_initializer:
            # It is stored sparse, and a runtime makes it dense when it loads.
            size = product(sparse.dims)
            self._count(size, f"sparse initializer {shown(sparse.values.name)}")
            known[sparse.values.name] = Constant(size, tuple(sparse.dims))
        for name, shape in shapes.items():
            if product(shape) > self._limits.max_tensor:
                raise Refusal(
                    f"value {shown(name)} has shape {shown(list(shape))}, larger than the limit of "
                    f"{self._limits.max_tensor} elements"
                )
        for node in graph.node:
            self._node(node, known, shapes)
        return known

    def _node(self, node: onnx.NodeProto, known: Known, shapes: dict[str, tuple[int, ...]]) -> None:
        branches = [
            (graph, self._graph(graph, known))
            for attribute in node.attribute
            for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs)
        ]
        if node.op_type == "Constant" and node.domain in STANDARD:
            known[node.output[0]] = self._constant(node)
            return
        names = [name for name in node.input if name]
        inputs = [known.get(name) for name in names]
        if node.op_type in ("Shape", "Size") and names and inputs[0] is None and names[0] in shapes:
            self._shape_of(node, shapes[names[0]], known)
            return
        constants = [each for each in inputs if each is not None]
        if not branches and len(constants) == len(names):
            self._fold(node, constants, known, shapes)
            return
        for position, name in enumerate(node.output):
            # A choice whose condition is constant is made at load, and its branch's constants become the graph's.
            ends = [inner.get(graph.output[position].name) for graph, inner in branches if position < len(graph.output)]
            fixed = [end for end in ends if end is not None] if node.op_type == "If" and constants else []
            known[name] = Constant(max(end.bound for end in fixed), shapes.get(name)) if fixed else None

    def _fold(
        self,
        node: onnx.NodeProto,
        inputs: list[Constant],
        known: Known,
        shapes: dict[str, tuple[int, ...]],
    ) -> None:
        bounds = {name: self._bound(node, name, inputs, shapes) for name in node.output if name}
        for name, bound in bounds.items():
            self._count(bound, f"node {shown(node.name)} ({node.op_type[:60]})")
            known[name] = Constant(bound, shapes.get(name))
        if node.op_type not in _COMPUTED or node.domain not in STANDARD or any(b > SMALL for b in bounds.values()):
            return
        if any(each.value is None for each in inputs):
            return
        for name, value in zip(node.output, self._computed(node, [each.value for each in inputs]), strict=False):
            known[name] = Constant(value.size, value.shape, value)

    def _computed(self, node: onnx.NodeProto, values: list[Any]) -> list[Any]:
        """The node's outputs by onnx's reference implementation, or none if it cannot compute them."""
        names = [name for name in node.input if name]
        try:
            with np.errstate(all="ignore"):
                evaluator = ReferenceEvaluator(node, opsets=self._opsets)
                results = evaluator.run(None, dict(zip(names, values, strict=True)))
        except MemoryError:
            raise
        except Exception:
            # A node it cannot compute is not wrong for that; its value is then unknown, and its size still bounded.
            return []
        return [np.asarray(result) for result in results]

    def _bound(
        self, node: onnx.NodeProto, output: str, inputs: list[Constant], shapes: dict[str, tuple[int, ...]]
    ) -> int:
        if output in shapes:
            return product(shapes[output])
        told = _told_size(node, inputs)
        if told is not None:
            return told
        if node.op_type in _SHRINKING and node.domain in STANDARD:
            rank = 64 if node.op_type == "NonZero" else 1
            return rank * sum(each.bound for each in inputs)
        if node.op_type in _ELEMENTWISE or node.domain not in (*STANDARD, "ai.onnx.ml"):
            return product(max(each.bound, 1) for each in inputs)
        raise Refusal(
            f"node {shown(node.name)} ({node.op_type[:60]}): the size of this constant is not known before load"
        )

    def _count(self, elements: int, place: str) -> None:
        if elements > self._limits.max_constant:
            raise Refusal(f"{place}: a constant of {elements} elements, the limit is {self._limits.max_constant}")
        self._total += elements
        if self._total > self._limits.max_constants:
            raise Refusal(
                f"{place}: constants of over {self._limits.max_constants} elements together, which is the limit"
            )

    def _constant(self, node: onnx.NodeProto) -> Constant:
        attribute = node.attribute[0] if node.attribute else None
        if attribute is None:
            return Constant(0)
        if attribute.name == "value":
            return _stored(attribute.t)
        if attribute.name == "sparse_value":
            size = product(attribute.sparse_tensor.dims)
            self._count(size, f"node {shown(node.name)} (Constant)")
            return Constant(size, tuple(attribute.sparse_tensor.dims))
        value = np.asarray(onnx.helper.get_attribute_value(attribute))
        return Constant(value.size, value.shape, value if value.dtype.kind in "iuf" else None)

    def _shape_of(self, node: onnx.NodeProto, shape: tuple[int, ...], known: Known) -> None:
        """A runtime folds the shape of a value whose shape is fixed, though the value itself is not."""
        named = {attribute.name: attribute.i for attribute in node.attribute}
        part = shape[slice(named.get("start", 0), named.get("end", len(shape)))]
        value = np.asarray(part if node.op_type == "Shape" else product(shape), dtype=np.int64)
        known[node.output[0]] = Constant(value.size, value.shape, value)


_ELEMENTWISE = _words(
    """
    Abs Add And BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast CastLike Ceil Clip Cos CumSum DequantizeLinear
    Div Equal Erf Exp Floor Greater GreaterOrEqual IsInf IsNaN Less LessOrEqual Log Max Mean Min Mod Mul Neg Not
    Or Pow QuantizeLinear Reciprocal Relu Round Sigmoid Sign Sin Softmax Sqrt Sub Sum Tanh Trilu Where Xor
    """
)


def _told_size(node: onnx.NodeProto, inputs: list[Constant]) -> int | None:
    """The output's size where an input's value tells it; None for other operators and unknown values."""
    values = [each.value for each in inputs]
    match node.op_type:
        case "ConstantOfShape" if values[0] is not None:
            return _positive(values[0])
        case "Expand" if values[1] is not None:
            wanted = tuple(max(int(size), 1) for size in values[1])
            if inputs[0].shape is not None:
                with contextlib.suppress(ValueError):
                    return product(np.broadcast_shapes(inputs[0].shape, wanted))
            return product(wanted) * max(inputs[0].bound, 1)
        case "Tile" if values[1] is not None:
            return _positive(values[1]) * inputs[0].bound
        case "Range" if all(value is not None for value in values):
            start, limit, delta = (float(np.asarray(value).reshape(-1)[0]) for value in values)
            steps = (limit - start) / delta if delta else 0.0
            return max(0, math.ceil(steps)) if math.isfinite(steps) else 1 << 62
    return None


def _positive(values: Any) -> int:
    return product(max(int(value), 1) for value in np.asarray(values).reshape(-1))


def _stored(tensor: onnx.TensorProto) -> Constant:
    """An initializer, which the file already holds; its value only if it is small and numeric."""
    size = product(tensor.dims)
    value = None
    if size <= SMALL and tensor.data_type not in (onnx.TensorProto.STRING, onnx.TensorProto.UNDEFINED):
        value = onnx.numpy_helper.to_array(tensor)
    return Constant(size, tuple(tensor.dims), value)


def _shapes(values: Iterable[onnx.ValueInfoProto]) -> dict[str, tuple[int, ...]]:
    """The shapes that are wholly fixed, by name."""
    found = {}
    for value in values:
        kind = value.type.tensor_type
        if value.type.HasField("tensor_type") and kind.HasField("shape"):
            dims = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in kind.shape.dim]
            if all(dim >= 0 for dim in dims):
                found[value.name] = tuple(dims)
    return found
