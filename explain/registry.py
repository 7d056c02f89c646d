"""Who knows the derivative of what: `@vjp("Gemm")` registers a rule, `stop("Shape")` an operator that carries none.

A rule takes `(emit, node, grad)`, where `grad` is the name of the adjoint of the node's output, and gives one name
(or None) for each input, or a single name where only the first input can carry a gradient. Rules registered with
`many=True` get one adjoint (or None) for every output. `broadcasts` says that inputs may have been broadcast, so
that the backward walk sums the gradients back ("all" axes, or only those "leading" a matrix product). `first` says that
a gradient passes from the first input to the first output alone, and also where these hold integers: quantisation, of
which the scale is held as it is. Rules registered with `inside=True` are for nodes that hold graphs: they take `(emit,
node, grads, within)` and give pairs of a value that the node reads, as an input or from around it, and a gradient of
that value.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

from .emit import Emitter
from .errors import RegistrationError
from .graph import Node

Gradients = str | None | Sequence[str | None]
Pairs = Sequence[tuple[str, str]]
Rule = Callable[[Emitter, Any, Any], Gradients]
RuleInside = Callable[[Emitter, Node, Sequence[str | None], "Within"], Pairs]
Broadcasts = Literal["all", "leading"] | None
Made = TypeVar("Made", bound=Callable[..., Any])
SIGNATURE = ("emit", "node", "grad")


@dataclass(frozen=True)
class Entry:
    """A registered rule and how the backward walk should treat its results."""

    rule: Rule
    broadcasts: Broadcasts = None
    many: bool = False
    first: bool = False
    inside: RuleInside | None = None
    """The rule, where it is one for a node that holds graphs."""


@dataclass(frozen=True)
class Within:
    """What a rule for a node that holds graphs is told of the walk: which of the values that the node reads have
    gradients to be found, and by which rules those inside are walked."""

    wanted: frozenset[str]
    registry: Registry


class Registry:
    """Rules by (domain, operator); refuses doubles and wrong signatures when it is filled.

    A registry made on top of another overrides rules of it: a modified backward rule is a rule like any other.
    """

    def __init__(self, parent: Registry | None = None) -> None:
        """Start without rules of its own."""
        self.parent = parent
        self.rules: dict[tuple[str, str], Entry] = {}
        self.stops: set[tuple[str, str]] = set()

    def vjp(
        self,
        *operators: str,
        domain: str = "",
        broadcasts: Broadcasts = None,
        many: bool = False,
        first: bool = False,
        inside: bool = False,
    ) -> Callable[[Made], Made]:
        """Register the decorated rule for the operators named."""

        def register(rule: Made) -> Made:
            names = tuple(inspect.signature(rule).parameters)
            expected = (*SIGNATURE[:2], "grads", "within") if inside else (*SIGNATURE[:2], "grads" if many else "grad")
            if names != expected:
                raise RegistrationError(f"rule {rule.__name__!r} takes {names}, expected {expected}")
            for operator in operators:
                self._claim(domain, operator)
                held = cast("RuleInside", rule) if inside else None
                self.rules[domain, operator] = Entry(cast("Rule", rule), broadcasts, many, first, held)
            return rule

        return register

    def stop(self, *operators: str, domain: str = "") -> None:
        """Register operators whose outputs carry no gradient anywhere (integers, booleans, steps)."""
        for operator in operators:
            self._claim(domain, operator)
            self.stops.add((domain, operator))

    def _claim(self, domain: str, operator: str) -> None:
        if (domain, operator) in self.rules or (domain, operator) in self.stops:
            raise RegistrationError(f"operator {operator!r} is registered twice")

    def carries(self, node: Node) -> bool:
        """Whether a gradient can pass this node at all."""
        own = (_domain(node), node.op) not in self.stops
        return own and (self.parent is None or self.parent.carries(node))

    def first_alone(self, node: Node) -> bool:
        """Whether a gradient passes between the node's first input and first output alone."""
        return self.knows(node) and self.carries(node) and self.find(node).first

    def find(self, node: Node) -> Entry:
        """The rule of a node; UnsupportedOperator names operator, node, opset and how many are known."""
        entry = self.rules.get((_domain(node), node.op))
        if entry is None and self.parent is not None:
            return self.parent.find(node)
        if entry is None:
            spelled = f"{node.domain}::" if node.domain not in ("", "ai.onnx") else ""
            raise node.refuse(f"no gradient rule for {spelled}{node.op} ({len(self.rules)} operators have one)")
        return entry

    def knows(self, node: Node) -> bool:
        """Whether the node has a rule or carries no gradient."""
        key = (_domain(node), node.op)
        return key in self.rules or key in self.stops or (self.parent is not None and self.parent.knows(node))


def _domain(node: Node) -> str:
    return "" if node.domain == "ai.onnx" else node.domain


REGISTRY = Registry()
vjp = REGISTRY.vjp
stop = REGISTRY.stop
