"""A program under construction, and the finished thing.

What flows through: a builder declares the program's inputs, places the model's graph (with the values it replaces
bound to others), emits the arithmetic around it, and names the outputs. The names of inputs and outputs are fixed by
the design, so that any runtime can use a program without us.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnx
from onnx import helper

from ..dtypes import Dim, Shape, elem_type
from ..emit import Emitter
from ..errors import InvalidModel
from ..external import ExternalData
from ..graph import OPSET, Graph
from ..inside import all_nodes
from ..prepare import IR_VERSION
from ..source import serialized
from ..weights import lasting_constants

if TYPE_CHECKING:
    from ..model import Explained, Model

Kind = Literal["item", "shared"]
SIZES = frozenset("NKRJGBSDC")


@dataclass(frozen=True)
class Program:
    """A compiled graph: ONNX in, ONNX out.

    Attributes: `name` of the program; `model`, the graph at opset 18; `inputs` and `outputs`, each "item" (axis 0 =
    items, requests may be joined along it) or "shared" (taken whole); `digest`, SHA-256 of the graph's bytes in hex;
    `explained`, the output it explains; `max_items`, 1 where the model takes one evaluation at a time; `external`, the
    data files of the model that the graph refers to, which its digest covers.
    """

    name: str
    model: onnx.ModelProto
    inputs: Mapping[str, Kind]
    outputs: Mapping[str, Kind]
    explained: Explained | None
    options: Mapping[str, Any] = field(default_factory=dict)
    max_items: int | None = None
    external: ExternalData = field(default_factory=ExternalData)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the serialised graph and of the data files it refers to, in hex."""
        return self.external.digest(serialized(self.model))

    def serialize(self) -> bytes:
        """The serialised graph, as a runtime loads it; made anew each time, not kept. Data files are called as they lie
        in `data_folder`. Raises InvalidModel where it has 2 GiB or more."""
        return serialized(self.external.placed(self.model))

    @property
    def data_folder(self) -> str | None:
        """Where a runtime finds the data files; None where the graph refers to none."""
        return self.external.folder

    def constants(self, data: bytes) -> dict[str, np.ndarray]:  # noqa: ARG002 - it need not be read again
        """Large constants by name that a runtime may hold once for the model and all of its programs; those whose data
        lie in files, which a runtime has to be handed, are mapped."""
        return lasting_constants(self.model.graph) | self.external.constants(self.model.graph)


