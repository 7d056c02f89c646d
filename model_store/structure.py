"""The gate's own walk over a parsed model, before any library is trusted with it.

It runs in the gate's child process. It bounds every count and every declared size, and refuses by name whatever
would make a runtime read another file, run foreign code, or recurse. Sources of the classes refused: onnx's
security advisories on external data (initializers, Constant attributes, sparse tensors, subgraphs, functions,
training information), function cycles and size overflow; ONNX Runtime's reports on long chains of functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import onnx

from .errors import shown
from .limits import Limits
from .outside import Refusal, Spans

STANDARD = frozenset({"", "ai.onnx"})
_RESERVED = STANDARD | {"ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training", "com.microsoft"}
# These read files, or run code, named by an attribute.
_FORBIDDEN_OPS = frozenset({"EPContext", "PyOp"})
_MAX_TYPE_DEPTH = 8
_TENSOR = onnx.TensorProto
_TYPED_DATA: dict[int, str] = {
    _TENSOR.FLOAT: "float_data",
    _TENSOR.COMPLEX64: "float_data",
    _TENSOR.DOUBLE: "double_data",
    _TENSOR.COMPLEX128: "double_data",
    _TENSOR.INT64: "int64_data",
    _TENSOR.UINT64: "uint64_data",
    _TENSOR.UINT32: "uint64_data",
    _TENSOR.STRING: "string_data",
}
DATA_FIELDS = ("raw_data", "float_data", "double_data", "int32_data", "int64_data", "uint64_data", "string_data")
_BITS: dict[int, int] = {
    **dict.fromkeys((_TENSOR.FLOAT, _TENSOR.INT32, _TENSOR.UINT32), 32),
    **dict.fromkeys((_TENSOR.DOUBLE, _TENSOR.INT64, _TENSOR.UINT64, _TENSOR.COMPLEX64), 64),
    **dict.fromkeys((_TENSOR.FLOAT16, _TENSOR.BFLOAT16, _TENSOR.INT16, _TENSOR.UINT16), 16),
    **dict.fromkeys((_TENSOR.INT8, _TENSOR.UINT8, _TENSOR.BOOL), 8),
    **dict.fromkeys((_TENSOR.INT4, _TENSOR.UINT4), 4),
    _TENSOR.COMPLEX128: 128,
    _TENSOR.STRING: 0,
}
for _name in ("FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ", "FLOAT8E8M0"):
    _BITS[_TENSOR.DataType.Value(_name)] = 8
_BITS[_TENSOR.FLOAT4E2M1] = 4


def product(dims: Iterable[int]) -> int:
    """The number of elements, in integers that do not overflow."""
    result = 1
    for dim in dims:
        result *= dim
    return result


class Structure:
    """One walk; `check` raises Refusal, and the counts are read afterwards."""

    def __init__(self, model: onnx.ModelProto, limits: Limits, outside: Spans | None = None) -> None:
        """`outside`: the data files that the model may refer to; none, if it is left out."""
        self._model, self._limits = model, limits
        self._outside = outside or Spans({})
        self._functions = {(f.domain, f.name, f.overload): f for f in model.functions}
        self.nodes = self.initializers = self.depth = self.parameters = 0
        self.operators: dict[str, int] = {}

    def check(self) -> None:
        """The whole model: its opsets, functions, graph and training information."""
        model = self._model
        if not model.HasField("graph"):
            raise Refusal("the file holds no graph")
        self._opsets(model.opset_import, "the model")
        self._check_functions()
        self._graph(model.graph, "graph", 1)
        for position, training in enumerate(model.training_info):
            where = f"training_info[{position}]"
            self._graph(training.initialization, f"{where}.initialization", 1)
            self._graph(training.algorithm, f"{where}.algorithm", 1)
        self._outside.check()

    def _opsets(self, imports: Iterable[onnx.OperatorSetIdProto], where: str) -> None:
        seen: dict[str, int] = {}
        for opset in imports:
            domain = "" if opset.domain in STANDARD else opset.domain
            # Exporters repeat an import; only a contradiction is refused.
            if seen.setdefault(domain, opset.version) != opset.version:
                raise Refusal(f"{where} imports two versions of the domain {shown(opset.domain)}")
            if domain == "" and not 1 <= opset.version <= onnx.defs.onnx_opset_version():
                raise Refusal(f"{where} imports opset {opset.version}; known are 1 to {onnx.defs.onnx_opset_version()}")

    # Functions

    def _check_functions(self) -> None:
        functions = self._model.functions
        if len(functions) > self._limits.max_functions:
            raise Refusal(f"{len(functions)} local functions, the limit is {self._limits.max_functions}")
        if len(self._functions) != len(functions):
            raise Refusal("two local functions have the same name")
        for function in functions:
            where = f"function {shown(function.name)}"
            if function.domain in _RESERVED:
                raise Refusal(f"{where} redefines an operator of the standard domain {shown(function.domain)}")
            self._opsets(function.opset_import, where)
            self._nodes(function.node, where, 1)
            for attribute in function.attribute_proto:
                self._attribute(attribute, where, 1)
            _unique(f"{where}: outputs", _outputs(function.node, function.input))
        self._check_calls()

    def _check_calls(self) -> None:
        """No function may reach itself, call too deep, or expand to too many nodes. Depth first, without recursion."""
        calls = {key: list(self._called(function.node)) for key, function in self._functions.items()}
        sizes: dict[Any, tuple[int, int]] = {}
        for start in calls:
            open_calls = [start]
            while open_calls:
                key = open_calls[-1]
                waiting = [callee for callee in calls[key] if callee and callee not in sizes]
                if key not in sizes and waiting:
                    if waiting[0] in open_calls:
                        raise Refusal(f"local function {shown(waiting[0][1])} calls itself")
                    open_calls.append(waiting[0])
                    continue
                sizes.setdefault(key, self._expanded(calls[key], sizes, f"function {shown(key[1])}"))
                open_calls.pop()
        self._expanded(list(self._called(self._model.graph.node)), sizes, "the graph")

    def _expanded(self, calls: list[Any], sizes: dict[Any, tuple[int, int]], where: str) -> tuple[int, int]:
        """Nodes after inlining, and how deep the calls go."""
        nodes = sum(sizes[callee][0] if callee else 1 for callee in calls)
        depth = 1 + max((sizes[callee][1] for callee in calls if callee), default=0)
        if nodes > self._limits.max_nodes:
            raise Refusal(f"{where} expands to more nodes than the limit of {self._limits.max_nodes}")
        if depth > self._limits.max_call_depth + 1:
            raise Refusal(f"{where} calls functions deeper than the limit of {self._limits.max_call_depth}")
        return nodes, depth

    def _called(self, nodes: Iterable[onnx.NodeProto]) -> Iterator[Any]:
        """For each node, subgraphs included, the key of the local function it calls, or None."""
        waiting = [(nodes, 1)]
        while waiting:
            level, depth = waiting.pop()
            if depth > self._limits.max_depth:
                raise Refusal(f"subgraphs are nested deeper than the limit of {self._limits.max_depth}")
            for node in level:
                key = (node.domain, node.op_type, node.overload)
                yield key if key in self._functions else None
                for attribute in node.attribute:
                    graphs = [attribute.g, *attribute.graphs] if attribute.HasField("g") else list(attribute.graphs)
                    waiting.extend((graph.node, depth + 1) for graph in graphs)

    # Graphs

    def _graph(self, graph: onnx.GraphProto, where: str, depth: int) -> None:
        self.depth = max(self.depth, depth)
        if depth > self._limits.max_depth:
            raise Refusal(f"{where}: subgraphs are nested deeper than the limit of {self._limits.max_depth}")
        self.initializers += len(graph.initializer) + len(graph.sparse_initializer)
        if self.initializers > self._limits.max_initializers:
            raise Refusal(f"more initializers than the limit of {self._limits.max_initializers}")
        for tensor in graph.initializer:
            self._tensor(tensor, f"{where}: initializer {shown(tensor.name)}", graph is self._model.graph)
        for sparse in graph.sparse_initializer:
            self._sparse(sparse, f"{where}: sparse initializer {shown(sparse.values.name)}")
        for value in (*graph.input, *graph.output, *graph.value_info):
            self._type(value.type, f"{where}: value {shown(value.name)}", 1)
        _unique(f"{where}: inputs", (value.name for value in graph.input))
        _unique(f"{where}: outputs", (value.name for value in graph.output))
        stored = [*(t.name for t in graph.initializer), *(s.values.name for s in graph.sparse_initializer)]
        _unique(f"{where}: initializers", stored)
        # An initializer may stand for an input, as its default; nothing else may share a name.
        _unique(f"{where}: values", _outputs(graph.node, {*stored, *(value.name for value in graph.input)}))
        self._nodes(graph.node, where, depth)

    def _nodes(self, nodes: Iterable[onnx.NodeProto], where: str, depth: int) -> None:
        for node in nodes:
            self.nodes += 1
            if self.nodes > self._limits.max_nodes:
                raise Refusal(f"more nodes than the limit of {self._limits.max_nodes}")
            place = f"{where}: node {shown(node.name)} ({node.op_type[:60]})"
            self._operator(node, place)
            _unique(f"{place}: attributes", (attribute.name for attribute in node.attribute))
            for attribute in node.attribute:
                self._attribute(attribute, f"{place}: attribute {shown(attribute.name)}", depth)

    def _operator(self, node: onnx.NodeProto, place: str) -> None:
        name = node.op_type if node.domain in STANDARD else f"{node.domain}.{node.op_type}"
        self.operators[name] = self.operators.get(name, 0) + 1
        if (node.domain, node.op_type, node.overload) in self._functions:
            return
        if node.domain not in self._limits.domains:
            known = ", ".join(sorted({domain or "ai.onnx" for domain in self._limits.domains}))
            raise Refusal(f"{place}: the domain {shown(node.domain)} is not one of those run here ({known})")
        if node.op_type in _FORBIDDEN_OPS:
            raise Refusal(f"{place}: the operator reads files or runs code, and is never run here")

    def _attribute(self, attribute: onnx.AttributeProto, place: str, depth: int) -> None:
        # Whatever the declared type is: a reader may look at any field that is set.
        for tensor in (*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors):
            self._tensor(tensor, place)
        sparse = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
        for each in (*sparse, *attribute.sparse_tensors):
            self._sparse(each, place)
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            self._graph(graph, place, depth + 1)
        for kind in (*([attribute.tp] if attribute.HasField("tp") else []), *attribute.type_protos):
            self._type(kind, place, 1)

    # Tensors

    def _tensor(self, tensor: onnx.TensorProto, place: str, may_lie_outside: bool = False) -> None:
        outside = tensor.data_location == _TENSOR.EXTERNAL and may_lie_outside
        if not outside and (tensor.data_location != _TENSOR.DEFAULT or len(tensor.external_data)):
            location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
            raise Refusal(f"{place}: its data lie outside the file ({shown(location)}); store them inside")
        if tensor.HasField("segment"):
            raise Refusal(f"{place}: a tensor in segments is not supported")
        if tensor.data_type not in _BITS:
            raise Refusal(f"{place}: tensor type {tensor.data_type} is not supported")
        count = self._size(tensor.dims, place)
        self.parameters += count
        filled = [field for field in DATA_FIELDS if len(getattr(tensor, field))]
        if len(filled) > 1:
            raise Refusal(f"{place}: its data stand in {filled[0]} and in {filled[1]}")
        if outside:
            if filled or _BITS[tensor.data_type] < 8:
                raise Refusal(f"{place}: its data lie outside the file and cannot, or stand inside as well")
            self._outside.take(tensor, place, count * _BITS[tensor.data_type] // 8)
            return
        if not filled and count == 0:
            return
        bits, held = _BITS[tensor.data_type], filled[0] if filled else "raw_data"
        if held == "raw_data":
            wanted, unit = -(-count * bits // 8), "bytes"
            if tensor.data_type == _TENSOR.STRING:
                raise Refusal(f"{place}: {count} texts are declared, none are held")
        else:
            if held != _TYPED_DATA.get(tensor.data_type, "int32_data"):
                raise Refusal(f"{place}: its data stand in {held}, where its type has none")
            complex_type = tensor.data_type in (_TENSOR.COMPLEX64, _TENSOR.COMPLEX128)
            wanted, unit = (-(-count // 2) if bits == 4 else count * (2 if complex_type else 1)), "values"
        came = len(getattr(tensor, held))
        if came != wanted:
            raise Refusal(f"{place}: shape {shown(list(tensor.dims))} takes {wanted} {unit}, it holds {came}")

    def _sparse(self, sparse: onnx.SparseTensorProto, place: str) -> None:
        self._tensor(sparse.values, f"{place}: values")
        self._tensor(sparse.indices, f"{place}: indices")
        self._size(sparse.dims, place)

    def _size(self, dims: Iterable[int], place: str) -> int:
        dims = list(dims)
        if any(dim < 0 for dim in dims):
            raise Refusal(f"{place}: shape {shown(dims)} has a negative size")
        if len(dims) > 64:
            raise Refusal(f"{place}: a tensor of {len(dims)} axes; the limit is 64")
        size = product(dims)
        # An empty tensor is small, but a runtime multiplies its other sizes too.
        if product(dim for dim in dims if dim) > self._limits.max_tensor:
            raise Refusal(
                f"{place}: shape {shown(dims)} is larger than the limit of {self._limits.max_tensor} elements"
            )
        return size

    def _type(self, kind: onnx.TypeProto, place: str, depth: int) -> None:
        if depth > _MAX_TYPE_DEPTH:
            raise Refusal(f"{place}: its type is nested deeper than {_MAX_TYPE_DEPTH}")
        for field in ("tensor_type", "sparse_tensor_type"):
            if kind.HasField(field):
                self._size((d.dim_value for d in getattr(kind, field).shape.dim if d.HasField("dim_value")), place)
        inner: dict[str, Callable[[], onnx.TypeProto]] = {
            "sequence_type": lambda: kind.sequence_type.elem_type,
            "optional_type": lambda: kind.optional_type.elem_type,
            "map_type": lambda: kind.map_type.value_type,
        }
        for field, element in inner.items():
            if kind.HasField(field):
                self._type(element(), place, depth + 1)


def _outputs(nodes: Iterable[onnx.NodeProto], before: Iterable[str]) -> Iterator[str]:
    yield from before
    for node in nodes:
        yield from (name for name in node.output if name)


def _unique(where: str, names: Iterable[str]) -> None:
    seen = set()
    for name in names:
        if name in seen:
            raise Refusal(f"{where}: the name {shown(name)} stands twice")
        seen.add(name)
