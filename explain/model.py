"""The handle on a model: its bytes, its prepared graph, what of it can be explained, and the programs made of it.

Everything here is computed once and kept: a server holds one `Model` per loaded version, and each `explain` function
takes one wherever it takes a model.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import onnx

from . import rules
from .affine import changes_nothing, rounds
from .choices import decided_by_values, holds_graphs
from .errors import InvalidModel, InvalidParameter
from .external import DataFiles
from .graph import OPSET, Graph, Node
from .inside import all_nodes, everywhere, give_constants
from .leaves import Leaf, leaves_of
from .prepare import has_function_body, nothing_to_explain, opset_of, prepare, ranges_at_run_time
from .registry import REGISTRY
from .source import checked_held, own_bytes, read, scalars, serialized
from .trees.ensembles import is_ensemble

__all__ = ["Explained", "Leaf", "Model", "ModelLike", "rules"]

CACHE = 32
Made = TypeVar("Made")
SQUASHING = {"Softmax": "softmax", "Sigmoid": "sigmoid"}
RECURRENT = frozenset({"GRU", "LSTM", "RNN", "DynamicQuantizeLSTM"})
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


class Model:
    """A model to be explained.

    Parameters: `source`, the ONNX model (proto, bytes or path); `batch_axes`, the batch axis of inputs and outputs
    where it is not 0 (None = no such axis); `row_by_row`, whether it takes one item at a time, as does a model that
    quantises by the range that all rows of a run have together; `data_files`, the paths of the files that hold its
    external data, by the names it has for them, where they do not lie beside `source`; `held`, inputs that are no
    features (attention masks, position ids, caches): taken as they come, neither walked nor removed, and given no
    attribution. Raises InvalidModel, InvalidParameter.
    """

    def __init__(
        self,
        source: onnx.ModelProto | bytes | str | os.PathLike[str],
        *,
        batch_axes: Mapping[str, int | None] | None = None,
        row_by_row: bool = False,
        run_rows: int | None = None,
        data_files: DataFiles | None = None,
        held: Collection[str] = (),
    ) -> None:
        """`run_rows`: at most so many rows of the model in one run; attributions differ by it in their last digits."""
        if run_rows is not None and run_rows < 1:
            raise InvalidParameter(f"run_rows: got {run_rows}, expected 1 or more")
        self.run_rows = run_rows
        self.proto, self.external = read(source, data_files)
        self._source = own_bytes(source, self.external)
        self.held = checked_held(self.proto.graph, held)
        self.batch_axes: dict[str, int | None] = dict.fromkeys(scalars(self.proto)) | dict(batch_axes or {})
        self._row_by_row = row_by_row or None in self.batch_axes.values() or ranges_at_run_time(self.proto)
        self._made: OrderedDict[str, Any] = OrderedDict()
        self._lock = threading.RLock()

    @classmethod
    def of(cls, model: ModelLike) -> Model:
        """The handle itself, or a new one."""
        return model if isinstance(model, Model) else cls(model)

    @cached_property
    def digest(self) -> str:
        """SHA-256, in hex, of the bytes this handle was made of (of the proto's own serialisation, if of a proto), and
        of the data files, if there are some (`ExternalData.digest`)."""
        return self.external.digest(self._source if self._source is not None else serialized(self.proto))

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
            give_constants(model.graph)
            return model

    @cached_property
    def graph(self) -> Graph:
        """Typed view of the prepared copy."""
        return Graph.of(self.prepared, self.external)

    @cached_property
    def takes_missing(self) -> bool:
        """Whether NaN among the inputs means something: trees know where to send it, others look for it."""
        return any(node.op == "IsNaN" or is_ensemble(node) for node in everywhere(self.graph))

    @cached_property
    def recurrent(self) -> str | None:
        """An operator of the file that goes step by step; None if it has none. Of no steps, ONNX Runtime's GRU ends the
        process, and so no input of such a model may be empty."""
        graphs = (self.proto.graph, *self.proto.functions)
        return next((node.op_type for graph in graphs for node in all_nodes(graph) if node.op_type in RECURRENT), None)

    @cached_property
    def decided(self) -> str | None:
        """Which branch or number of steps the values of an item decide, in a sentence; None if they decide none."""
        return decided_by_values(self.graph) if holds_graphs(self.proto) else None

    @cached_property
    def row_by_row(self) -> bool:
        """Whether it takes one item at a time: because its owner says so, or because their values decide what runs."""
        return self._row_by_row or self.decided is not None

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
                raise InvalidModel(nothing_to_explain(self.proto.graph))
            return floats[0]
        if output not in floats:
            raise InvalidParameter(f"output: came {output!r}, expected one of {', '.join(floats)}")
        return output

    def _squash(self, output: str) -> Node | None:
        """The Sigmoid, or the Softmax over an item's last axis, that ends an output; seen through Identity, Cast,
        factors of 1 and the rounding of a quantised model."""
        node = self.graph.producers.get(output)
        while node is not None and (rounds(node) or self._passes(node)):
            node = self.graph.producers.get(node.inputs[0])
        if node is None or node.op == "Sigmoid":
            return node
        if node.op not in SQUASHING:
            return None
        rank = len(self.graph.type(node.outputs[0]).shape or ())
        within_item = [axis for axis in range(rank) if axis != self.batch_axis(output)]
        return node if within_item and node.attr("axis", -1) % rank == within_item[-1] else None

    def _passes(self, node: Node) -> bool:
        return changes_nothing(node) and self.graph.type(node.inputs[0]).is_float

    def leaves(self, explained: Explained) -> tuple[Leaf, ...]:
        """Where gradients are taken: see `leaves_of`, and what it raises."""
        return leaves_of(self.graph, self.held, explained.value)

    def remember(self, key: str, make: Callable[[], Made], family: str = "", most: int = CACHE) -> Made:
        """A program, or what else is made once, from the bounded cache, or made now; at most `most` keys that begin
        with `family` are kept."""
        with self._lock:
            if key not in self._made:
                self._made[key] = make()
                alike = [other for other in self._made if other.startswith(family)]
                for old in alike[: max(0, len(alike) - most)]:
                    del self._made[old]
                while len(self._made) > CACHE:
                    self._made.popitem(last=False)
            self._made.move_to_end(key)
            made: Made = self._made[key]
            return made


ModelLike = Model | onnx.ModelProto | bytes | str | os.PathLike[str]


def _expandable(graph: Graph) -> set[str]:
    """Operators without a rule that the specification defines by a function body."""
    found = set()
    for node in everywhere(graph):
        if node.domain in ("", "ai.onnx") and not REGISTRY.knows(node) and has_function_body(node.op, OPSET):
            found.add(node.op)
    return found
