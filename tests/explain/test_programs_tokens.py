"""Class activation maps of a vision transformer, against the formula computed by PyTorch at the same layer."""

from __future__ import annotations

import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import explain

GRID, WIDTH, PATCH = 4, 8, 2


class Vit(torch.nn.Module):
    """Patches by a convolution, a class token, two blocks of attention, a head on the class token."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = torch.nn.Conv2d(3, WIDTH, PATCH, stride=PATCH)
        self.token = torch.nn.Parameter(torch.randn(1, 1, WIDTH))
        self.norms = torch.nn.ModuleList(torch.nn.LayerNorm(WIDTH) for _ in range(5))
        self.qkv = torch.nn.ModuleList(torch.nn.Linear(WIDTH, 3 * WIDTH) for _ in range(2))
        self.mlp = torch.nn.ModuleList(torch.nn.Linear(WIDTH, WIDTH) for _ in range(2))
        self.head = torch.nn.Linear(WIDTH, 3)
        self.seen: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.patch(x).flatten(2).transpose(1, 2)
        h = torch.cat([self.token.expand(h.shape[0], -1, -1), h], dim=1)
        for block in range(2):
            normed = self.norms[2 * block](h)
            if block == 1 and not torch.compiler.is_compiling():
                self.seen = normed
            q, k, v = self.qkv[block](normed).chunk(3, dim=-1)
            h = h + torch.softmax(q @ k.transpose(1, 2) / WIDTH**0.5, dim=-1) @ v
            h = h + torch.nn.functional.gelu(self.mlp[block](self.norms[2 * block + 1](h)))
        return self.head(self.norms[4](h)[:, 0])


@pytest.fixture(scope="module")
def vit() -> tuple[Vit, explain.Model]:
    torch.manual_seed(0)
    network = Vit().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = torch.onnx.export(
            network,
            (torch.zeros(2, 3, GRID * PATCH, GRID * PATCH),),
            dynamo=True,
            opset_version=18,
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            input_names=["image"],
            output_names=["scores"],
            verbose=False,
        )
    assert exported is not None
    return network, explain.Model(exported.model_proto)


def run(program: explain.Program, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    onnx.checker.check_model(program.model, full_check=True)
    session = onnxruntime.InferenceSession(program.serialize(), providers=["CPUExecutionProvider"])
    return dict(zip(program.outputs, session.run(list(program.outputs), feeds), strict=True))


def expected(network: Vit, x: np.ndarray, target: int, kind: str) -> np.ndarray:
    scores = network(torch.from_numpy(x).requires_grad_())
    assert network.seen is not None
    (gradient,) = torch.autograd.grad(scores[:, target].sum(), network.seen)
    a, g = (tokens.detach().numpy().transpose(0, 2, 1) for tokens in (network.seen, gradient))
    weights = {"grad_cam": g.mean(axis=2, keepdims=True), "hires_cam": g, "layer_cam": np.maximum(g, 0)}[kind]
    return np.asarray((weights * a).sum(axis=1)[:, 1:].reshape(len(x), GRID, GRID))


@pytest.mark.parametrize("kind", ["grad_cam", "hires_cam", "layer_cam"])
def test_the_map_is_the_grid_of_the_tokens_before_the_last_attention(vit: tuple[Vit, explain.Model], kind: str) -> None:
    network, model = vit
    x = np.random.default_rng(1).standard_normal((3, 3, GRID * PATCH, GRID * PATCH)).astype(np.float32)
    program = explain.compile(model, "activation_map", kind=kind)
    feeds = {"image": x, "target": np.full((3, 1, 1), 2), "target.weight": np.ones((3, 1), np.float32)}
    found = run(program, feeds)
    assert found["map"].shape == (3, GRID, GRID)
    assert explain.attribution_error(found["map"], expected(network, x, 2, kind)) <= 1e-4
    assert explain.attribution_error(found["map"], expected(network, x, 1, kind)) > 1e-2, "the target must matter"


def test_a_layer_that_is_named_is_taken(vit: tuple[Vit, explain.Model]) -> None:
    _, model = vit
    patches = next(node.output[0] for node in model.proto.graph.node if node.op_type == "Conv")
    program = explain.compile(model, "activation_map", layer=patches)
    assert program.options["layer"] == patches


def test_the_network_offers_maps(vit: tuple[Vit, explain.Model]) -> None:
    assert "grad_cam" in explain.coverage(vit[1]).methods
