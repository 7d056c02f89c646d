"""Architectures written by hand in PyTorch, each small: every operator of its family, few channels."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional


def normalised(inside: int, outside: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution and batch normalisation."""
    convolution = nn.Conv2d(inside, outside, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(OrderedDict(conv=convolution, norm=nn.BatchNorm2d(outside)))


class DenseNet(nn.Module):
    """Blocks whose layers read all layers before them, and transitions that halve."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 7, 2, 3, bias=False)
        self.first = nn.ModuleList([self.layer(8 + 4 * i) for i in range(3)])
        self.transition = nn.Sequential(nn.BatchNorm2d(20), nn.ReLU(), nn.Conv2d(20, 10, 1), nn.AvgPool2d(2))
        self.second = nn.ModuleList([self.layer(10 + 4 * i) for i in range(3)])
        self.norm, self.head = nn.BatchNorm2d(22), nn.Linear(22, 4)

    def layer(self, inside: int) -> nn.Sequential:
        bottleneck = [nn.BatchNorm2d(inside), nn.ReLU(), nn.Conv2d(inside, 8, 1, bias=False)]
        return nn.Sequential(*bottleneck, nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1, bias=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.max_pool2d(self.stem(x), 3, 2, 1)
        for layer in self.first:
            x = torch.cat([x, layer(x)], 1)
        x = self.transition(x)
        for layer in self.second:
            x = torch.cat([x, layer(x)], 1)
        return self.head(functional.relu(self.norm(x)).mean((2, 3)))


class VGG(nn.Module):
    """Plain convolutions and poolings; an adaptive pooling before the dense layers."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inside = 3
        for outside in (6, 8, 12):
            layers += [nn.Conv2d(inside, outside, 3, padding=1), nn.ReLU()]
            layers += [nn.Conv2d(outside, outside, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            inside = outside
        self.features, self.pool = nn.Sequential(*layers), nn.AdaptiveAvgPool2d((2, 2))
        self.head = nn.Sequential(nn.Linear(48, 20), nn.ReLU(), nn.Dropout(), nn.Linear(20, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.flatten(self.pool(self.features(x)), 1))


class Inception(nn.Module):
    """Branches with 1x1, asymmetric and pooled paths, joined; a max pooling of stride 1 that keeps the size."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = normalised(3, 8, 3, 2)
        self.one = normalised(8, 4, 1)
        self.five = nn.Sequential(normalised(8, 4, 1), normalised(4, 6, 5))
        self.seven = nn.Sequential(nn.Conv2d(8, 4, (1, 7), padding=(0, 3)), nn.Conv2d(4, 4, (7, 1), padding=(3, 0)))
        self.pooled = normalised(8, 4, 1)
        self.lrn, self.reduce, self.head = nn.LocalResponseNorm(5), nn.Conv2d(26, 8, 3, 2), nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.stem(x))
        smooth = functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        sharp = functional.max_pool2d(x, 3, 1, 1)
        parts = [self.one(x), self.five(x), self.seven(x), self.pooled(smooth), sharp]
        x = functional.relu(torch.cat(parts, 1))
        x = self.reduce(functional.max_pool2d(self.lrn(x), 3, 2, ceil_mode=True))
        return self.head(torch.cat([x.amax((2, 3)), x.mean((2, 3))], 1))


class MobileNetV3(nn.Module):
    """Inverted residuals with squeeze and excitation, hard sigmoid and hard swish."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.expand = normalised(3, 8, 3, 2), normalised(8, 24, 1)
        self.depthwise, self.project = normalised(24, 24, 5, 1, 24), normalised(24, 8, 1)
        self.squeeze, self.excite = nn.Conv2d(24, 8, 1), nn.Conv2d(8, 24, 1)
        self.strided, self.head = normalised(8, 8, 3, 2, 8), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.hardswish(self.stem(x))
        y = functional.hardswish(self.depthwise(functional.hardswish(self.expand(x))))
        gate = functional.relu(self.squeeze(functional.adaptive_avg_pool2d(y, 1)))
        x = x + self.project(y * functional.hardsigmoid(self.excite(gate)))
        return self.head(functional.relu6(self.strided(x)).mean((2, 3)))


class UNet(nn.Module):
    """Downwards and upwards with what was seen on the way joined again; explained pixel by pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2, self.bottom = normalised(3, 6, 3), normalised(6, 10, 3), normalised(10, 12, 3)
        self.up2, self.up1 = nn.ConvTranspose2d(12, 10, 2, 2), nn.Conv2d(10, 6, 3, padding=1)
        self.join2, self.join1, self.head = normalised(20, 10, 3), normalised(12, 6, 3), nn.Conv2d(6, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        f = functional
        a = f.relu(self.down1(x))
        b = f.relu(self.down2(f.max_pool2d(a, 2)))
        c = f.relu(self.bottom(f.max_pool2d(b, 2)))
        b = f.relu(self.join2(torch.cat([self.up2(c), b], 1)))
        c = f.interpolate(self.up1(b), scale_factor=2, mode="bilinear", align_corners=False)
        return self.head(f.relu(self.join1(torch.cat([c, a], 1))))


class Series(nn.Module):
    """A 1-D network over time: dilated causal convolutions with gates, pooling, upsampling, and a dense head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.gated = nn.Conv1d(2, 8, 7, 2, 3), nn.Conv1d(8, 16, 3, dilation=2)
        self.skip, self.up, self.norm = nn.Conv1d(8, 8, 1), nn.ConvTranspose1d(8, 6, 4, 2, 1), nn.BatchNorm1d(6)
        self.head = nn.Linear(12, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.elu(self.stem(x))
        gates, values = self.gated(functional.pad(x, (4, 0))).chunk(2, 1)
        x = functional.max_pool1d(torch.tanh(values) * torch.sigmoid(gates) + self.skip(x), 3, 2)
        x = functional.leaky_relu(self.norm(self.up(x)))
        return self.head(torch.cat([functional.avg_pool1d(x, 4, 2).amax(2), x.mean(2)], 1))


class Volume(nn.Module):
    """A 3-D network with strided, grouped and transposed convolutions and both poolings."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv3d(1, 4, 3, padding=1), nn.BatchNorm3d(4)
        self.strided, self.groups = nn.Conv3d(4, 8, 3, 2, 1, groups=2), nn.GroupNorm(2, 8)
        self.up, self.head = nn.ConvTranspose3d(8, 4, 2, 2), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.max_pool3d(functional.silu(self.norm(self.stem(x))), 2)
        x = self.up(functional.gelu(self.groups(self.strided(x))))
        return self.head(functional.avg_pool3d(x, 2).mean((2, 3, 4)))


class Autoencoder(nn.Module):
    """A picture to a code and back by transposed convolutions and by resizing; explained is the reconstruction."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Conv2d(2, 6, 3, 2, 1), nn.ReLU(), nn.Conv2d(6, 8, 3, 2, 1), nn.Tanh())
        self.narrow, self.wide = nn.Linear(8 * 4 * 4, 10), nn.Linear(10, 8 * 4 * 4)
        self.grow = nn.ConvTranspose2d(8, 6, 3, 2, 1, output_padding=1)
        self.last = nn.Conv2d(6, 2, 3, padding=1, padding_mode="reflect")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        code = self.narrow(self.encode(x).flatten(1))
        y = functional.relu(self.grow(functional.relu(self.wide(code)).unflatten(1, (8, 4, 4))))
        y = functional.interpolate(y, size=(16, 16), mode="bicubic", align_corners=True)
        return torch.sigmoid(self.last(y))