class Draft:
    """Inputs, nodes and outputs of a program being built around one model."""

    def __init__(self, model: Model, reserved: tuple[str, ...] = ()) -> None:
        """`reserved` are the names the program's own inputs and outputs will have."""
        clash = sorted(set(reserved) & set(model.graph.inputs))
        if clash:
            raise InvalidModel(f"the model's input {clash[0]!r} has the name of an input of this program; rename it")
        self.model = model
        self.reserved = {*reserved, *model.graph.inputs}
        graph = model.graph
        own = (name for node in graph.nodes for name in node.outputs)
        self.emit = Emitter({*self.reserved, *graph.types, *graph.constants, *own})
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self.kinds: dict[str, Kind] = {}
        self.output_kinds: dict[str, Kind] = {}

    def input(self, name: str, dtype: str, shape: Shape, kind: Kind = "item") -> str:
        """Declare an input of the program; gives back its name."""
        self._inputs.append(helper.make_tensor_value_info(name, elem_type(dtype), shape))
        self.kinds[name] = kind
        return self.emit.take(name, dtype)

    def own_inputs(self) -> dict[str, str]:
        """Declare the model's own inputs [N, item...]; gives their names by input."""
        inputs, model = self.model.graph.inputs, self.model
        return {name: self.input(name, k.dtype, ("N", *free(item_shape(model, name)))) for name, k in inputs.items()}

    def output(self, name: str, value: str, dtype: str, shape: Shape | None, kind: Kind = "item") -> None:
        """Name a value as an output of the program; shape None leaves even its rank open."""
        if value != name:
            self.emit.nodes.append(helper.make_node("Identity", [value], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, elem_type(dtype), shape))
        self.output_kinds[name] = kind

    def place(
        self,
        items: Mapping[str, str],
        *,
        values: Mapping[str, str] | None = None,
        prefix: str = "",
        keep: set[str] | None = None,
    ) -> Graph:
        """Place the model's nodes, fed with `items` ([M, item...] by input name, put into the model's layout).

        `values` binds computed values of the model to others, `keep` restricts the nodes to those that lead to it.
        """
        names = {name: self.to_layout(name, value) for name, value in items.items()} | dict(values or {})
        bound = self.model.graph.bind(names, prefix=prefix, keep=keep, avoid=self.reserved - set(names))
        self.emit.place(bound, state_shapes=shapes_hold(self.model))
        return bound

    def to_layout(self, name: str, items: str) -> str:
        """From [M, item...] to the layout the model has for its input or output `name`."""
        axis = self.model.batch_axis(name)
        if axis == 0:
            return items
        if axis is None:
            return self.emit.squeeze(items, [0])
        rank = len((self.model.graph.inputs | self.model.graph.outputs)[name].shape or ())
        return self.emit.transpose(items, perm=[*range(1, axis + 1), 0, *range(axis + 1, rank)])

    def from_layout(self, name: str, value: str, rank: int) -> str:
        """From the layout the model has for `name` to [M, item...]; `rank` is that of the value."""
        axis = self.model.batch_axis(name)
        if axis == 0:
            return value
        if axis is None:
            return self.emit.unsqueeze(value, [0])
        return self.emit.transpose(value, perm=[axis, *(i for i in range(rank) if i != axis)])

    def explained(self, graph: Graph, explained: Explained) -> str:
        """The explained value of a placed graph as [M, ...]."""
        value = graph.now(explained.value)
        return self.from_layout(explained.output, value, len(graph.type(value).shape or ()))

    def finish(self, name: str, explained: Explained | None, options: Mapping[str, Any]) -> Program:
        """Close the graph: what no output needs is dropped."""
        nodes, constants = self.emit.finish(value.name for value in self._outputs)
        stated = self.emit.stated(nodes, [value.name for value in (*self._inputs, *self._outputs)])
        graph = helper.make_graph(nodes, name, self._inputs, self._outputs, constants, value_info=stated)
        opsets = [helper.make_opsetid("", OPSET)]
        for entry in self.model.prepared.opset_import:
            if entry.domain not in ("", "ai.onnx") and any(node.domain == entry.domain for node in all_nodes(graph)):
                opsets.append(helper.make_opsetid(entry.domain, entry.version))
        proto = helper.make_model(graph, opset_imports=opsets, producer_name="glasshouse", ir_version=IR_VERSION)
        limit = 1 if self.model.row_by_row else None
        external = self.model.external.of(constants)
        return Program(name, proto, self.kinds, self.output_kinds, explained, dict(options), limit, external)


def shapes_hold(model: Model) -> bool:
    """Whether the shapes inferred for the model hold for any number of rows: its batch axes are symbols, and these
    symbols mean nothing else."""
    batch: set[Dim] = set()
    items: set[Dim] = set()
    for name, kind in model.graph.inputs.items():
        axis = model.batch_axis(name)
        if axis is None or kind.shape is None or not isinstance(kind.shape[axis], str):
            return False
        batch.add(kind.shape[axis])
        items.update(dim for i, dim in enumerate(kind.shape) if i != axis)
    return not batch & items


def item_shape(model: Model, name: str, value: str | None = None) -> Shape:
    """Shape of one item of a model input (or of `value`, which has its layout): without the batch axis."""
    shape = model.graph.type(value or name).shape
    if shape is None:
        raise InvalidModel(f"the shape of {value or name!r} is unknown; declare at least its rank")
    axis = model.batch_axis(name)
    return tuple(dim for i, dim in enumerate(shape) if i != axis)


def flat(emit: Emitter, items: str) -> str:
    """[N, item...] as [N, P]."""
    return emit.reshape(items, np.array([0, -1], dtype=np.int64))


def free(shape: Shape) -> tuple[Dim, ...]:
    """A model's own dimensions as a program declares them: symbols that a program uses itself are left open."""
    return tuple(None if isinstance(dim, str) and dim in SIZES else dim for dim in shape)
