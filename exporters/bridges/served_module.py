"""The torch side of `as_torch`. Imported when it is called: this file imports torch.

tensors --numpy--> engine (value) --> tensor;   its cotangent --numpy--> engine (vjp) --> gradients of the inputs
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import InvalidBridge
from ..exported import Array
from .served import Bridged


class ServedGraph(nn.Module):
    """The layer a served model is: one, of a kind that no rule for layers knows, so that LRP refuses it by name."""

    def __init__(self, served: Bridged) -> None:
        super().__init__()
        self.served = served

    def forward(self, *inputs: Tensor) -> Tensor:
        """The explained value [N, ...item]. Raises InvalidBridge for tensors that do not fit."""
        names = self.served.input_names
        if len(inputs) != len(names):
            raise InvalidBridge(f"came {len(inputs)} tensors, expected one for each of {', '.join(names)}")
        value: Tensor = _Value.apply(self.served, *inputs)  # type: ignore[no-untyped-call]  # torch has it so
        return value


class ServedModule(nn.Module):
    """One output of a served model; a tensor per input, in the order of the file."""

    def __init__(self, served: Bridged) -> None:
        super().__init__()
        self.graph = ServedGraph(served)

    def forward(self, *inputs: Tensor) -> Tensor:
        """See `ServedGraph.forward`."""
        value: Tensor = self.graph(*inputs)
        return value

    def apply(self, fn: Callable[[nn.Module], None]) -> NoReturn:  # noqa: ARG002 - torch names it
        """Refuses what DeepLift and its like do first, hooking every layer: here they would find none, and say
        gradient times difference under another name."""
        raise InvalidBridge(
            "a method that hooks layers (DeepLift, GuidedBackprop, Deconvolution) finds none in a served model; "
            "use explain.attribute, whose deeplift and guided_backprop work on its graph"
        )


class _Value(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, served: Bridged, *inputs: Tensor) -> Tensor:
        ctx.served = served
        ctx.save_for_backward(*inputs)
        return _tensor(served.value(_arrays(served, inputs)), inputs[0])

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> Any:
        return None, *_Gradient.apply(ctx.served, cotangents[0], *ctx.saved_tensors)  # type: ignore[no-untyped-call]


class _Gradient(torch.autograd.Function):
    """A function of its own, so that a gradient of it is asked of `backward` here, which refuses."""

    @staticmethod
    def forward(_ctx: Any, served: Bridged, cotangent: Tensor, *inputs: Tensor) -> tuple[Tensor | None, ...]:
        found = served.gradient(_arrays(served, inputs), _array(cotangent))
        return tuple(
            (_tensor(found[name], tensor).to(tensor.dtype) if name in found else torch.zeros_like(tensor))
            if tensor.is_floating_point()
            else None
            for name, tensor in zip(served.input_names, inputs, strict=True)
        )

    @staticmethod
    def backward(_ctx: Any, *_cotangents: Tensor) -> Any:
        raise InvalidBridge("a gradient of the gradient was asked for; the gradient of a served model is compiled once")


def _arrays(served: Bridged, tensors: tuple[Tensor, ...]) -> dict[str, Array]:
    named = zip(served.input_names, tensors, strict=True)
    return {name: served.fitted(name, _array(tensor)) for name, tensor in named}


def _array(tensor: Tensor) -> Array:
    return tensor.detach().cpu().numpy()


def _tensor(array: Array, like: Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(like.device)
