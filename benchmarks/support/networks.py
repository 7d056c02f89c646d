"""The networks that benchmarks explain, written by hand in PyTorch and exported to ONNX; random weights."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name everybody gives it

TOKENS, WORDS, WIDTH, HEADS = 128, 30522, 256, 4


class Block(nn.Module):
    """A residual block of convolutions (He et al. 2015, arXiv:1512.03385); the first 3x3 takes the stride."""

    def __init__(self, channels: int, width: int, out: int, stride: int, kernels: tuple[int, ...]) -> None:
        super().__init__()
        sizes = [channels, *[width] * (len(kernels) - 1), out]
        strided, layers = kernels.index(3), []
        for i, k in enumerate(kernels):
            step = stride if i == strided else 1
            layers += [nn.Conv2d(sizes[i], sizes[i + 1], k, step, k // 2, bias=False), nn.BatchNorm2d(sizes[i + 1])]
            layers += [nn.ReLU()] if i < len(kernels) - 1 else []
        self.body = nn.Sequential(*layers)
        same = stride == 1 and channels == out
        skip = [] if same else [nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out)]
        self.skip = nn.Sequential(*skip)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.skip(x))


class ResNet(nn.Module):
    """Images [N, 3, 224, 224] to 1000 logits; depths (2, 2, 2, 2) is ResNet-18, (3, 4, 6, 3) of bottlenecks 50."""

    def __init__(self, depths: tuple[int, ...], bottleneck: bool) -> None:
        super().__init__()
        layers = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
        kernels, channels = ((1, 3, 1) if bottleneck else (3, 3)), 64
        for stage, depth in enumerate(depths):
            width = 64 << stage
            out = 4 * width if bottleneck else width
            for i in range(depth):
                layers.append(Block(channels, width, out, 2 if stage and not i else 1, kernels))
                channels = out
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(channels, 1000)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean((2, 3)))


class Layer(nn.Module):
    """A transformer encoder layer, normalised behind its halves as BERT's are."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.norm_1, self.norm_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        n, t, w = x.shape
        q, k, v = (part(x).view(n, t, HEADS, w // HEADS).transpose(1, 2) for part in (self.q, self.k, self.v))
        weights = torch.softmax(q @ k.transpose(2, 3) / (w // HEADS) ** 0.5, -1)
        x = self.norm_1(x + self.o((weights @ v).transpose(1, 2).reshape(n, t, w)))
        return self.norm_2(x + self.down(F.gelu(self.up(x))))


class Bert(nn.Module):
    """Token ids [N, 128] to 2 logits: 4 layers of width 256."""

    def __init__(self) -> None:
        super().__init__()
        self.word, self.place = nn.Embedding(WORDS, WIDTH), nn.Parameter(0.02 * torch.randn(1, TOKENS, WIDTH))
        self.norm, self.layers = nn.LayerNorm(WIDTH), nn.Sequential(*(Layer() for _ in range(4)))
        self.head = nn.Linear(WIDTH, 2)

    def encoded(self, embedded: Tensor) -> Tensor:
        """Logits from embedded tokens [N, 128, 256]: where gradients of tokens are taken."""
        return self.head(self.layers(self.norm(embedded + self.place))[:, 0])

    def forward(self, ids: Tensor) -> Tensor:
        return self.encoded(self.word(ids))


def mlp() -> nn.Module:
    """30-64-64-2."""
    return nn.Sequential(nn.Linear(30, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))


@dataclass(frozen=True)
class Network:
    """A network in PyTorch, one row of input `x`, and the ONNX file made of it (input "x", output "y")."""

    name: str
    module: nn.Module
    row: Tensor
    data: bytes


MAKERS = {
    "ResNet-18": lambda: (ResNet((2, 2, 2, 2), False), torch.randn(1, 3, 224, 224)),
    "ResNet-50": lambda: (ResNet((3, 4, 6, 3), True), torch.randn(1, 3, 224, 224)),
    "BERT 4 x 256, 128 tokens": lambda: (Bert(), torch.randint(WORDS, (1, TOKENS))),
    "MLP 30-64-64-2": lambda: (mlp(), torch.randn(1, 30)),
}


def make(name: str, folder: Path, seed: int = 0) -> Network:
    """Build a network with random weights, the same for the same seed, and export it with a dynamic batch axis."""
    torch.manual_seed(seed)
    module, row = MAKERS[name]()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.0)
            nn.init.uniform_(part.running_var, 0.5, 1.5)
    module.eval()
    path = folder / "network.onnx"
    axes = ({0: torch.export.Dim("n")},)
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (torch.cat([row, row]),),
            input_names=["x"],
            output_names=["y"],
            opset_version=18,
            dynamo=True,
            dynamic_shapes=axes,
            verbose=False,
        ).save(path)
    return Network(name, module, row, path.read_bytes())
