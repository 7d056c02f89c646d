"""Reports over a data set: ranks, distributions, randomised models, the randomisation test, imputed pixels."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import onnx
import pytest
from scipy.stats import spearmanr

import explain
from explain.evaluation import imputing, over_rows
from explain.evaluation.imputing import impute
from explain.evaluation.units import unit_factors
from tests.explain.graphs import Nodes, attribute, cnn, made, mlp, numbers, run, serve

X = numbers(12, 4, seed=160)


def pictures(count: int) -> np.ndarray:
    """Blobs [N, 1, 12, 12] on black."""
    y, x = np.mgrid[:12, :12]
    centres = 6 + 2 * numbers(count, 2, seed=161)
    blobs = [np.exp(-((y - a) ** 2 + (x - b) ** 2) / 6) for a, b in centres]
    return np.stack(blobs)[:, None].astype(np.float32) * (np.stack(blobs)[:, None] > 0.05)


def deep_cnn(channels: int = 16) -> onnx.ModelProto:
    """Three convolutions with many channels, as guided backpropagation needs to show what is wrong with it."""
    wide = 1 / (3 * np.sqrt(channels))
    weights = {
        "k1": numbers(channels, 1, 3, 3, seed=1, scale=1 / 3),
        "c1": numbers(channels, seed=2, scale=0.1),
        "k2": numbers(channels, channels, 3, 3, seed=3, scale=wide),
        "k3": numbers(channels, channels, 3, 3, seed=4, scale=wide),
        "v": numbers(channels * 16, 4, seed=5),
    }
    nodes: Nodes = [
        ("Conv", ["image", "k1", "c1"], ["a"], {"pads": [1, 1, 1, 1]}),
        ("Relu", ["a"], ["ra"]),
        ("Conv", ["ra", "k2"], ["b"], {"pads": [1, 1, 1, 1]}),
        ("Relu", ["b"], ["rb"]),
        ("MaxPool", ["rb"], ["p"], {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("Conv", ["p", "k3"], ["c"]),
        ("Relu", ["c"], ["rc"]),
        ("Flatten", ["rc"], ["f"]),
        ("MatMul", ["f", "v"], ["z"]),
    ]
    return made(nodes, {"image": ("float32", ["n", 1, 12, 12])}, {"z": ("float32", ["n", 4])}, weights)


def test_rank_correlation_is_scipys() -> None:
    for seed in range(20):
        one, other = (np.round(numbers(15, seed=s, scale=2)).astype(float) for s in (seed, seed + 100))
        assert explain.spearman(one, other) == pytest.approx(spearmanr(one, other).statistic, abs=1e-12)
    assert explain.spearman(np.arange(5), np.arange(5) ** 3) == pytest.approx(1.0)
    for undefined in (np.ones(5), np.array([1, 2, np.nan, 3, 4])):
        assert np.isnan(explain.spearman(undefined, np.arange(5)))


def test_distributions_name_the_worst_row() -> None:
    found = explain.Distribution.of([3.0, None, -1.0, np.nan, 7.0, 2.0])
    assert (found.rows, found.undefined, found.worst, found.worst_row) == (6, 2, 7.0, 4)
    quartiles = np.percentile([3, -1, 7, 2], [25, 50, 75])
    assert [found.lower_quartile, found.median, found.upper_quartile] == quartiles.tolist()
    smallest = explain.Distribution.of([3.0, None, -1.0], worst="smallest")
    assert (smallest.worst, smallest.worst_row) == (-1.0, 2)
    assert explain.Distribution.of([None]).to_dict()["median"] is None


def test_layers_are_found_from_the_output_down() -> None:
    assert [(layer.op, layer.constants) for layer in explain.weight_layers(mlp("Softmax"))] == [
        ("Gemm", ("w2", "b2")),
        ("MatMul", ("w1", "b1")),
    ]
    assert [layer.constants for layer in explain.weight_layers(cnn())] == [("v",), ("k2",), ("k1", "c1")]


def test_constants_that_are_no_weights_stay() -> None:
    """Preprocessing, a normalisation, an embedding, a weight behind a Transpose, and one that two layers share."""
    nodes: Nodes = [
        ("Sub", ["x", "mean"], ["c"]),
        ("Mul", ["c", "factor"], ["s"]),
        ("Transpose", ["w"], ["wt"]),
        ("MatMul", ["s", "wt"], ["h"]),
        ("BatchNormalization", ["h", "scale", "shift", "average", "variance"], ["n"]),
        ("MatMul", ["n", "wt"], ["h2"]),
        ("Gather", ["table", "code"], ["e"]),
        ("Add", ["h2", "e"], ["y"]),
    ]
    weights = {"mean": numbers(4), "factor": np.array([2.0], np.float32), "w": numbers(4, 4, seed=1)}
    norms = {name: numbers(4, seed=i) for i, name in enumerate(("scale", "shift", "average"))}
    weights |= norms | {"variance": np.array([1, 2, 3, 4], np.float32), "table": numbers(5, 4, seed=7)}
    inputs: Any = {"x": ("float32", ["n", 4]), "code": ("int64", ["n"])}
    model = made(nodes, inputs, {"y": ("float32", ["n", 4])}, weights)
    layers = explain.weight_layers(model)
    assert [layer.op for layer in layers] == ["Gather", "MatMul", "BatchNormalization"]
    ((name, copy),) = explain.randomised(model, 4)
    assert name == "all"
    found = {t.name: onnx.numpy_helper.to_array(t) for t in copy.prepared.graph.initializer}
    assert {key for key in weights if not np.array_equal(found[key], weights[key])} >= {"w", "table", "scale"}
    for key in ("mean", "factor"):
        np.testing.assert_array_equal(found[key], weights[key])
    for key in (*norms, "variance"):
        np.testing.assert_array_equal(np.sort(found[key]), np.sort(weights[key]))
    assert serve(copy.proto, {"x": X, "code": np.ones(12, np.int64)})["y"].shape == (12, 4)


def test_draws_have_the_weights_spread_and_depend_on_seed_and_name_alone() -> None:
    def weights(model: explain.Model) -> dict[str, np.ndarray]:
        return {t.name: onnx.numpy_helper.to_array(t) for t in model.prepared.graph.initializer}

    whole, again, other = (dict(explain.randomised(deep_cnn(), seed))["all"] for seed in (1, 1, 2))
    for name, array in weights(explain.Model(deep_cnn())).items():
        drawn = weights(whole)[name]
        assert (drawn.shape, drawn.dtype) == (array.shape, array.dtype)
        np.testing.assert_array_equal(drawn, weights(again)[name])
        assert not np.array_equal(drawn, weights(other)[name])
        if array.size > 1000:
            assert drawn.std() == pytest.approx(array.std(), rel=0.1)
            assert abs(explain.spearman(drawn, array)) < 0.1
    cascade = list(explain.randomised(deep_cnn(), 1, "cascading"))
    single = list(explain.randomised(deep_cnn(), 1, "independent"))
    own = weights(explain.Model(deep_cnn()))
    for order, copies in (("cascading", cascade), ("independent", single)):
        changed = [sorted(n for n, a in weights(m).items() if not np.array_equal(a, own[n])) for _, m in copies]
        layers = [["v"], ["k3"], ["k2"], ["c1", "k1"]]
        sums = [sorted(name for layer in layers[: place + 1] for name in layer) for place in range(4)]
        assert changed == (sums if order == "cascading" else layers)
    np.testing.assert_array_equal(weights(cascade[-1][1])["k1"], weights(whole)["k1"])


def test_a_model_without_weights_cannot_be_judged() -> None:
    nodes: Nodes = [("ReduceSum", ["x", "axes"], ["y"])]
    model = made(nodes, {"x": ("float32", ["n", 4])}, {"y": ("float32", ["n", 1])}, {"axes": np.array([1])})
    with pytest.raises(explain.MethodUnavailable, match="the model has no weights to randomise"):
        explain.mprt(model, {"x": X}, method="saliency", run=run)
    with pytest.raises(explain.InvalidParameter, match="draws: came 0, expected a whole number of at least 1"):
        explain.mprt(mlp(), {"x": X}, method="saliency", run=run, draws=0)
    with pytest.raises(explain.InvalidParameter, match="layers: came 'top', expected one of all, cascading"):
        explain.mprt(mlp(), {"x": X}, method="saliency", run=run, layers="top", target=0)  # type: ignore[arg-type]


@pytest.mark.parametrize(("method", "options"), [("saliency", {}), ("smooth_grad", {"n_samples": 4})])
def test_the_randomisation_test_compares_with_the_target_held(method: str, options: dict[str, Any]) -> None:
    """By hand: the same copies, the original's classes, noise of each copy's own, scipy's correlation."""
    found = explain.mprt(mlp("Softmax"), {"x": X}, method=method, run=run, draws=2, seed=5, **options)
    own = attribute(mlp("Softmax"), {"x": X}, method, seed=5, **options)
    classes = serve(mlp("Softmax"), {"x": X})["y"].argmax(axis=1)
    for place, seed in enumerate((5, 6)):
        copy = dict(explain.randomised(mlp("Softmax"), seed))["all"]
        assert (serve(copy.proto, {"x": X})["y"].argmax(axis=1) != classes).any()
        other = attribute(copy, {"x": X}, method, target=classes.tolist(), seed=seed + 1, **options)
        for item in range(12):
            expected = spearmanr(*(np.abs(each.values["x"][item]) for each in (own, other))).statistic
            assert found.correlation["absolute"][0, place, item] == pytest.approx(expected, abs=1e-9)
    assert found.seeds == (5, 6)
    assert found.to_dict()["layers"][0]["absolute"]["rows"] == 12


