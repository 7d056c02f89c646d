"""Independent answers that certificates are measured against: the same mathematics, done by torch's autograd.

Nothing here sees the ONNX file. The network is run in float64, so that what is left of a difference is the served
model's own float32 and the compiler's mistakes, if any.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import explain

from .exported import Array

if TYPE_CHECKING:
    from torch import Tensor, nn


class TorchJudge:
    """Gradients and integrated gradients of one logit (or value) of a torch network, by input name.

    network      gives [N, outputs] in the space that is explained: logits, or values
    input_names  in the order the network takes them
    """

    name = "torch.autograd in float64"

    def __init__(self, network: nn.Module, input_names: Sequence[str]) -> None:
        self._network = copy.deepcopy(network).double().eval()
        self._names = tuple(input_names)
        self._dtype: type[np.floating[Any]] = np.float64

    def rounded(self) -> TorchJudge:
        """The same judge computing in float32: how far apart two correct programs may be."""
        other = TorchJudge(self._network, self._names)
        other._network = other._network.float()
        other._dtype = np.float32
        return other

    def gradient(self, inputs: Mapping[str, Array], target: Array) -> dict[str, Array]:
        """∂f/∂x per row, float64 [N, ...], for the floating-point inputs; f is the output at target [N]."""
        import torch

        tensors = [self._tensor(inputs[name]) for name in self._names]
        free = {name: t.requires_grad_() for name, t in zip(self._names, tensors, strict=True) if t.is_floating_point()}
        picked = self._network(*tensors).gather(1, torch.from_numpy(target)[:, None]).sum()
        found = torch.autograd.grad(picked, list(free.values()), materialize_grads=True)
        return {name: gradient.numpy() for name, gradient in zip(free, found, strict=True)}

    def integrated_gradients(
        self, inputs: Mapping[str, Array], baseline: Mapping[str, Array], target: Array, n_steps: int
    ) -> dict[str, Array]:
        """(x − b) · Σₖ wₖ ∂f/∂x(b + αₖ(x − b)) with the Gauss-Legendre αₖ, wₖ of [0, 1]; all inputs are floats.

        Source: Sundararajan, Taly, Yan (2017), arXiv 1703.01365; the rule as captum 0.9 has it by default.
        """
        points, weights = np.polynomial.legendre.leggauss(n_steps)
        step = {name: inputs[name].astype(np.float64) - baseline[name] for name in self._names}
        total = {name: np.zeros_like(array) for name, array in step.items()}
        for point, weight in zip((points + 1) / 2, weights / 2, strict=True):
            there = {name: baseline[name] + point * step[name] for name in self._names}
            for name, gradient in self.gradient(there, target).items():
                total[name] += weight * gradient
        return {name: step[name] * total[name] for name in self._names}

    def _tensor(self, array: Array) -> Tensor:
        import torch

        floats = array.dtype.kind == "f"
        return torch.from_numpy(np.ascontiguousarray(array, dtype=self._dtype if floats else array.dtype)).clone()


def gradient_errors(found: Mapping[str, Array], judged: Mapping[str, Array]) -> Array:
    """‖g − g′‖₂ / ‖g′‖₂ per row over all judged inputs together."""
    return explain.gradient_error(_joined(found, judged), _joined(judged, judged))


def attribution_errors(found: Mapping[str, Array], judged: Mapping[str, Array]) -> Array:
    """max|φ − φ′| / max|φ′| per row over all judged inputs together."""
    pairs = zip(_joined(found, judged), _joined(judged, judged), strict=True)
    return np.array([explain.attribution_error(row, other) for row, other in pairs])


def _joined(arrays: Mapping[str, Array], names: Iterable[str]) -> Array:
    """[N, elements] float64: the named inputs side by side."""
    return np.concatenate([arrays[name].reshape(len(arrays[name]), -1).astype(np.float64) for name in names], axis=1)
