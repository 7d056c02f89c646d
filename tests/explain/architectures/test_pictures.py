"""Picture models of `transformers`: gradients from one compiled graph at batch 1 and 7 and at two sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from tests.explain.architectures import zoo
from tests.explain.architectures.harness import FLIPPED, NHW, TOLERANCE, Exporter, N, pixel_errors
from tests.explain.single import numbers

pytestmark = pytest.mark.filterwarnings("ignore")  # PyTorch and transformers speak of their own future


@dataclass(frozen=True)
class Pictures:
    """An architecture, its sizes, and what of them is open."""

    make: Callable[[], nn.Module]
    size: tuple[int, int]
    also: tuple[tuple[int, int], ...] = ()
    flips: bool = False
    attention: str | None = None

    def module(self) -> nn.Module:
        """The module, alive."""
        return zoo.alive(self.make, self.attention)

    def export(self, module: nn.Module, exporter: Exporter) -> onnx.ModelProto:
        """The module exported with open dimensions."""
        example = torch.as_tensor(numbers(2, 3, *self.size), dtype=torch.float32)
        return exporter(module, {"x": example}, [NHW if self.also else N])

    def shapes(self) -> list[tuple[int, ...]]:
        """Batch 1 and 7 at the first size, 1 at every other."""
        return [(1, 3, *self.size), (7, 3, *self.size), *((1, 3, *size) for size in self.also)]


ARCHITECTURES = {
    "vit": Pictures(zoo.vit, (16, 16), attention="eager"),
    "vit-fused": Pictures(zoo.vit, (16, 16)),
    "swin": Pictures(zoo.swin, (32, 32), attention="eager"),
    "convnext": Pictures(zoo.convnext, (64, 64), ((32, 96),)),
    "resnet18": Pictures(partial(zoo.resnet, 18, 4), (64, 64), ((96, 64),), flips=True),
    "resnet50": Pictures(partial(zoo.resnet, 50, 8), (64, 64), ((96, 64),), flips=True),
    "mobilenetv2": Pictures(zoo.mobilenet_v2, (64, 64), ((96, 64),)),
    "efficientnet": Pictures(zoo.efficientnet, (64, 64), ((96, 64),)),
    "segformer": Pictures(zoo.segformer, (64, 64), ((96, 64),)),
}
EVERYDAY = [
    ("vit", 13, False),
    ("vit-fused", 23, True),
    ("swin", 17, False),
    ("convnext", 13, False),
    ("resnet18", 18, True),
    ("resnet50", 17, False),
    ("mobilenetv2", 13, False),
    ("efficientnet", 17, False),
    ("segformer", 17, False),
]
SLOW = [
    ("vit", 18, True),
    ("swin", 18, True),
    ("swin", 23, True),
    ("convnext", 18, True),
    ("convnext", 23, True),
    ("resnet50", 18, True),
    ("mobilenetv2", 18, True),
    ("efficientnet", 18, True),
    ("segformer", 18, True),
]


def cases() -> list[Any]:
    everyday = [pytest.param(name, Exporter(dynamo, opset)) for name, opset, dynamo in EVERYDAY]
    slow = [pytest.param(name, Exporter(dynamo, opset), marks=pytest.mark.slow) for name, opset, dynamo in SLOW]
    return everyday + slow


@pytest.mark.parametrize(("name", "exporter"), cases(), ids=str)
def test_gradients_of_an_architecture(name: str, exporter: Exporter) -> None:
    architecture = ARCHITECTURES[name]
    module = architecture.module()
    proto = architecture.export(module, exporter)
    found = pixel_errors(module, proto, architecture.shapes())
    if architecture.flips and max(found) > TOLERANCE:  # a Relu that rounding switched explains all of it
        assert max(found) <= FLIPPED
        found = pixel_errors(module, proto, architecture.shapes(), fixed_masks=True)
    assert max(found) <= TOLERANCE


def test_the_masks_of_other_pictures_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.explain.architectures import harness

    architecture = ARCHITECTURES["resnet18"]
    module = architecture.module()
    proto = architecture.export(module, Exporter(False, 17))
    masks = harness.relu_masks
    monkeypatch.setattr(harness, "relu_masks", lambda model, x: masks(model, np.flip(x, axis=-1).copy()))
    with pytest.raises(AssertionError):
        pixel_errors(module, proto, [(1, 3, 64, 64)], fixed_masks=True)


def test_other_weights_are_told_apart() -> None:
    architecture = ARCHITECTURES["vit"]
    module = architecture.module()
    proto = architecture.export(module, Exporter(False, 17))
    for value in module.parameters():
        value.data *= 1.0001  # too little for the forward value to show
    assert min(pixel_errors(module, proto, [(1, 3, 16, 16), (7, 3, 16, 16)])) > TOLERANCE