def test_guided_backpropagation_survives_random_weights_where_the_gradient_falls() -> None:
    """Trap: the network above the first layers may be anything, and guided backpropagation draws the same picture."""
    medians = {}
    for method in ("saliency", "guided_backprop"):
        found = explain.mprt(deep_cnn(), {"image": pictures(8)}, method=method, run=run, layers="cascading")
        medians[method] = found.medians("absolute")
        assert found.layers[0] == "z"
    assert max(m for m in medians["saliency"] if m is not None) < 0.3
    assert medians["guided_backprop"][0] > 0.5
    assert medians["guided_backprop"][1] > 0.5


def test_black_and_units_do_not_pass_for_an_explanation() -> None:
    """Contributions of black pixels are 0 by any weights, and slopes are steep where numbers are small."""
    black = {"image": pictures(8)}
    shares = explain.mprt(deep_cnn(), black, method="integrated_gradients", run=run, baseline=0.0)
    assert shares.medians("absolute")[0] > 0.7
    assert shares.medians()[0] < 0.3
    nodes: Nodes = [("Mul", ["x", "factor"], ["s"]), ("MatMul", ["s", "w"], ["h"]), ("Tanh", ["h"], ["t"])]
    nodes = [*nodes, ("MatMul", ["t", "v"], ["y"])]
    scale = np.logspace(-3, 3, 10).astype(np.float32)
    weights = {"factor": 1 / scale, "w": numbers(10, 8, seed=1), "v": numbers(8, 2, seed=2)}
    model = made(nodes, {"x": ("float32", ["n", 10])}, {"y": ("float32", ["n", 2])}, weights)
    rows = scale * numbers(12, 10, seed=3)
    slopes = explain.mprt(model, {"x": rows}, method="saliency", run=run, draws=5)
    assert slopes.kind == "per_unit"
    assert slopes.medians("absolute")[0] > 0.8
    assert abs(slopes.medians()[0]) < 0.5
    maps = explain.mprt(deep_cnn(), black, method="grad_cam", run=run)
    assert maps.kind == "absolute"


