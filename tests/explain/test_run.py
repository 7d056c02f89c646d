"""A run hands out chunks and takes outputs; answers say what was explained, and the forward gap is real."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import explain
from explain.plans import base as plans
from tests.explain.graphs import Nodes, attribute, cnn, made, mlp, mlp_twin, numbers, run, serve, tensor

X, BACKGROUND = numbers(3, 4, seed=140), numbers(2, 4, seed=141)


def steps(running: explain.Run) -> list[str]:
    """Run to the end; the names of the programs that were asked for."""
    names = []
    while (step := running.chunk()) is not None:
        names.append(step[0].name)
        running.update(run(*step))
    return names


def test_the_order_of_a_run() -> None:
    """The model, the check of the forward value, the plan; without the first where the outputs are known."""
    model = explain.Model(mlp("Softmax"))
    assert steps(explain.begin(model, {"x": X}, method="saliency")) == ["forward", "masked_forward", "path_gradient"]
    outputs = serve(model.proto, {"x": X})
    known = explain.begin(model, {"x": X}, method="saliency", outputs=outputs)
    assert steps(known) == ["masked_forward", "path_gradient"]
    assert steps(explain.begin(mlp(), {"x": X}, method="saliency", target=0)) == ["forward", "path_gradient"]


def test_a_run_is_used_in_order() -> None:
    running = explain.begin(mlp("Softmax"), {"x": X}, method="saliency")
    with pytest.raises(explain.ExplainError, match="no chunk is waiting for outputs"):
        running.update({})
    step = running.chunk()
    assert step is not None
    with pytest.raises(explain.ExplainError, match="the outputs of the last chunk have not been given"):
        running.chunk()
    with pytest.raises(explain.ExplainError, match="the outputs of program 'forward' lack 'y'"):
        running.update({})
    running.update(run(*step))
    with pytest.raises(explain.ExplainError, match="the explanation is not finished"):
        running.result()
    steps(running)
    assert running.chunk() is None
    assert running.result().method == "saliency"


def test_no_result_before_the_last_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "ROWS_PER_RUN", 10)
    running = explain.begin(mlp(), {"x": X}, method="integrated_gradients", baseline=0, n_steps=40, target=0)
    done = 0
    while (step := running.chunk()) is not None:
        with pytest.raises(explain.ExplainError, match="not finished"):
            running.result()
        running.update(run(*step))
        done += 1
    assert done == 1 + 3 * 5
    assert len(running.result().quality) == 3


@pytest.mark.parametrize("link", ["Softmax", "Sigmoid"])
@pytest.mark.parametrize("space", ["logit", "probability", "output"])
def test_what_is_explained_is_named(link: str, space: str) -> None:
    found = attribute(mlp(link), {"x": X}, "exact_shap", background=BACKGROUND, space=space, target=1)
    z = mlp_twin(tensor(X))
    y = {"Softmax": z.softmax(dim=1), "Sigmoid": z.sigmoid()}[link]
    np.testing.assert_allclose(found.explained_value, (z if space == "logit" else y)[:, 1], rtol=1e-4)
    named = {"logit": ("logit of y", "logit"), "probability": ("probability of y", "probability")}
    assert (found.explained_name, found.units) == named.get(space, ("y", "output units"))
    assert found.values["x"].dtype == np.float64
    assert found.values["x"].shape == (3, 4)


def test_a_regression_has_its_own_units() -> None:
    nodes: Nodes = [("MatMul", ["x", "w"], ["price"])]
    model = made(nodes, {"x": ("float32", ["n", 4])}, {"price": ("float32", ["n", 1])}, {"w": numbers(4, 1)})
    found = attribute(model, {"x": X}, "exact_shap", background=BACKGROUND)
    assert (found.explained_name, found.units) == ("price", "output units")
    np.testing.assert_allclose(found.explained_value, (X @ numbers(4, 1))[:, 0], rtol=1e-5, atol=1e-6)


def test_an_output_is_chosen() -> None:
    nodes: Nodes = [("Exp", ["x"], ["first"]), ("Neg", ["x"], ["second"]), ("ArgMax", ["x"], ["label"], {"axis": 1})]
    specs: Any = {"first": ("float32", ["n", 4]), "second": ("float32", ["n", 4]), "label": ("int64", ["n", 1])}
    model = made(nodes, {"x": ("float32", ["n", 4])}, specs)
    found = attribute(model, {"x": X}, "saliency", output="second", target=2, absolute=False)
    np.testing.assert_array_equal(found.values["x"], [[0, 0, -1, 0]] * 3)
    assert found.explained_name == "second"
    assert attribute(model, {"x": X}, "saliency", target=0).explained_name == "first"
    with pytest.raises(explain.InvalidParameter, match="output: came 'label', expected one of first, second"):
        attribute(model, {"x": X}, "saliency", output="label")


def test_the_answer_repeats_everything_it_was_made_with() -> None:
    found = attribute(mlp("Softmax"), {"x": X}, "integrated_gradients", baseline=0.25, seed=9, n_steps=5)
    defaults = {"rule": "gauss_legendre", "tolerance": 0.01, "max_evals": 512, "budget_ms": None}
    assert found.parameters == {"n_steps": 5, **defaults}
    assert (found.method, found.seed, found.background_digest, found.group_names) == (
        "integrated_gradients",
        9,
        None,
        None,
    )
    program = explain.compile(mlp("Softmax"), "path_gradient", output="y", space="logit")
    assert found.program_digest == program.digest
    again = attribute(mlp("Softmax"), {"x": X}, "integrated_gradients", baseline=0.5, n_steps=5)
    assert again.baseline_digest != found.baseline_digest
    shap = attribute(mlp("Softmax"), {"x": X}, "exact_shap", background=BACKGROUND)
    assert shap.background_digest is not None
    assert shap.baseline_digest is None


@pytest.mark.parametrize("space", ["logit", "probability"])
@pytest.mark.parametrize("link", ["Softmax", "Sigmoid"])
def test_the_forward_gap_is_small_and_shows_a_model_that_answers_otherwise(link: str, space: str) -> None:
    model = mlp(link)
    served = serve(model, {"x": X})
    honest = attribute(model, {"x": X}, "saliency", outputs=served, space=space, target=0)
    assert max(figures["forward_gap"] for figures in honest.quality) < 1e-6
    other = served["y"].copy()
    other[1] += 0.25
    found = attribute(model, {"x": X}, "saliency", outputs={"y": other}, space=space, target=0)
    gaps = [figures["forward_gap"] for figures in found.quality]
    assert gaps[1] == pytest.approx(0.25, abs=1e-6)
    assert max(gaps[0], gaps[2]) < 1e-6


def test_the_forward_gap_of_a_map_and_of_a_regression() -> None:
    images = numbers(2, 1, 8, 8, seed=142)
    served = serve(cnn(), {"image": images})["p"]
    found = attribute(cnn(), {"image": images}, "grad_cam", outputs={"p": np.clip(served - 0.1, 0, 1)}, target=0)
    assert min(figures["forward_gap"] for figures in found.quality) > 0.05
    found = attribute(
        mlp(), {"x": X}, "exact_shap", background=BACKGROUND, outputs={"z": np.zeros((3, 3), np.float32)}, target=0
    )
    np.testing.assert_allclose(
        [f["forward_gap"] for f in found.quality], np.abs(mlp_twin(tensor(X)).numpy()[:, 0]), rtol=1e-4
    )


@pytest.mark.parametrize(
    ("outputs", "sentence"),
    [
        ({}, "outputs: nothing came for 'y', the output that is explained"),
        ({"y": np.zeros((2, 3), np.float32)}, "outputs: came float32 (2, 3) for 'y', expected floats [3, 3]"),
        ({"y": np.zeros((3, 4), np.float32)}, "outputs: came float32 (3, 4) for 'y', expected floats [3, 3]"),
        ({"y": np.zeros(3, np.float32)}, "outputs: came float32 (3,) for 'y', expected floats [3, 3]"),
        ({"y": np.zeros((3, 3), np.int64)}, "outputs: came int64 (3, 3) for 'y', expected floats [3, 3]"),
    ],
)
def test_outputs_that_are_not_the_models_are_refused(outputs: Any, sentence: str) -> None:
    with pytest.raises(explain.InvalidInputs, match=re.escape(sentence)):
        explain.begin(mlp("Softmax"), {"x": X}, method="saliency", outputs=outputs)


@pytest.mark.parametrize(
    ("method", "options", "error", "sentence"),
    [
        ("guess", {}, explain.InvalidParameter, "method: came 'guess', expected one of saliency, input_x_gradient"),
        ("saliency", {"seed": -1}, explain.InvalidParameter, "seed: came -1, expected a whole number of at least 0"),
        ("saliency", {"seed": 1.5}, explain.InvalidParameter, "seed: came 1.5"),
        ("saliency", {"seed": True}, explain.InvalidParameter, "seed: came True"),
        (
            "saliency",
            {"n_steps": 3},
            explain.InvalidParameter,
            "parameter 'n_steps' of saliency is unknown; expected abs",
        ),
        (
            "saliency",
            {"absolute": 1},
            explain.InvalidParameter,
            "parameter 'absolute': came 1, expected a value of type",
        ),
        (
            "input_x_gradient",
            {"q": 1},
            explain.InvalidParameter,
            "parameter 'q' of input_x_gradient is unknown; expected none",
        ),
        (
            "integrated_gradients",
            {"baseline": 0, "n_steps": 0},
            explain.InvalidParameter,
            "'n_steps': came 0, expected 1 to 4096",
        ),
        (
            "integrated_gradients",
            {"baseline": 0, "n_steps": "9"},
            explain.InvalidParameter,
            "expected a value of type integer",
        ),
        (
            "integrated_gradients",
            {"baseline": 0, "rule": "simpson"},
            explain.InvalidParameter,
            "came 'simpson', expected one of",
        ),
        (
            "integrated_gradients",
            {},
            explain.MethodUnavailable,
            "method integrated_gradients needs a baseline, and none",
        ),
        ("kernel_shap", {}, explain.MethodUnavailable, "method kernel_shap needs a background, and none was given"),
        (
            "feature_ablation",
            {},
            explain.MethodUnavailable,
            "method feature_ablation needs a background, a baseline or a removal, and none was given",
        ),
        ("exact_shap", {}, explain.MethodUnavailable, "method exact_shap needs a background, and none was given"),
        (
            "grad_cam",
            {},
            explain.MethodUnavailable,
            "method grad_cam is not offered for this model: the model has no conv",
        ),
        (
            "saliency",
            {"space": "odds"},
            explain.InvalidParameter,
            "space: came 'odds', expected one of logit, probability",
        ),
        ("saliency", {"output": "q"}, explain.InvalidParameter, "output: came 'q', expected one of y"),
    ],
)
def test_what_begin_refuses(method: str, options: dict[str, Any], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=re.escape(sentence)):
        explain.begin(mlp("Softmax"), {"x": X}, method=method, **options)


def test_a_model_that_answers_nan_is_explained_with_counted_nans() -> None:
    nodes: Nodes = [("Sqrt", ["x"], ["r"]), ("ReduceSum", ["r", "axes"], ["y"])]
    model = made(nodes, {"x": ("float32", ["n", 4])}, {"y": ("float32", ["n", 1])}, {"axes": np.array([1])})
    x = np.array([[1, 4, 9, 16], [1, -4, 9, 16]], dtype=np.float32)
    found = attribute(model, {"x": x}, "saliency")
    assert [figures["nan_count"] for figures in found.quality] == [0, 1]
    np.testing.assert_allclose(found.values["x"][0], [0.5, 0.25, 1 / 6, 0.125], rtol=1e-6)


@pytest.mark.parametrize("method", ["integrated_gradients", "smooth_grad", "kernel_shap", "permutation_shap", "rise"])
def test_runs_carry_no_more_rows_than_a_handle_allows_and_answers_stay_the_same(method: str) -> None:
    options = {
        "integrated_gradients": {"baseline": 0, "n_steps": 20},
        "smooth_grad": {"background": BACKGROUND, "n_samples": 12},
        "kernel_shap": {"background": BACKGROUND, "n_samples": 14},
        "permutation_shap": {"background": BACKGROUND, "n_permutations": 6},
        "rise": {"background": BACKGROUND, "n_masks": 24},
    }[method]
    alone = attribute(explain.Model(mlp()), {"x": X}, method, target=0, **options)
    model, seen = explain.Model(mlp(), run_rows=2), []
    running = explain.begin(model, {"x": X}, method=method, target=0, **options)
    while (step := running.chunk()) is not None:
        program, feeds = step
        key = "alpha" if "alpha" in feeds else "mask"
        if program.name in ("path_gradient", "masked_forward"):
            seen.append(feeds[key].shape[0] * feeds[key].shape[1])
        running.update(run(*step))
    assert max(seen) <= 2
    np.testing.assert_allclose(running.result().values["x"], alone.values["x"], atol=2e-6)


def test_a_handle_must_allow_a_row() -> None:
    with pytest.raises(explain.InvalidParameter, match="run_rows: got 0, expected 1 or more"):
        explain.Model(mlp(), run_rows=0)
