"""PyTorch's functions for the layers of networks: convolutions, pools, norms, attention, losses (see twins.py)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

F = torch.nn.functional
Tensor = torch.Tensor
CONV = [F.conv1d, F.conv2d, F.conv3d]
CONV_TRANSPOSE = [F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d]
LARGEST = [F.max_pool1d, F.max_pool2d, F.max_pool3d]
UNPOOL = [F.max_unpool1d, F.max_unpool2d, F.max_unpool3d]


def padded(
    x: Tensor,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[int] | None,
    auto_pad: str,
    value: float = 0.0,
) -> Tensor:
    """The picture with its padding on it, as given or as `auto_pad` asks."""
    rank = len(kernel)
    before, after = list((pads or [0] * 2 * rank)[:rank]), list((pads or [0] * 2 * rank)[rank:])
    if auto_pad.startswith("SAME"):
        for i, size in enumerate(x.shape[2:]):
            reach = (-(-size // strides[i]) - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1
            total = max(reach - size, 0)
            small, large = total // 2, total - total // 2
            before[i], after[i] = (small, large) if auto_pad == "SAME_UPPER" else (large, small)
    widths = [width for i in reversed(range(rank)) for width in (before[i], after[i])]
    return F.pad(x, widths, value=value)


def conv(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    strides: Sequence[int] = (),
    dilations: Sequence[int] = (),
    pads: Sequence[int] | None = None,
    auto_pad: str = "NOTSET",
    group: int = 1,
    kernel_shape: Sequence[int] = (),
) -> Tensor:
    ones = [1] * (x.ndim - 2)
    strides, dilations = strides or ones, dilations or ones
    whole = padded(x, w.shape[2:], strides, dilations, pads, auto_pad)
    y: Tensor = CONV[x.ndim - 3](whole, w, b, strides, 0, dilations, group)
    return y


def conv_transpose(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    strides: Sequence[int] = (),
    dilations: Sequence[int] = (),
    pads: Sequence[int] = (),
    auto_pad: str = "NOTSET",
    output_padding: Sequence[int] = (),
    output_shape: Sequence[int] = (),
    group: int = 1,
    kernel_shape: Sequence[int] = (),
) -> Tensor:
    """Everything that reaches the output, then what the pads, or the shape that is wanted, cut off or add."""
    rank = x.ndim - 2
    ones, none = [1] * rank, [0] * rank
    strides, extra = strides or ones, output_padding or none
    y: Tensor = CONV_TRANSPOSE[rank - 1](x, w, b, strides, 0, none, group, dilations or ones)
    if auto_pad.startswith("SAME"):
        output_shape = [size * stride for size, stride in zip(x.shape[2:], strides, strict=True)]
    if output_shape:
        totals = [y.shape[2 + i] + extra[i] - output_shape[i] for i in range(rank)]
        halves = [total // 2 if auto_pad == "SAME_UPPER" else total - total // 2 for total in totals]
        pads = [*halves, *(total - half for total, half in zip(totals, halves, strict=True))]
    pads = pads or none * 2
    return F.pad(y, [width for i in reversed(range(rank)) for width in (-pads[i], extra[i] - pads[rank + i])])


def causal_conv(
    x: Tensor, w: Tensor, b: Tensor | None = None, past: Tensor | None = None, activation: str = "none"
) -> tuple[Tensor, ...]:
    keep = w.shape[-1] - 1
    whole = F.pad(x, [keep, 0]) if past is None else torch.cat([past, x], -1)
    y = F.conv1d(whole, w, b, groups=x.shape[1])
    return y if activation == "none" else F.silu(y), whole[..., whole.shape[-1] - keep :]


def window_sum(
    x: Tensor, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], ceil_mode: int
) -> Tensor:
    """The sum over every window: a convolution with ones. Windows beyond the end count if asked for."""
    if ceil_mode:
        reach = [(size - 1) * step + 1 for size, step in zip(kernel, dilations, strict=True)]
        beyond = [(reach[i] - size) % strides[i] for i, size in enumerate(x.shape[2:])]
        x = F.pad(x, [width for extra in reversed(beyond) for width in (0, extra)])
    ones = x.new_ones(x.shape[1], 1, *kernel)
    y: Tensor = CONV[len(kernel) - 1](x, ones, None, strides, 0, dilations, x.shape[1])
    return y


def average_pool(
    x: Tensor,
    kernel_shape: Sequence[int],
    strides: Sequence[int] = (),
    dilations: Sequence[int] = (),
    pads: Sequence[int] | None = None,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
) -> Tensor:
    """The sum over a window, divided by how much of it is no padding."""
    ones = [1] * len(kernel_shape)
    strides, dilations = strides or ones, dilations or ones
    whole = padded(x, kernel_shape, strides, dilations, pads, auto_pad)
    inside = padded(torch.ones_like(x), kernel_shape, strides, dilations, pads, auto_pad, float(count_include_pad))
    window = kernel_shape, strides, dilations, ceil_mode
    return window_sum(whole, *window) / window_sum(inside, *window)


def lp_pool(
    x: Tensor,
    kernel_shape: Sequence[int],
    p: int = 2,
    strides: Sequence[int] = (),
    dilations: Sequence[int] = (),
    pads: Sequence[int] | None = None,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
) -> Tensor:
    ones = [1] * len(kernel_shape)
    strides, dilations = strides or ones, dilations or ones
    whole = padded(x.abs() ** p, kernel_shape, strides, dilations, pads, auto_pad)
    return window_sum(whole, kernel_shape, strides, dilations, ceil_mode) ** (1 / p)


def max_pool(
    x: Tensor,
    kernel_shape: Sequence[int],
    strides: Sequence[int] = (),
    dilations: Sequence[int] = (),
    pads: Sequence[int] | None = None,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    storage_order: int = 0,
) -> Tensor:
    ones = [1] * len(kernel_shape)
    strides, dilations = strides or ones, dilations or ones
    whole = padded(x, kernel_shape, strides, dilations, pads, auto_pad, -torch.inf)
    y: Tensor = LARGEST[len(kernel_shape) - 1](whole, kernel_shape, strides, 0, dilations, bool(ceil_mode))
    return y


def max_unpool(
    x: Tensor,
    indices: Tensor,
    shape: Tensor | None = None,
    kernel_shape: Sequence[int] = (),
    strides: Sequence[int] = (),
) -> Tensor:
    size = None if shape is None else shape.tolist()[2:]
    y: Tensor = UNPOOL[len(kernel_shape) - 1](x, indices, kernel_shape, strides or 1, output_size=size)
    return y


def col2im(
    x: Tensor,
    image: Tensor,
    block: Tensor,
    dilations: Sequence[int] = (1, 1),
    pads: Sequence[int] = (0, 0, 0, 0),
    strides: Sequence[int] = (1, 1),
) -> Tensor:
    return F.fold(x, image.tolist(), block.tolist(), dilations, pads[:2], strides)


INTERPOLATED = {"linear": ["linear", "bilinear", "trilinear"], "cubic": ["", "bicubic", ""], "nearest": ["nearest"] * 3}


def resize(
    x: Tensor,
    roi: Tensor | None = None,
    scales: Tensor | None = None,
    sizes: Tensor | None = None,
    mode: str = "nearest",
    coordinate_transformation_mode: str = "half_pixel",
    antialias: int = 0,
    axes: Sequence[int] | None = None,
) -> Tensor:
    """Of the many ways PyTorch has half-pixel and aligned corners, and the nearest in its older and newer form."""
    if coordinate_transformation_mode not in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        raise NotImplementedError(coordinate_transformation_mode)
    along = list(range(x.ndim)) if axes is None else list(axes)
    given = dict(zip(along, (sizes if scales is None else scales).tolist(), strict=True))  # type: ignore[union-attr]
    factors = {i: given.get(i, x.shape[i] if scales is None else 1.0) for i in range(2, x.ndim)}
    align = {} if mode == "nearest" else {"align_corners": coordinate_transformation_mode == "align_corners"}
    return F.interpolate(
        x,
        size=[int(factors[i]) for i in factors] if scales is None else None,
        scale_factor=list(factors.values()) if scales is not None else None,
        mode="nearest-exact" if mode == "nearest" else INTERPOLATED[mode][x.ndim - 3],
        antialias=bool(antialias),
        **align,
    )


def grid_sample(
    x: Tensor, grid: Tensor, mode: str = "linear", padding_mode: str = "zeros", align_corners: int = 0
) -> Tensor:
    spelled = {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)
    return F.grid_sample(x, grid, spelled, padding_mode, bool(align_corners))


def layer_norm(
    x: Tensor, w: Tensor, b: Tensor | None = None, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> tuple[Tensor, ...]:
    axes = list(range(axis % x.ndim, x.ndim))
    variance, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
    return F.layer_norm(x, x.shape[axes[0] :], w, b, epsilon), mean, torch.rsqrt(variance + epsilon)


def rms_norm(x: Tensor, w: Tensor, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1) -> Tensor:
    return F.rms_norm(x, x.shape[axis % x.ndim :], None, epsilon) * w


def mean_variance(x: Tensor, axes: Sequence[int] = (0, 2, 3)) -> Tensor:
    variance, mean = torch.var_mean(x, list(axes), correction=0, keepdim=True)
    return (x - mean) / (variance.sqrt() + 1e-9)


def batch_norm(x: Tensor, w: Tensor, b: Tensor, mean: Tensor, variance: Tensor, epsilon: float = 1e-5) -> Tensor:
    return F.batch_norm(x, mean, variance, w, b, eps=epsilon)


def nll_loss(
    x: Tensor, target: Tensor, weight: Tensor | None = None, reduction: str = "mean", ignore_index: int = -100
) -> Tensor:
    """PyTorch's own has no gradient for the weights."""
    loss = F.nll_loss(x, target, ignore_index=ignore_index, reduction="none")
    counted = x.new_ones(x.shape[1]) if weight is None else weight
    shares = torch.where(target == ignore_index, 0.0, counted[target.clamp(0, len(counted) - 1)])
    total = (shares * loss).sum()
    return {"none": shares * loss, "sum": total, "mean": total / shares.sum()}[reduction]


