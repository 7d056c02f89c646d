"""Whole networks as PyTorch exports them: gradients from one compiled graph at several batch and image sizes."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from functools import cache

import numpy as np
import onnx
import pytest
import torch
from torch import nn
from torch.export import Dim

import explain
from tests.explain.single import numbers, session

TOLERANCE = 1e-4


class Residual(nn.Module):
    """Depthwise and pointwise convolutions with batch normalisation, added to what came in."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.pointwise = nn.Conv2d(channels, channels, 1)
        self.norms = nn.ModuleList([nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = nn.functional.silu(self.norms[0](self.depthwise(x)))
        return nn.functional.relu(x + self.norms[1](self.pointwise(y)))


class Pictures(nn.Module):
    """Strided and dilated convolutions, overlapping pooling, branches joined, squeeze and excitation, upsampling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 6, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.residual = Residual(6)
        self.wide = nn.Conv2d(6, 4, 3, padding=2, dilation=2)
        self.groups = nn.GroupNorm(2, 4)
        self.squeeze, self.excite = nn.Conv2d(10, 3, 1), nn.Conv2d(3, 10, 1)
        self.up = nn.ConvTranspose2d(10, 5, 2, stride=2)
        self.head = nn.Linear(5, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        f = nn.functional
        a = self.residual(f.max_pool2d(f.hardswish(self.norm(self.stem(x))), 3, 2, 1))
        b = f.avg_pool2d(f.gelu(self.groups(self.wide(a))), 3, 1, 1)
        c = torch.cat([a, f.leaky_relu(b, 0.1)], 1)
        gate = torch.sigmoid(self.excite(f.relu6(self.squeeze(f.adaptive_avg_pool2d(c, 1)))))
        d = f.elu(self.up(c * gate))
        return self.head(f.interpolate(d, scale_factor=2, mode="bilinear").mean((2, 3)))


class Rows(nn.Module):
    """A tabular network: normalised layers, a residual, gating, and its own standardisation of the inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(6, 16), nn.Linear(16, 16), nn.Linear(16, 3)
        self.batch, self.layer, self.slope = nn.BatchNorm1d(16), nn.LayerNorm(16), nn.PReLU()
        self.register_buffer("mean", torch.linspace(-1, 1, 6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        f = nn.functional
        a = f.mish(self.batch(self.first((x - self.mean) / 2)))
        b = self.layer(a + self.slope(self.second(a)))
        left, right = b.chunk(2, 1)
        c = torch.cat([left * torch.tanh(right), f.softplus(right)], 1)
        return f.log_softmax(self.last(torch.where(c > 0.5, c * c, c.abs().sqrt() + 0.1)), -1)


class Words(nn.Module):
    """One block of a transformer over embedded tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.position = nn.Embedding(11, 8), nn.Parameter(torch.randn(1, 5, 8))
        self.block = nn.TransformerEncoderLayer(
            8, 2, 16, activation="gelu", batch_first=True, norm_first=True, dropout=0
        )
        self.head = nn.Linear(8, 3)

    def encoded(self, e: torch.Tensor) -> torch.Tensor:
        """From the embeddings on."""
        return self.head(self.block(e + self.position).mean(1))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.encoded(self.embedding(tokens))


@cache
def trained(make: Callable[[], nn.Module]) -> nn.Module:
    """In evaluation mode, with statistics and scales that are not those of the start."""
    torch.manual_seed(0)
    module = make()
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        if value.is_floating_point() and ("norm" in name or "batch" in name or "layer" in name):
            value.data.uniform_(0.5, 1.5)
    return module.eval()


def exported(module: nn.Module, example: torch.Tensor, dynamic: dict[int, Dim]) -> onnx.ModelProto:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the exporter says of its own parts
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            opset_version=18,
            verbose=False,
            dynamic_shapes=(dynamic,),
            input_names=["x"],
            output_names=["y"],
        )
        program.save(buffer)
    return onnx.load_model_from_string(buffer.getvalue())


def errors(found: np.ndarray, expected: np.ndarray) -> float:
    """Of the worst item, relative to its gradient."""
    return float(explain.gradient_error(found, expected).max())


def compare(module: nn.Module, proto: onnx.ModelProto, sizes: list[tuple[int, ...]]) -> list[float]:
    """Gradient errors of one compiled graph against PyTorch in float64, per size."""
    program = explain.compile(proto, "vjp")
    onnx.checker.check_model(program.model, full_check=True)
    runtime, worst, double = session(program.model), [], module.double()
    for shape in sizes:
        x = torch.tensor(numbers(*shape), requires_grad=True)
        y = double(x)
        cotangent = numbers(*y.shape, seed=5)
        (y * torch.as_tensor(cotangent)).sum().backward()
        feeds = {"x": x.detach().numpy().astype(np.float32), "y.cotangent": cotangent.astype(np.float32)}
        gradient, forward = runtime.run(["x.gradient", "y"], feeds)
        np.testing.assert_allclose(forward, y.detach().numpy(), atol=1e-4, rtol=1e-4)
        worst.append(errors(gradient, x.grad.numpy()))
    module.float()
    return worst


NETWORKS = {
    "pictures": (
        Pictures,
        (2, 2, 32, 24),
        {0: Dim("n"), 2: 8 * Dim("h"), 3: 8 * Dim("w")},
        [(1, 2, 32, 24), (7, 2, 32, 24), (1, 2, 16, 40), (7, 2, 48, 16)],
    ),
    "rows": (Rows, (2, 6), {0: Dim("n")}, [(1, 6), (7, 6)]),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_of_a_network_at_every_size_from_one_graph(name: str) -> None:
    make, shape, dynamic, sizes = NETWORKS[name]
    module = trained(make)
    proto = exported(module, torch.as_tensor(numbers(*shape), dtype=torch.float32), dynamic)
    assert max(compare(module, proto, sizes)) <= TOLERANCE


def test_a_network_with_other_weights_is_told_apart() -> None:
    module = trained(Rows)
    proto = exported(module, torch.zeros(2, 6), {0: Dim("n")})
    other = Rows().eval()
    other.load_state_dict({name: value * 1.01 for name, value in module.state_dict().items()})
    with pytest.raises(AssertionError):
        assert max(compare(other, proto, [(3, 6)])) <= TOLERANCE


def walked(
    module: Words, x: np.ndarray, baseline: np.ndarray, alpha: np.ndarray, weight: np.ndarray, target: int
) -> np.ndarray:
    """sum over k and the width of the embedding: weight_k (e(x) - e(b)) grad at e(b) + alpha_k (e(x) - e(b))."""
    start, end = (module.embedding(torch.as_tensor(ids)).detach() for ids in (baseline, x))
    total = torch.zeros(x.shape)
    for a, w in zip(alpha, weight, strict=True):
        point = (start + a * (end - start)).requires_grad_()
        module.encoded(point)[:, target].sum().backward()
        total += w * ((end - start) * point.grad).sum(-1)
    return total.numpy()


def test_attributions_of_tokens_are_summed_over_their_embedding() -> None:
    module = trained(Words)
    rng = np.random.default_rng(0)
    x, baseline = rng.integers(0, 11, (3, 5)), rng.integers(0, 11, (3, 5))
    proto = exported(module, torch.as_tensor(x[:2]), {0: Dim("n")})
    program = explain.compile(proto, "path_gradient")
    onnx.checker.check_model(program.model, full_check=True)
    alpha, weight = np.array([0.1, 0.4, 0.8], np.float32), np.array([0.2, 0.5, 0.3], np.float32)
    for rows in (slice(0, 1), slice(0, 3)):
        n = len(x[rows])
        feeds = {
            "x": x[rows],
            "x.baseline": baseline[rows, None],
            "alpha": np.tile(alpha, (n, 1)),
            "weight": np.tile(weight[:, None], (n, 1, 1)),
            "target": np.full((n, 1, 1), 2),
            "target.weight": np.ones((n, 1), np.float32),
        }
        found = session(program.model).run(["x.attribution"], feeds)[0]
        expected = walked(module, x[rows], baseline[rows], alpha, weight, 2)
        assert found.shape == (n, 1, 5)
        assert explain.attribution_error(found[:, 0], expected) <= TOLERANCE
