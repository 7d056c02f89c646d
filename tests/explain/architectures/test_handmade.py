"""Networks written by hand, through both exporters, from one compiled graph at batch 1 and 7 and at two sizes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import nn
from torch.export import Dim

from tests.explain.architectures import handmade
from tests.explain.architectures.harness import NHW, TOLERANCE, Exporter, N, pixel_errors
from tests.explain.architectures.zoo import alive
from tests.explain.single import numbers

pytestmark = pytest.mark.filterwarnings("ignore")  # PyTorch speaks of its own future
FOURTHS = {0: Dim.DYNAMIC, 2: 4 * Dim("h"), 3: 4 * Dim("w")}


@dataclass(frozen=True)
class Network:
    """A network, the shape of an item, further shapes of the very same graph, and its open dimensions."""

    make: type[nn.Module]
    item: tuple[int, ...]
    also: tuple[tuple[int, ...], ...] = ()
    dynamic: dict[int, Any] = field(default_factory=lambda: N)


NETWORKS = {
    "densenet": Network(handmade.DenseNet, (3, 32, 32), ((3, 48, 35),), NHW),
    "vgg": Network(handmade.VGG, (3, 32, 32)),
    "inception": Network(handmade.Inception, (3, 32, 32), ((3, 41, 38),), NHW),
    "mobilenetv3": Network(handmade.MobileNetV3, (3, 32, 32), ((3, 41, 38),), NHW),
    "unet": Network(handmade.UNet, (3, 32, 32), ((3, 40, 24),), FOURTHS),
    "series": Network(handmade.Series, (2, 64), ((2, 51),), {0: Dim.DYNAMIC, 2: Dim.DYNAMIC}),
    "volume": Network(handmade.Volume, (1, 16, 16, 16), ((1, 12, 16, 16),), FOURTHS),
    "autoencoder": Network(handmade.Autoencoder, (2, 16, 16)),
}
OLDER = [(name, Exporter(False, opset)) for name in NETWORKS for opset in (13, 17)]
EVERYDAY = [*OLDER, *((name, Exporter(True, 18)) for name in ("inception", "unet"))]
SLOW = [(name, Exporter(True, opset)) for name in NETWORKS for opset in (18, 23)]


def cases() -> list[Any]:
    slow = [pytest.param(*case, marks=pytest.mark.slow) for case in SLOW if case not in EVERYDAY]
    return [pytest.param(*case) for case in EVERYDAY] + slow


@pytest.mark.parametrize(("name", "exporter"), cases(), ids=str)
def test_gradients_of_a_network(name: str, exporter: Exporter) -> None:
    network = NETWORKS[name]
    module = alive(network.make)
    example = torch.as_tensor(numbers(2, *network.item), dtype=torch.float32)
    proto = exporter(module, {"x": example}, [network.dynamic])
    shapes = [(1, *network.item), (7, *network.item), *((1, *item) for item in network.also)]
    assert max(pixel_errors(module, proto, shapes)) <= TOLERANCE
