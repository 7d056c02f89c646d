"""Independent gradients: the same mathematics, done by torch's autograd on the source network.

Nothing here sees the ONNX file. The network is run in float64, so that what is left of a difference is the served
model's own float32 and the compiler's mistakes, if any.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..exported import Array
from .verdict import Unjudged

if TYPE_CHECKING:
    from torch import Tensor, nn


class TorchJudge:
    """Gradients of one logit (or value) of a torch network, by input name.

    network      gives [N, outputs] in the space that is explained: logits, or values
    input_names  in the order the network takes them
    rule         another rule for the network's activations, a name of `torch_rules.RULES`; None for derivatives

    Raises Unjudged where the rule cannot be put in force.
    """

    name = "torch.autograd in float64"

    def __init__(self, network: nn.Module, input_names: Sequence[str], rule: str | None = None) -> None:
        from . import torch_rules  # imports torch

        self._network, self._table = torch_rules.prepared(copy.deepcopy(network).double().eval(), rule)
        self._names = tuple(input_names)
        self._dtype: type[np.floating[Any]] = np.float64

    def rounded(self) -> TorchJudge:
        """The same judge computing in float32: how far apart two correct programs may be."""
        other = copy.deepcopy(self)
        other._network = other._network.float()
        other._dtype = np.float32
        return other

    def encoded(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The inputs as float64, codes [N, ...] by their embedding [N, ..., width]. Raises Unjudged where codes enter
        the network in another way than through one embedding."""
        import torch

        coded = [name for name in self._names if inputs[name].dtype.kind != "f"]
        found = {name: inputs[name].astype(np.float64) for name in self._names if name not in coded}
        if not coded:
            return found
        if len(coded) > 1 or self._table is None:
            raise Unjudged("codes enter the source network in another way than through one embedding")
        with torch.no_grad():
            self._network(*(self._tensor(inputs[name]) for name in self._names))
        seen = self._table.seen
        if seen is None or seen.shape[:-1] != inputs[coded[0]].shape:
            raise Unjudged("the source network looks up something else than each code")
        return found | {coded[0]: seen.double().numpy()}

    def gradient(self, inputs: Mapping[str, Array], target: Array) -> dict[str, Array]:
        """∂f/∂x per row, float64 [N, ...], for the floating-point inputs; f is the output at target [N].

        An encoded input stands for the codes it was made from.
        """
        import torch

        arguments, free = self._arguments(inputs)
        picked = self._picked(arguments, target).sum()
        found = torch.autograd.grad(picked, list(free.values()), materialize_grads=True)
        return {name: gradient.double().numpy() for name, gradient in zip(free, found, strict=True)}

    def layer(self, inputs: Mapping[str, Array], target: Array, module: str) -> tuple[Array, Array]:
        """What a module gives and ∂f/∂ that, float64 [N, C, h, w] each."""
        import torch

        kept: list[Tensor] = []
        hook = self._network.get_submodule(module).register_forward_hook(lambda _m, _i, out: kept.append(out))
        try:
            arguments, _ = self._arguments(inputs)
            picked = self._picked(arguments, target).sum()
        finally:
            hook.remove()
        (gradient,) = torch.autograd.grad(picked, kept[-1:])
        return kept[-1].detach().double().numpy(), gradient.double().numpy()

    def _picked(self, arguments: Sequence[Tensor], target: Array) -> Tensor:
        import torch

        try:
            answer = self._network(*arguments)
        finally:
            if self._table is not None:
                self._table.given = None
        picked: Tensor = answer.reshape(len(answer), -1).gather(1, torch.from_numpy(target)[:, None])
        return picked

    def _arguments(self, inputs: Mapping[str, Array]) -> tuple[list[Tensor], dict[str, Tensor]]:
        """What the network takes, and the tensors that gradients are asked of, by input name."""
        import torch

        arguments, free = [], {}
        for name in self._names:
            tensor = self._tensor(inputs[name])
            if tensor.is_floating_point():
                free[name] = tensor.requires_grad_()
                if self._table is not None and inputs[name].ndim == self._table.rank:
                    self._table.given = tensor
                    tensor = torch.zeros(tensor.shape[:-1], dtype=torch.int64)
            arguments.append(tensor)
        return arguments, free

    def _tensor(self, array: Array) -> Tensor:
        import torch

        floats = array.dtype.kind == "f"
        return torch.from_numpy(np.ascontiguousarray(array, dtype=self._dtype if floats else array.dtype)).clone()
