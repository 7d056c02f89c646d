"""Activations of recurrent gates: each is made of operators, whose rules are its derivative."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..emit import Emitter
from ..graph import Node

# Operators that an activation is made of, with constant operands ("alpha", "beta") and attributes by what they are.
ACTIVATIONS: dict[str, tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...]] = {
    "affine": (("Mul", ("alpha",), ()), ("Add", ("beta",), ())),
    "elu": (("Elu", (), ("alpha",)),),
    "hardsigmoid": (("HardSigmoid", (), ("alpha", "beta")),),
    "leakyrelu": (("LeakyRelu", (), ("alpha",)),),
    "relu": (("Relu", (), ()),),
    "scaledtanh": (("Mul", ("beta",), ()), ("Tanh", (), ()), ("Mul", ("alpha",), ())),
    "sigmoid": (("Sigmoid", (), ()),),
    "softplus": (("Softplus", (), ()),),
    "softsign": (("Softsign", (), ()),),
    "tanh": (("Tanh", (), ()),),
    "thresholdedrelu": (("ThresholdedRelu", (), ("alpha",)),),
}
# What is taken where activation_alpha and activation_beta end; of the others runtimes disagree.
DEFAULTS = {"elu": {"alpha": 1.0}, "hardsigmoid": {"alpha": 0.2, "beta": 0.5}, "leakyrelu": {"alpha": 0.01}}
DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}


@dataclass(frozen=True)
class Step:
    """One operator of an activation."""

    op: str
    operands: tuple[float, ...]
    attributes: Mapping[str, Any]

    def inputs(self, emit: Emitter, x: str) -> tuple[str, ...]:
        """x and the constants beside it."""
        return (x, *(emit.constant(np.array(number, dtype=emit.dtype(x))) for number in self.operands))


Activation = tuple[Step, ...]


def applied(emit: Emitter, activation: Activation, x: str) -> str:
    """The value of an activation."""
    for step in activation:
        x = emit.node(step.op, step.inputs(emit, x), dict(step.attributes))[0]
    return x


def turns_of(node: Node) -> tuple[bool, ...]:
    """For each direction of a node, whether it walks backwards."""
    spelled = node.attr("direction", b"forward").decode().lower()
    if spelled not in DIRECTIONS:
        raise node.refuse(f"attribute 'direction' is {spelled!r}, expected one of {', '.join(DIRECTIONS)}")
    return DIRECTIONS[spelled]


def activations_of(node: Node, defaults: tuple[str, ...]) -> list[Activation]:
    """Those of all directions in turn; alphas and betas belong to the activations that have one, in their order."""
    stated, count = tuple(name.decode() for name in node.attr("activations", ())), len(defaults)
    names = [name.lower() for name in stated or defaults * len(turns_of(node))]
    expected = count * len(turns_of(node))
    if len(names) != expected:
        raise node.refuse(f"attribute 'activations' has {len(names)} names, expected {expected}")
    left = {key: iter(node.attr(f"activation_{key}", ())) for key in ("alpha", "beta")}
    clip = node.attr("clip")
    made = []
    for i, name in enumerate(names):
        if name not in ACTIVATIONS:
            raise node.refuse(f"attribute 'activations' names {name!r}, which ONNX does not define")
        takes = {key for _, operands, attributes in ACTIVATIONS[name] for key in (*operands, *attributes)}
        given: dict[str, float] = {}
        for key in sorted(takes):
            number = next(left[key], DEFAULTS.get(name, {}).get(key))
            if number is None:
                raise node.refuse(f"attribute 'activation_{key}' has no value for {name!r}, and runtimes differ in it")
            given[key] = number
        bounds = [Step("Clip", (-float(clip), float(clip)), {})] if clip is not None and i % count < 2 else []
        own = [
            Step(op, tuple(given[key] for key in operands), {key: given[key] for key in attributes})
            for op, operands, attributes in ACTIVATIONS[name]
        ]
        made.append((*bounds, *own))
    return made
