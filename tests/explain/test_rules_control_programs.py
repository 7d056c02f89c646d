"""Programs and methods on models with control flow: against PyTorch, and against the same model unrolled."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import explain
from tests.explain.control import check_against, parsed
from tests.explain.graphs import agree, attribute, numbers, run, serve, slow_path, tensor
from tests.explain.test_programs_path import plan

W = numbers(4, 4, seed=61, scale=0.5)

# Names inside of nodes that programs use themselves, that the graph around them has, and that both bodies have.
CLASHES = """
g (float[n, t, 4] x) => (float[n, 3] y) {
    start = Constant <value_ints = [1]> ()
    value = ReduceMean <keepdims = 0> (x, start)
    b = Relu (value)
    h = Scan <num_scan_inputs = 1, scan_input_axes = [1], body = step
        (float[n, 4] s, float[n, 4] alpha) => (float[n, 4] target) {
            a = MatMul (s, w)
            h = Add (a, alpha)
            target = Tanh (h)
        }> (b, x)
    k = Loop <body = step (int64 i, bool go, float[n, 4] s) => (bool on, float[n, 4] target) {
            alpha = Mul (s, b)
            c = Constant <value_float = 0.5> ()
            a = Mul (alpha, c)
            target = Sin (a)
            on = Identity (go)
        }> (twice, , h)
    y = MatMul (k, v)
}
"""
HELD = {"w": W, "v": numbers(4, 3, seed=62), "twice": np.array(2)}


def clashes(x: torch.Tensor) -> torch.Tensor:
    b = h = torch.relu(x.mean(1))
    for part in x.unbind(1):
        h = torch.tanh(h @ tensor(W) + part)
    for _ in range(2):
        h = torch.sin(h * b / 2)
    return h @ tensor(HELD["v"])


def test_names_inside_are_names_inside() -> None:
    model = parsed(CLASHES, HELD)
    check_against(model, clashes, {"x": numbers(3, 5, 4, seed=63)})
    x = {"x": numbers(3, 5, 4, seed=64)}
    feeds = plan(x, (3,), 1)
    agree(run(explain.compile(model, "path_gradient"), feeds), slow_path(clashes, x, feeds))


def test_guided_backpropagation_reaches_inside() -> None:
    """A Relu in a Loop passes what is positive in both directions only."""
    text = """
    g (float[n, 4] x) => (float[n, 4] y) {
        y = Loop <body = step (int64 i, bool go, float[n, 4] s) => (bool on, float[n, 4] t) {
                r = Relu (s)
                t = MatMul (r, w)
                on = Identity (go)
            }> (two, , x)
    }
    """
    x = numbers(2, 4, seed=65)
    program = explain.compile(parsed(text, {"w": W, "two": np.array(2)}), "path_gradient", rules="guided")
    one = np.ones((2, 1), np.float32)
    feeds = {"x": x, "x.baseline": 0 * x[:, None], "alpha": one, "weight": one[:, None]}
    target = {"target": np.zeros((2, 1, 1), np.int64), "target.weight": one}
    found = run(program, feeds | target)["x.gradient"][:, 0]
    between = np.maximum(x, 0) @ W
    grad = np.eye(4, dtype=np.float32)[[0, 0]]
    for at in (between, x):
        grad = np.maximum(grad @ W.T, 0) * (at > 0)
    np.testing.assert_allclose(found, grad, atol=1e-6)


PICTURES = """
g (float[n, 1, 6, 6] x) => (float[n, 2] y) {
    a = Conv <pads = [1, 1, 1, 1]> (x, kernel)
    b = Relu (a)
    m = GlobalAveragePool (b)
    f = Flatten (m)
    STEPS
    y = MatMul (l, v)
}
"""
LOOPED = """l = Loop <body = step (int64 i, bool go, float[n, 3] s) => (bool on, float[n, 3] t) {
                u = Mul (s, f)
                t = Tanh (u)
                on = Identity (go)
            }> (two, , f)"""
UNROLLED = "p = Mul (f, f) q = Tanh (p) r = Mul (q, f) l = Tanh (r)"
WEIGHTS = {"kernel": numbers(3, 1, 3, 3, seed=66), "v": numbers(3, 2, seed=67), "two": np.array(2)}


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("saliency", {}),
        ("integrated_gradients", {}),
        ("integrated_gradients", {"rule": "adaptive"}),
        ("grad_cam", {}),
        ("smooth_grad", {"n_samples": 4, "seed": 1}),
        ("gradient_shap", {"n_samples": 4, "seed": 1}),
        ("permutation_shap", {"n_permutations": 2, "seed": 1}),
    ],
)
def test_methods_on_a_loop_are_those_of_its_steps(method: str, options: dict[str, object]) -> None:
    x, found = numbers(2, 1, 6, 6, seed=68), []
    options = dict(options)
    seed = {"seed": options.pop("seed")} if "seed" in options else {}
    needs = explain.METHODS[method].needs
    if "baseline" in needs:
        seed["baseline"] = {"x": np.zeros((1, 1, 6, 6), np.float32)}
    if needs & {"background", "reference"}:
        seed["background"] = {"x": numbers(3, 1, 6, 6, seed=69)}
    for steps in (LOOPED, UNROLLED):
        text = PICTURES.replace("STEPS", steps)
        model = parsed(text, {k: a for k, a in WEIGHTS.items() if k != "two" or steps is LOOPED})
        assert serve(model, {"x": x})["y"].shape == (2, 2)
        found.append(attribute(model, {"x": x}, method, target=1, **options, **seed).values["x"])
    assert np.abs(found[1]).max() > 1e-4
    tolerance = 1e-2 if options.get("rule") else 1e-4  # kinks are looked for in the one, and averaged in the other
    assert explain.attribution_error(found[0], found[1]) <= tolerance


@pytest.mark.parametrize("method", ["deeplift", "deep_shap"])
def test_slopes_between_two_points_are_refused_by_name(method: str) -> None:
    model = explain.Model(parsed(PICTURES.replace("STEPS", LOOPED), WEIGHTS))
    sentence = "operator Loop (node 'l', opset 18): slopes between two points do not pass the graphs inside of it"
    assert explain.coverage(model).refused[method].startswith(sentence)
    with pytest.raises(explain.UnsupportedOperator, match="slopes between two points do not pass"):
        explain.compile(model, "deeplift")
    with pytest.raises(explain.UnsupportedOperator, match="slopes between two points do not pass"):
        explain.compile(model, "path_secant")
    assert "integrated_gradients" in explain.coverage(model).methods