class Found:
    """As much of an attribution as its scale is read from."""

    def __init__(self, **values: np.ndarray) -> None:
        self.values = values


def test_codes_are_scaled_by_how_many_of_the_reference_have_another() -> None:
    """A code that the whole reference has contributes nothing by any weights, and says nothing of them."""
    codes = np.array([[0, 1, 2], [3, 1, 0]])
    rows = np.array([[0, 1, 0], [0, 1, 1], [3, 1, 2], [0, 1, 2]])
    found: Any = Found(codes=codes.astype(float))
    contribution = explain.METHODS["deep_shap"]
    factors = unit_factors(contribution, found, {"codes": codes}, None, {"codes": rows})
    np.testing.assert_allclose(factors, [[4 / 1, np.nan, 4 / 2], [4 / 3, np.nan, 4 / 3]])
    start = unit_factors(contribution, found, {"codes": codes}, {"codes": np.array([[0, 1, 1]])}, None)
    np.testing.assert_array_equal(start, [[np.nan, np.nan, 1], [1, np.nan, 1]])
    own = unit_factors(contribution, found, {"codes": codes}, {"codes": np.array([[0, 0, 2], [3, 0, 0]])}, None)
    np.testing.assert_array_equal(own, [[np.nan, 1, np.nan], [np.nan, 1, np.nan]])
    numbers_too: Any = Found(x=np.ones((2, 1)), codes=codes.astype(float))
    slopes = unit_factors(
        explain.METHODS["saliency"], numbers_too, {"x": np.array([[1.0], [5.0]]), "codes": codes}, None, None
    )
    np.testing.assert_array_equal(slopes, [[2.0, *[np.nan] * 3], [2.0, *[np.nan] * 3]])


