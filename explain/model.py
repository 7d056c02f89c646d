"""The handle on a model: its bytes, its prepared graph, what of it can be explained, and the programs made of it.

Everything here is computed once and kept: a server holds one `Model` per loaded version, and each `explain` function
takes one wherever it takes a model.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
from google.protobuf.message import DecodeError

from . import rules
from .backward import differentiable_path
from .errors import InvalidModel, InvalidParameter
from .graph import OPSET, Graph, Node
from .prepare import has_function_body, opset_of, prepare
from .registry import REGISTRY

if TYPE_CHECKING:
    from .programs.draft import Program

__all__ = ["Explained", "Leaf", "Model", "ModelLike", "rules"]

PROGRAM_CACHE = 32
SQUASHING = {"Softmax": "softmax", "Sigmoid": "sigmoid"}
SPACES = ("logit", "probability", "output")


@dataclass(frozen=True)
class Explained:
    """The value a program explains.

    `output` is the model's output it belongs to, `value` its name in the graph, `space` "logit" (a final Softmax or
    Sigmoid was stepped around), "probability" (it was not) or "output" (there is none), `link` the function from the
    explained value to the output, `rank` the rank of the value.
    """

    output: str
    value: str
    space: str
    link: str
    rank: int
    dtype: str


@dataclass(frozen=True)
class Leaf:
    """Where the gradient with respect to a model input is taken: the input, or the encoding of an integer input.

    `trailing` counts the axes the encoding adds behind those of the input (the width of an embedding).
    """

    input: str
    value: str
    trailing: int


class Model:
    """A model to be explained.

    Parameters: `source`, the ONNX model (proto, bytes or path); `batch_axes`, the batch axis of inputs and outputs
    where it is not 0 (None = no such axis); `row_by_row`, whether it takes one item at a time. Raises InvalidModel.
    """

    def __init__(
        self,
        source: onnx.ModelProto | bytes | str | os.PathLike[str],
        *,
        batch_axes: Mapping[str, int | None] | None = None,
        row_by_row: bool = False,
    ) -> None:
        self.proto = _read(source)
        self.batch_axes = dict(batch_axes or {})
        self.row_by_row = row_by_row
        self._programs: OrderedDict[str, Program] = OrderedDict()
        self._lock = threading.RLock()

    @classmethod
    def of(cls, model: ModelLike) -> Model:
        """The handle itself, or a new one."""
        return model if isinstance(model, Model) else cls(model)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the served bytes, in hex."""
        return hashlib.sha256(self.proto.SerializeToString(deterministic=True)).hexdigest()

    @cached_property
    def opset(self) -> int:
        """The version of the default operator set the served file was written for."""
        return opset_of(self.proto)

    @cached_property
    def prepared(self) -> onnx.ModelProto:
        """The copy that programs are made of: opset 18, functions and operators without a rule expanded."""
        with self._lock:
            model = prepare(self.proto)
            for _ in range(4):  # a function body may call another function
                expand = _expandable(Graph.of(model))
                if not expand:
                    break
                model = prepare(model, expand)
            return model

    @cached_property
    def graph(self) -> Graph:
        """Typed view of the prepared copy."""
        return Graph.of(self.prepared)

    def batch_axis(self, name: str) -> int | None:
        """The batch axis of an input or output (0 unless told otherwise)."""
        return self.batch_axes.get(name, 0)

    def explained(self, output: str | None = None, space: str | None = None) -> Explained:
        """Resolve which value is explained; by default the first floating-point output, before a final link."""
        name = self._output(output)
        if space is not None and space not in SPACES:
            raise InvalidParameter(f"space: came {space!r}, expected one of {', '.join(SPACES)}")
        squash = self._squash(name)
        if squash is None or space == "output":
            if space == "probability" and squash is None:
                raise InvalidParameter(f"space 'probability': output {name!r} does not end in a Softmax or Sigmoid")
            return self._explained(name, name, "output", "identity")
        if space == "probability":
            return self._explained(name, name, "probability", "identity")
        return self._explained(name, squash.inputs[0], "logit", SQUASHING[squash.op])

    def _explained(self, output: str, value: str, space: str, link: str) -> Explained:
        kind = self.graph.type(value)
        if kind.shape is None:
            raise InvalidModel(f"the rank of {value!r} could not be inferred; export the model with shape information")
        rank = len(kind.shape) + (self.batch_axis(output) is None)
        return Explained(output, value, space, link, rank, kind.dtype)

    def _output(self, output: str | None) -> str:
        floats = [name for name, kind in self.graph.outputs.items() if kind.is_float]
        if output is None:
            if not floats:
                raise InvalidModel("the model has no floating-point output to explain")
            return floats[0]
        if output not in floats:
            raise InvalidParameter(f"output: came {output!r}, expected one of {', '.join(floats)}")
        return output

    def _squash(self, output: str) -> Node | None:
        """The Softmax over the last axis or the Sigmoid that ends an output, seen through Identity."""
        node = self.graph.producers.get(output)
        while node is not None and node.op in ("Identity", "Cast") and self.graph.type(node.inputs[0]).is_float:
            node = self.graph.producers.get(node.inputs[0])
        if node is None or node.op not in SQUASHING or self.batch_axis(output) != 0:
            return None
        last = node.output_rank() - 1
        return node if node.op == "Sigmoid" or node.attr("axis", -1) in (-1, last) else None

    def leaves(self, explained: Explained) -> tuple[Leaf, ...]:
        """Where gradients are taken: float inputs themselves, integer and string inputs where they become floats."""
        needed = self.graph.upstream([explained.value])
        found: list[Leaf] = []
        for name, kind in self.graph.inputs.items():
            if name not in needed:
                continue
            if kind.is_float:
                if differentiable_path(self.graph, [name], [explained.value]):
                    found.append(Leaf(name, name, 0))
            else:
                found.extend(self._encodings(name, explained))
        return tuple(found)

    def _encodings(self, name: str, explained: Explained) -> list[Leaf]:
        """First floating-point values made of a non-float input, on a path that carries a gradient."""
        depends, leaves = {name}, []
        rank = len(self.graph.inputs[name].shape or ())
        for node in self.graph.nodes:
            if node.op in ("Shape", "Size") or not any(read in depends for read in node.inputs):
                continue
            for output in node.outputs:
                kind = self.graph.type(output)
                if not kind.is_float:
                    depends.add(output)
                elif kind.shape is not None and differentiable_path(self.graph, [output], [explained.value]):
                    leaves.append(Leaf(name, output, len(kind.shape) - rank))
        return leaves

    def remember(self, key: str, make: Any) -> Program:
        """A program from the bounded cache, or made now."""
        with self._lock:
            if key not in self._programs:
                self._programs[key] = make()
                while len(self._programs) > PROGRAM_CACHE:
                    self._programs.popitem(last=False)
            self._programs.move_to_end(key)
            return self._programs[key]


ModelLike = Model | onnx.ModelProto | bytes | str | os.PathLike[str]


def _expandable(graph: Graph) -> set[str]:
    """Operators without a rule that the specification defines by a function body."""
    found = set()
    for node in graph.nodes:
        if node.domain in ("", "ai.onnx") and not REGISTRY.knows(node) and has_function_body(node.op, OPSET):
            found.add(node.op)
    return found


def _read(source: onnx.ModelProto | bytes | str | os.PathLike[str]) -> onnx.ModelProto:
    if isinstance(source, onnx.ModelProto):
        return source
    try:
        model = onnx.load_model_from_string(source) if isinstance(source, bytes) else onnx.load(str(Path(source)))
    except (DecodeError, ValueError) as error:
        raise InvalidModel("these bytes are no ONNX model") from error
    if not model.graph.node:
        raise InvalidModel("the model has no nodes; is this an ONNX model?")
    return model
