"""Write side: `emit.mul(a, b)` adds a node and gives back the name of its output; always opset 18.

Operands are names of values, or constants written in place: a float takes the dtype of the first tensor beside it,
an int or a list of ints is int64, an array stays what it is. Equal nodes are emitted once (common subexpressions),
what nothing reads is dropped when the graph is finished.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import Any

import numpy as np
import onnx
from onnx import defs, helper, numpy_helper

from .dtypes import Dim, Shape, elem_type
from .graph import OPSET, Graph, reads

Operand = str | float | int | Sequence[int] | np.ndarray
# Names that Python or this class already use for something else.
ALIASES = {"logicalnot": "Not", "logicaland": "And", "logicalor": "Or"}
SPELLING = ALIASES | {schema.name.lower(): schema.name for schema in defs.get_all_schemas() if schema.domain == ""}
BOOLS = {"Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal", "And", "Or", "Not", "Xor", "IsNaN", "IsInf"}
INTS = {"Shape", "Size", "NonZero", "ArgMax", "ArgMin"}


class Emitter:
    """Collects nodes and constants of a graph under construction."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        """Start empty; `taken` are names that must not be used."""
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self._dtypes: dict[str, str] = {}
        self._shapes: dict[str, Shape] = {}
        self._sizes: dict[str, tuple[str, str]] = {}
        self._placed = 0
        self._taken = set(taken)
        self._known: dict[Any, tuple[str, ...]] = {}
        self._count = count(1)

    def inside(self) -> Emitter:
        """An emitter for a graph inside of a node: what is known here is known there; nodes there are its own, names
        and constants are common."""
        inner = Emitter()
        inner.constants, inner._taken, inner._count = self.constants, self._taken, self._count
        inner._dtypes, inner._shapes, inner._sizes = dict(self._dtypes), dict(self._shapes), dict(self._sizes)
        inner._known = dict(self._known)
        return inner

    def __getattr__(self, op: str) -> Callable[..., str]:
        """`emit.reduce_sum` is the operator ReduceSum: snake case of the name in the ONNX specification."""
        spelled = SPELLING.get(op.replace("_", ""))
        if spelled is None:
            raise AttributeError(f"no ONNX operator is called {op!r}")

        def add(*operands: Operand, **attributes: Any) -> str:
            return self.node(spelled, operands, attributes)[0]

        return add

    def node(
        self, op: str, operands: Sequence[Operand], attributes: dict[str, Any] | None = None, outputs: int = 1
    ) -> tuple[str, ...]:
        """Add a node with any number of outputs; an equal node that is already there is used again."""
        reference = next((name for name in operands if isinstance(name, str) and name), None)
        names = [self.operand(operand, reference) for operand in operands]
        present = {name: value for name, value in (attributes or {}).items() if value is not None}
        key = (op, tuple(names), outputs, repr(sorted(present.items())))
        if key not in self._known:
            results = tuple(self.fresh(op) for _ in range(outputs))
            self.nodes.append(helper.make_node(op, names, results, **present))
            self._known[key] = results
            for result in results:
                self._dtypes[result] = self._result_dtype(op, names, present)
        return self._known[key]

    def operand(self, operand: Operand, reference: str | None) -> str:
        """The name under which an operand is read."""
        if isinstance(operand, str):
            return operand
        if isinstance(operand, np.ndarray):
            return self.constant(operand)
        if isinstance(operand, bool):
            return self.constant(np.array(operand))
        if isinstance(operand, float):
            dtype = self.dtype(reference) if reference else "float32"
            return self.constant(np.array(operand, dtype=dtype))
        return self.constant(np.array(operand, dtype=np.int64))

    def constant(self, array: np.ndarray) -> str:
        """Name of a constant of the graph; equal constants are one."""
        key = ("constant", str(array.dtype), array.shape, array.tobytes())
        if key not in self._known:
            name = self.fresh("constant")
            self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
            self._dtypes[name] = str(array.dtype)
            self._known[key] = (name,)
        return self._known[key][0]

    def fresh(self, stem: str) -> str:
        """A name nobody uses yet."""
        while True:
            name = f"{stem.lower()}.{next(self._count)}"
            if name not in self._taken:
                self._taken.add(name)
                return name

    def take(self, name: str, dtype: str) -> str:
        """Declare a value that comes from outside (an input of the program)."""
        self._taken.add(name)
        self._dtypes[name] = dtype
        return name

    def follow(self, node: onnx.NodeProto) -> None:
        """Put a node here as it is; results of unknown dtype have that of an emitted one."""
        self.nodes.append(node)
        attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        for name in node.output:
            if name and name not in self._dtypes:
                self._dtypes[name] = self._result_dtype(node.op_type, list(node.input), attributes)

    def swap(self, name: str, change: Callable[[onnx.NodeProto], onnx.NodeProto]) -> None:
        """Put another node in the place of the one that makes a value, made of it by `change`."""
        place = next(place for place, node in enumerate(self.nodes) if name in node.output)
        self.nodes[place] = change(self.nodes[place])

    def place(self, graph: Graph, state_shapes: bool = False) -> None:
        """Put the nodes of a (bound) model graph here as they are.

        `state_shapes` says that the shapes inferred for the model hold for what it is fed here: then the program
        states them, and runtimes keep blocked layouts and reuse buffers where they see that two shapes are the same.
        """
        self._taken.update(graph.types)
        for node in graph.nodes:
            self.nodes.append(node.proto)
            self._taken.update(node.outputs)
        self.constants.update(graph.constants)
        self._dtypes.update({name: kind.dtype for name, kind in graph.types.items()})
        self._placed += 1
        if state_shapes:
            for name in (name for node in graph.nodes for name in node.outputs if graph.type(name).is_float):
                self._shapes[name] = tuple(self._own_dim(dim) for dim in graph.type(name).shape or ())

    def _own_dim(self, dim: Dim) -> Dim:
        """A symbol of the model as one of this placement: the same model may stand here twice with other rows."""
        return f"{dim}.{self._placed}" if isinstance(dim, str) else dim

    def like(self, value: str, other: str) -> None:
        """State that a value has the shape of another one, if that is stated."""
        if other in self._shapes:
            self._shapes.setdefault(value, self._shapes[other])

    def stated(self, nodes: Iterable[onnx.NodeProto], outputs: Iterable[str]) -> list[onnx.ValueInfoProto]:
        """Types of the values whose shape is stated, of those that `nodes` make and that are no `outputs`."""
        made = [name for node in nodes for name in node.output if self._shapes.get(name)]
        inner = (name for name in made if name not in set(outputs))
        return [helper.make_tensor_value_info(n, elem_type(self._dtypes[n]), self._shapes[n]) for n in inner]

    def dtype(self, name: str) -> str:
        """Dtype of a value: read from the model, or followed through the nodes emitted."""
        return self._dtypes.get(name, "float32")

    def shape(self, value: str, *, start: int | None = None, end: int | None = None) -> str:
        """Shape at run time, or its axes `start` to `end`; read from where it costs nothing, if that is known."""
        source, rows = self._sizes.get(value, (value, ""))
        if not rows or (start or 0) > 0:
            return self.node("Shape", (source,), {"start": start, "end": end})[0]
        if start is None and end is None:
            return self.join(self.shape(rows), self.shape(source, start=1))
        return (
            self.shape(rows)
            if (start or 0, end) == (0, 1)
            else self.node("Shape", (value,), {"start": start, "end": end})[0]
        )

    def size(self, value: str) -> str:
        """Number of elements at run time, int64 scalar."""
        if value in self._sizes:
            return self.reduce_prod(self.shape(value), keepdims=0)
        return self.node("Size", (value,))[0]

    def sized(self, value: str, other: str) -> None:
        """Say that a value has the shape of another one, from which it may be read instead."""
        self._sizes[value] = self._sizes.get(other, (other, ""))
        self.like(value, other)

    def rows(self, value: str, rows: str) -> str:
        """The rows of a value whose numbers are in `rows` (int64 [M])."""
        taken = self.gather(value, rows, axis=0)
        self._sizes[taken] = (value, rows)
        if value in self._shapes:
            self._shapes.setdefault(taken, (f"taken.{rows}", *self._shapes[value][1:]))
        return taken

    def split(self, value: str, sizes: Operand, count: int, *, axis: int) -> tuple[str, ...]:
        """Split with run-time sizes into `count` parts."""
        return self.node("Split", (value, sizes), {"axis": axis}, count)

    def cast_to(self, value: str, dtype: str) -> str:
        """Cast, left out where the dtype is right already."""
        return value if self.dtype(value) == dtype else self.cast(value, to=elem_type(dtype))

    def cast_like_value(self, value: str, like: str) -> str:
        """Cast to the dtype of another value."""
        return self.cast_to(value, self.dtype(like))

    def zeros(self, shape: str, like: str) -> str:
        """Zeros of a run-time shape in the dtype of another value."""
        value = numpy_helper.from_array(np.zeros(1, dtype=self.dtype(like)))
        return self.constant_of_shape(shape, value=value)

    def pad_along(
        self, value: str, pads: str | Sequence[int], axes: Sequence[int], rank: int, fill: float = 0.0, **given: Any
    ) -> str:
        """Pad some axes (before each, then behind each), with the pads of all axes stated.

        ONNX Runtime 1.31 moves a Transpose past a Pad as if there were no input `axes`, and reads pads of all axes.
        """
        place = {axis: i for i, axis in enumerate(axes)}
        none = 2 * len(place)
        sides = [i + place[axis] if axis in place else none for i in (0, len(place)) for axis in range(rank)]
        every = [*pads, 0] if not isinstance(pads, str) else self.concat(pads, [0], axis=0)
        whole = self.gather(every, sides, axis=0) if isinstance(every, str) else self.constant(np.array(every)[sides])
        return self.pad(value, whole, np.array(fill, dtype=self.dtype(value)), **given)

    def zeros_like(self, value: str) -> str:
        """Zeros of the shape and dtype of a value."""
        return self.zeros(self.shape(value), value)

    def dim(self, value: str, axis: int) -> str:
        """Size of one axis at run time, int64 [1]."""
        return self.shape(value, start=axis, end=axis + 1 if axis != -1 else None)

    def dims(self, value: str, start: int = 0, end: int | None = None) -> str:
        """Sizes of axes start to end at run time, int64 [end - start]."""
        return self.shape(value, start=start, end=end)

    def join(self, *dims: Operand) -> str:
        """One int64 vector out of run-time and fixed sizes."""
        return self.concat(*([dim] if isinstance(dim, int) else dim for dim in dims), axis=0)

    def arange(self, length: str) -> str:
        """0, 1, ... length-1 as int64, for a length given as int64 [1]."""
        return self.range(np.array(0), self.squeeze(length, [0]), np.array(1))

    def _result_dtype(self, op: str, names: Sequence[str], attributes: dict[str, Any]) -> str:
        if op in BOOLS:
            return "bool"
        if op in INTS:
            return "int64"
        if op == "Cast":
            return str(np.dtype(helper.tensor_dtype_to_np_dtype(attributes["to"])))
        if op == "ConstantOfShape":
            return str(numpy_helper.to_array(attributes["value"]).dtype)
        if op == "OneHot":
            return self.dtype(names[2])
        if op == "QuantizeLinear":
            return self.dtype(names[2]) if names[2:] else "uint8"
        if op == "DequantizeLinear":
            return self.dtype(names[1])
        return self.dtype(names[1] if op == "Where" else next((name for name in names if name), ""))

    def finish(self, outputs: Iterable[str]) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
        """Nodes and constants that the outputs need, in order; the rest is dropped."""
        needed = set(outputs)
        kept: list[onnx.NodeProto] = []
        for node in reversed(self.nodes):
            if any(name in needed for name in node.output):
                kept.append(node)
                needed.update(reads(node))
        kept.reverse()
        return kept, [tensor for name, tensor in self.constants.items() if name in needed]


__all__ = ["OPSET", "Emitter", "Operand"]
