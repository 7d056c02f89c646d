"""The graph in which chosen nodes compute in float16, with Casts where the two precisions meet.

Values keep their names: one that is computed in float16 is called as before, and `name/float32` what it is cast to for
a reader in float32. Inputs and outputs of the model stay float32. `rounded` is the way back: float32 throughout, each
value rounded as float16 would hold it. A runtime without kernels for float16 computes such nodes in float32 and need
not round between them; here it must.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .choosing import Network, bodies

HALF, FLOAT = "float16", "float32"
_TYPES = {HALF: TensorProto.FLOAT16, FLOAT: TensorProto.FLOAT}


def halved(network: Network, halves: Mapping[str, onnx.NodeProto]) -> onnx.ModelProto:
    """A copy of the model in which these values are computed in float16 by these nodes (`choosing.chosen`)."""
    return _Writer(network, halves).written()


class _Writer:
    """One graph on its way; `_names` is what each value is called in each precision, where it is there in it."""

    def __init__(self, network: Network, halves: Mapping[str, onnx.NodeProto]) -> None:
        graph = network.model.graph
        self._network, self._halves = network, halves
        self._computing = {id(node) for node in halves.values()}
        self._taken = _names(graph)
        self._outputs = {value.name for value in graph.output}
        self._names: dict[tuple[str, str], str] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._arrays: dict[str, str] = {}  # constants in half precision: what they were called
        self._kept = self._read_wide()

    def _read_wide(self) -> set[str]:
        """What something reads in float32."""
        plain = [node for node in self._network.nodes if id(node) not in self._computing]
        return {name for node in plain for name in node.input} | set(self._network.captured) | self._outputs

    def written(self) -> onnx.ModelProto:
        """The model."""
        for node in self._network.nodes:
            self._put(node)
        model = onnx.ModelProto()
        model.CopyFrom(self._network.model)
        graph = model.graph
        changed = self._halves.keys() | self._arrays.keys()
        typed = [value for value in graph.value_info if value.name not in changed]
        for field, found in (("node", self._nodes), ("initializer", self._constants()), ("value_info", typed)):
            graph.ClearField(field)
            getattr(graph, field).extend(found)
        return model

    def _put(self, node: onnx.NodeProto) -> None:
        """One node, behind the Casts of what it reads."""
        computing, copy = id(node) in self._computing, onnx.NodeProto()
        copy.CopyFrom(node)
        wanted = HALF if computing else FLOAT
        floats = set(self._network.floats(node))
        copy.input[:] = [self._in(name, wanted) if name in floats else name for name in node.input]
        casts = []
        for place, name in enumerate(node.output):
            if computing and name in self._halves:
                inner = self._fresh(name, HALF) if name in self._outputs else name
                copy.output[place] = self._names[name, HALF] = inner
                casts += [_cast(inner, name, FLOAT)] if name in self._outputs else []
        self._nodes += [copy, *casts]

    def _in(self, name: str, precision: str) -> str:
        """What a float32 value of the model is called in a precision; cast to it, if it is not there yet."""
        own = HALF if name in self._halves and name not in self._outputs else FLOAT
        if precision == own:
            return name
        if (name, precision) not in self._names:
            self._names[name, precision] = self._made(name, precision)
        return self._names[name, precision]

    def _made(self, name: str, precision: str) -> str:
        if name in self._network.constants:
            called = self._fresh(name, HALF) if name in self._kept else name
            self._arrays[called] = name
            return called
        called = self._fresh(name, precision)
        self._nodes.append(_cast(name, called, precision))
        return called

    def _constants(self) -> list[onnx.TensorProto]:
        """Those that are still read, with their data inside."""
        halves = [
            numpy_helper.from_array(self._network.constant(name).astype(np.float16), called)
            for called, name in self._arrays.items()
        ]
        read = self._kept | {name for node in self._nodes for name in node.input}
        return halves + [
            _inside(tensor, self._network)
            for tensor in self._network.model.graph.initializer
            if tensor.name in read and tensor.name not in self._arrays
        ]

    def _fresh(self, name: str, precision: str) -> str:
        called = f"{name}/{precision}"
        while called in self._taken:
            called += "_"
        self._taken.add(called)
        return called


def rounded(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same in float32 throughout, each value that was computed in float16 rounded to it (to infinity, where it is
    too large), as a judge of what hardware that computes in float16 will answer."""
    typed = onnx.shape_inference.infer_shapes(model).graph.value_info
    halves = {value.name for value in typed if value.type.tensor_type.elem_type == TensorProto.FLOAT16}
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    for field in ("node", "value_info"):
        wide.graph.ClearField(field)
    for tensor in wide.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    for node in model.graph.node:
        wide.graph.node.extend(_rounding(node, halves))
    return wide


def _rounding(node: onnx.NodeProto, halves: Set[str]) -> list[onnx.NodeProto]:
    """A node whose results in `halves` are rounded; a Cast between the precisions only passes on."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    if node.op_type == "Cast" and halves & {*node.input, *node.output}:
        copy = helper.make_node("Identity", node.input, node.output)
    made = [name for name in copy.output if name in halves]
    copy.output[:] = [f"{name}/exact" if name in halves else name for name in copy.output]
    casts = [_cast(f"{name}/exact", f"{name}/rounded", HALF) for name in made]
    return [copy, *casts, *(_cast(f"{name}/rounded", name, FLOAT) for name in made)]


def _cast(name: str, called: str, precision: str) -> onnx.NodeProto:
    return helper.make_node("Cast", [name], [called], name=called, to=_TYPES[precision])


def _inside(tensor: onnx.TensorProto, network: Network) -> onnx.TensorProto:
    if tensor.data_location != TensorProto.EXTERNAL:
        return tensor
    return numpy_helper.from_array(np.array(network.constant(tensor.name)), tensor.name)


def _names(graph: onnx.GraphProto) -> set[str]:
    """Every name of a value in a graph, and in the graphs inside of its nodes."""
    own = {value.name for value in (*graph.input, *graph.output, *graph.initializer)}
    for node in graph.node:
        own |= {*node.input, *node.output}
        for body in bodies(node):
            own |= _names(body)
    return own