def cross_entropy(x: Tensor, *others: Tensor, **attributes: Any) -> tuple[Tensor, Tensor]:
    logarithms = F.log_softmax(x, 1)
    return nll_loss(logarithms, *others, **attributes), logarithms


NETWORKS: dict[str, Callable[..., Any]] = {
    "AffineGrid": lambda theta, size, align_corners=0: F.affine_grid(theta, size.tolist(), bool(align_corners)),
    "AveragePool": average_pool,
    "BatchNormalization": batch_norm,
    "CausalConvWithState": causal_conv,
    "Col2Im": col2im,
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "GlobalAveragePool": lambda x: x.mean(tuple(range(2, x.ndim)), True),
    "GlobalLpPool": lambda x, p=2: torch.linalg.vector_norm(x, p, tuple(range(2, x.ndim)), True),
    "GlobalMaxPool": lambda x: x.amax(tuple(range(2, x.ndim)), True),
    "GridSample": grid_sample,
    "GroupNormalization": lambda x, w, b, num_groups, epsilon=1e-5: F.group_norm(x, num_groups, w, b, epsilon),
    "InstanceNormalization": lambda x, w, b, epsilon=1e-5: F.instance_norm(x, weight=w, bias=b, eps=epsilon),
    "LayerNormalization": layer_norm,
    "LRN": lambda x, size, alpha=1e-4, beta=0.75, bias=1.0: F.local_response_norm(x, size, alpha, beta, bias),
    "LpNormalization": lambda x, axis=-1, p=2: F.normalize(x, p, axis),
    "LpPool": lp_pool,
    "MaxPool": max_pool,
    "MaxUnpool": max_unpool,
    "MeanVarianceNormalization": mean_variance,
    "NegativeLogLikelihoodLoss": nll_loss,
    "Resize": resize,
    "RMSNormalization": rms_norm,
    "SoftmaxCrossEntropyLoss": cross_entropy,
    "Upsample": lambda x, scales, mode: F.interpolate(x, scale_factor=scales.tolist()[2:], mode=mode),
}
