"""Other rules for the activations of a torch network, and what of a network they can be put in force for.

Imported when a judge is made: this file imports torch. A rule takes the place of an activation's derivative in a
backward pass; everything else is left to autograd.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from .verdict import Unjudged

ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.SiLU, nn.GELU, nn.Tanh, nn.Sigmoid, nn.ELU, nn.Softplus, nn.ReLU6)
LINEAR = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.Flatten,
    nn.Dropout,
    nn.Identity,
    nn.Embedding,
)
LINEAR_CALLS = {"add", "sub", "cat", "flatten", "reshape", "view", "mean", "sum", "getitem", "permute", "neg", "size"}
SCALINGS = {"mul", "truediv", "div"}
NEAR = 1e-9  # of the two ends of a chord: what is closer has a derivative in its place


class Looked(nn.Module):
    """An embedding whose result can be seen, and given in its place."""

    def __init__(self, table: nn.Embedding) -> None:
        super().__init__()
        self.table = table
        self.seen: Tensor | None = None
        self.given: Tensor | None = None
        self.rank = 3

    def forward(self, codes: Tensor) -> Tensor:
        """codes [N, T] -> [N, T, width]."""
        if self.given is not None:
            return self.given
        found: Tensor = self.table(codes)
        self.seen = found.detach()
        return found


class _Chord(torch.autograd.Function):
    """Rows come in two halves, x before b: Δy/Δa is the slope of both, dy/da where they meet."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, activation: nn.Module) -> Tensor:
        with torch.enable_grad():
            inside = a.detach().requires_grad_()
            y = activation(inside)
            (slope,) = torch.autograd.grad(y.sum(), inside)
        half = len(a) // 2
        run, rise = a[:half] - a[half:], (y[:half] - y[half:]).detach()
        near = run.abs() < NEAR
        chord = torch.where(near, slope[:half], rise / torch.where(near, torch.ones_like(run), run))
        ctx.save_for_backward(torch.cat([chord, chord]))
        result: Tensor = y.detach()
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return gradients[0] * ctx.saved_tensors[0], None


class _Guided(torch.autograd.Function):
    """Only positive gradients pass, and only where the input is positive."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, _: nn.Module) -> Tensor:
        ctx.save_for_backward(a)
        return a.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return gradients[0].clamp(min=0) * (ctx.saved_tensors[0] > 0), None


class Ruled(nn.Module):
    """An activation with a rule in the place of its derivative."""

    def __init__(self, activation: nn.Module, rule: Any) -> None:
        super().__init__()
        self.activation, self.rule = activation, rule

    def forward(self, a: Tensor) -> Tensor:
        """The activation's own value."""
        result: Tensor = self.rule.apply(a, self.activation)
        return result


RULES: dict[str, tuple[Any, tuple[type[nn.Module], ...]]] = {
    "rescale": (_Chord, ACTIVATIONS),
    "guided": (_Guided, (nn.ReLU,)),
}


def prepared(network: nn.Module, rule: str | None) -> tuple[nn.Module, Looked | None]:
    """The network with a rule in force and its embedding, if it has one, made visible. Raises Unjudged."""
    if rule == "rescale":
        _require_rescalable(network)
    if rule == "guided":
        _require_modules(network)
    if rule is not None:
        function, kinds = RULES[rule]
        _swap(network, lambda module: Ruled(module, function) if isinstance(module, kinds) else None)
    tables = [module for module in network.modules() if isinstance(module, nn.Embedding)]
    if len(tables) != 1:
        return network, None
    looked = Looked(tables[0])
    _swap(network, lambda module: looked if module is tables[0] else None)
    return network, looked


def _swap(network: nn.Module, other: Any) -> None:
    """Every module for which there is another, in its place."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            found = other(child)
            if found is not None and not isinstance(parent, Ruled | Looked):
                setattr(parent, name, found)


def traced(network: nn.Module) -> fx.GraphModule:
    """What the network calls, in order. Raises Unjudged where that depends on the numbers."""
    try:
        return fx.symbolic_trace(network)
    except Exception as error:  # a network's forward may raise whatever its author chose
        raise Unjudged(f"the source network cannot be traced ({type(error).__name__})") from error


def _require_rescalable(network: nn.Module) -> None:
    """Linear parts and activations, each called once: the rescale rule of each is a chord, and there is no other."""
    graph, moving, called = traced(network), set[fx.Node](), set[str]()
    for node in graph.graph.nodes:
        inputs = [given for given in node.all_input_nodes if given in moving]
        if node.op == "placeholder" or inputs:
            moving.add(node)
        if node.op == "call_module":
            module = network.get_submodule(node.target)
            if isinstance(module, ACTIVATIONS) and node.target in called:
                raise Unjudged(f"the source network uses the module {node.target} twice")
            if not isinstance(module, ACTIVATIONS + LINEAR):
                raise Unjudged(f"this judge has no rescale rule for {type(module).__name__}")
            called.add(node.target)
        elif node.op in ("call_function", "call_method"):
            name = _called(node)
            factors = [isinstance(given, fx.Node) and given in moving for given in node.args]
            scaled = name in SCALINGS and sum(factors) <= 1 and (name == "mul" or not factors[1])
            if inputs and not scaled and name not in LINEAR_CALLS:
                raise Unjudged(f"this judge has no rescale rule for {name}")


def _require_modules(network: nn.Module) -> None:
    """No Relu but as a module, which can be replaced."""
    for node in traced(network).graph.nodes:
        if node.op in ("call_function", "call_method") and _called(node) in ("relu", "relu_", "clamp", "relu6"):
            raise Unjudged(f"the source network calls {_called(node)} as a function")


def last_convolution(network: nn.Module, folded: bool) -> str:
    """The name of the last convolution, or of the normalisation behind it where that is folded into it."""
    nodes = list(traced(network).graph.nodes)
    found = [
        node for node in nodes if node.op == "call_module" and isinstance(network.get_submodule(node.target), nn.Conv2d)
    ]
    if not found:
        raise Unjudged("the source network has no convolution as a module")
    behind = list(found[-1].users)
    if folded and len(behind) == 1 and behind[0].op == "call_module":
        module = network.get_submodule(behind[0].target)
        if isinstance(module, nn.BatchNorm2d):
            return str(behind[0].target)
    return str(found[-1].target)


def _called(node: fx.Node) -> str:
    return node.target if isinstance(node.target, str) else str(getattr(node.target, "__name__", node.target))
