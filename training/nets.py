"""The networks of the recipes. Each takes what a client sends: scaling and encoding are part of the network.

Statistics of the training split are buffers, so they travel with the weights and into the exported graph, and
attributions are about the client's own numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from .data import Array


class Standardise(nn.Module):
    """(x − mean) / deviation per column, both taken over the training rows; constant columns keep deviation 1."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, rows: Array) -> None:
        super().__init__()
        columns = np.asarray(rows, dtype=np.float64)
        deviation = columns.std(axis=0)
        self.register_buffer("mean", torch.tensor(columns.mean(axis=0), dtype=torch.float32))
        self.register_buffer("deviation", torch.tensor(np.where(deviation > 0, deviation, 1.0), dtype=torch.float32))

    def forward(self, rows: Tensor) -> Tensor:
        """[N, columns] -> [N, columns], mean 0 and deviation 1 over the training rows."""
        return (rows - self.mean) / self.deviation


class Rescale(nn.Module):
    """The way back: standardised values to the units of the labels."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, values: Array) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(float(values.mean()), dtype=torch.float32))
        self.register_buffer("deviation", torch.tensor(float(values.std()) or 1.0, dtype=torch.float32))

    def forward(self, values: Tensor) -> Tensor:
        """[N, 1] standardised -> [N, 1] in the units of the labels."""
        return values * self.deviation + self.mean


def perceptron(width: int, hidden: Sequence[int], outputs: int, dropout: float) -> nn.Sequential:
    """Linear layers with SiLU between them.

    SiLU is smooth, so that path integrals converge in few steps and finite differences have no kinks to step over.
    """
    layers: list[nn.Module] = []
    for before, after in pairwise((width, *hidden)):
        layers += [nn.Linear(before, after), nn.SiLU(), nn.Dropout(dropout)]
    layers.append(nn.Linear((width, *hidden)[-1], outputs))
    return nn.Sequential(*layers)


class TabularNet(nn.Module):
    """Columns of numbers -> logits [N, outputs], or a value [N, 1] when ``values`` (training labels) are given."""

    def __init__(
        self, rows: Array, *, outputs: int, hidden: Sequence[int], dropout: float, values: Array | None = None
    ) -> None:
        super().__init__()
        self.scale = Standardise(rows)
        self.layers = perceptron(rows.shape[1], hidden, outputs, dropout)
        self.rescale = nn.Identity() if values is None else Rescale(values)

    def forward(self, features: Tensor) -> Tensor:
        """float32 [N, columns] -> float32 [N, outputs]."""
        result: Tensor = self.rescale(self.layers(self.scale(features)))
        return result


class MixedNet(nn.Module):
    """Numbers and coded attributes -> logits.

    All levels of all attributes share one embedding table; attribute a owns the rows from offsets[a] on. The codes
    are therefore looked up inside the graph, by one Gather, and a client sends the codes themselves.
    """

    offsets: Tensor

    def __init__(
        self, rows: Array, levels: Sequence[int], *, outputs: int, width: int, hidden: Sequence[int], dropout: float
    ) -> None:
        super().__init__()
        self.scale = Standardise(rows)
        self.register_buffer("offsets", torch.tensor([0, *np.cumsum(levels)[:-1].tolist()], dtype=torch.int64))
        self.embedding = nn.Embedding(int(sum(levels)), width)
        nn.init.normal_(self.embedding.weight, std=0.1)
        self.layers = perceptron(rows.shape[1] + width * len(levels), hidden, outputs, dropout)

    def forward(self, numeric: Tensor, codes: Tensor) -> Tensor:
        """float32 [N, numbers], int64 [N, attributes] -> float32 [N, outputs]."""
        coded = self.embedding(codes + self.offsets).flatten(1)
        result: Tensor = self.layers(torch.cat([self.scale(numeric), coded], dim=1))
        return result


class Jitter(nn.Module):
    """Varies each training picture by what another camera or technician would: contrast, brightness, position.

    Does nothing outside training, and so is not part of an exported graph.
    """

    def __init__(self, *, contrast: float, brightness: float, pixels: int) -> None:
        super().__init__()
        self.contrast = contrast
        self.brightness = brightness
        self.pixels = pixels

    def forward(self, image: Tensor) -> Tensor:
        """[N, C, height, width] -> the same shape; each picture its own draw, the edge filled with its own border."""
        if not self.training:
            return image
        scale = 1 + self.contrast * (2 * torch.rand(len(image), 1, 1, 1) - 1)
        shift = self.brightness * (2 * torch.rand(len(image), 1, 1, 1) - 1)
        padded = nn.functional.pad(image * scale + shift, [self.pixels] * 4, mode="replicate")
        height, width = image.shape[2:]
        corners = torch.randint(0, 2 * self.pixels + 1, (len(image), 2)).tolist()
        return torch.stack(
            [
                picture[:, top : top + height, left : left + width]
                for picture, (top, left) in zip(padded, corners, strict=True)
            ]
        )


class PictureNet(nn.Module):
    """Grey pictures, pixels 0..255 -> logits: blocks of convolution, normalisation and ReLU, then a global mean.

    The global mean ties every class score to *where* the last feature map fired, which is what Grad-CAM shows.
    ``channels`` names the blocks; 0 stands for a 2 × 2 max-pool.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self, pixels: Array, channels: Sequence[int], *, outputs: int, dropout: float, jitter: Jitter | None = None
    ) -> None:
        super().__init__()
        self.jitter = jitter or nn.Identity()
        self.register_buffer("mean", torch.tensor(float(pixels.mean()), dtype=torch.float32))
        self.register_buffer("deviation", torch.tensor(float(pixels.std()) or 1.0, dtype=torch.float32))
        blocks: list[nn.Module] = []
        before = pixels.shape[1]
        for after in channels:
            if after == 0:
                blocks.append(nn.MaxPool2d(2))
                continue
            blocks += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
            before = after
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(before, outputs)
        )

    def forward(self, image: Tensor) -> Tensor:
        """float32 [N, 1, height, width] of 0..255 -> float32 [N, outputs]."""
        result: Tensor = self.head(self.blocks(self.jitter((image - self.mean) / self.deviation)))
        return result


class Probabilities(nn.Module):
    """A network of logits, served as probabilities."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> Tensor:
        """The network's inputs -> float32 [N, classes], rows summing to 1."""
        return torch.softmax(self.network(*inputs), dim=1)