def test_imputed_pixels_solve_their_equations() -> None:
    """Every removed pixel is the weighted mean of its neighbours: a dense solve says the same."""
    image, gone = numbers(2, 6, 7, seed=170).astype(float), np.random.default_rng(1).random((6, 7)) < 0.5
    found = impute(image, gone)
    np.testing.assert_array_equal(found[:, ~gone], image[:, ~gone])
    size = gone.size
    matrix, places = np.zeros((size, size)), np.arange(size).reshape(6, 7)
    for y in range(6):
        for x in range(7):
            for dy, dx, weight in imputing.SHIFTS:
                if 0 <= y + dy < 6 and 0 <= x + dx < 7:
                    matrix[places[y, x], places[y + dy, x + dx]] = weight
    matrix /= matrix.sum(axis=1, keepdims=True)
    hole = gone.reshape(-1)
    for channel in range(2):
        known = np.where(hole, 0, image[channel].reshape(-1))
        inner = np.eye(int(hole.sum())) - matrix[np.ix_(hole, hole)]
        expected = np.linalg.solve(inner, (matrix @ known)[hole])
        np.testing.assert_allclose(found[channel].reshape(-1)[hole], expected, atol=1e-4)
    flat = impute(np.full((1, 5, 5), 3.0), np.arange(25).reshape(5, 5) % 2 == 0)
    np.testing.assert_allclose(flat, 3.0, atol=1e-4)
    np.testing.assert_allclose(impute(image, np.ones((6, 7), bool)), image.mean(axis=(1, 2), keepdims=True) + 0 * image)
    noisy = impute(image, gone, np.ones(image.shape))
    np.testing.assert_allclose(noisy - found, np.broadcast_to(gone, image.shape).astype(float), atol=1e-12)


def test_flipping_follows_both_orders() -> None:
    images = pictures(6)
    found = explain.road(deep_cnn(), {"image": images}, method="integrated_gradients", run=run, baseline=0.0, noise=0.0)
    own = attribute(deep_cnn(), {"image": images}, "integrated_gradients", baseline=0.0)
    for order, direction in (("morf", 1), ("lerf", -1)):
        np.testing.assert_allclose(found.curves[order][:, 0], own.explained_value, rtol=1e-4)
        ranked = np.argsort(-own.values["image"].reshape(6, -1), axis=1, kind="stable")[:, ::direction]
        for item in range(6):
            gone = np.isin(np.arange(144), ranked[item, : round(0.3 * 144)]).reshape(12, 12)
            image = impute(images[item], gone)[None].astype(np.float32)
            expected = serve(deep_cnn(), {"image": image})["z"][0, own.target.index[item, 0, 0]]
            assert found.curves[order][item, 3] == pytest.approx(expected, rel=1e-3, abs=1e-3)
    gap = found.distributions["gap"]
    assert gap.median is not None
    assert gap.median > 0
    lengths = np.trapezoid(found.curves["morf"], found.fractions, axis=1) / 0.9
    np.testing.assert_allclose(found.areas["morf"], lengths)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"fractions": [0.0, 0.5, 0.4]}, "fractions: came [0.0, 0.5, 0.4], expected at least two from 0 to 1"),
        ({}, "pixels are flipped in pictures [N, C, H, W]"),
    ],
)
def test_what_cannot_be_flipped_is_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises((explain.InvalidParameter, explain.MethodUnavailable), match=re.escape(sentence)):
        explain.road(mlp(), {"x": X}, method="saliency", run=run, target=0, **options)


def test_an_evaluation_is_the_distribution_of_each_rows_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = {"deletion_insertion": {"steps": 2}, "local_lipschitz": {"n_samples": 3}}
    targets = [0, 1, 2] * 4
    options: dict[str, Any] = {"method": "integrated_gradients", "run": run, "checks": checks, "baseline": 0.0}
    found = explain.evaluate(mlp("Softmax"), {"x": X}, target=targets, **options)
    quality = explain.attribute(mlp("Softmax"), {"x": X}, target=targets, **options).quality
    assert found.rows == 12
    assert "standard_error" not in found.figures
    for name, figure in found.figures.items():
        values = [entry[name] for entry in quality]
        assert figure.median == pytest.approx(np.median(values))
        assert figure.worst == (min(values) if name.startswith("insertion") else max(values))
        assert values[figure.worst_row or 0] == figure.worst
    monkeypatch.setattr(over_rows, "TOGETHER", 5)
    parts = explain.evaluate(mlp("Softmax"), {"x": X}, target=targets, **options)
    for name, figure in parts.figures.items():
        assert figure.median == pytest.approx(found.figures[name].median, rel=1e-4, abs=1e-6)
    assert parts.to_dict()["checks"]["local_lipschitz"]["n_samples"] == 3
