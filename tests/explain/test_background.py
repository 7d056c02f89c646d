"""A prepared background: what is found with it is what is found with its rows, and it cannot change."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import explain
from tests.explain.graphs import attribute, cnn, mlp, numbers, run
from tests.explain.test_methods_deep import CASES, exported

X, ROWS = numbers(3, 4, seed=950), numbers(6, 4, seed=951)
WEIGHT = np.array([1, 0, 3, 0, 4, 2.0])


def programs(model: explain.Model, inputs: dict[str, np.ndarray], **options: Any) -> dict[str, explain.Program]:
    """The programs that an explanation runs, by name."""
    found: dict[str, explain.Program] = {}

    def noted(program: explain.Program, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        found[program.name] = program
        return run(program, feeds)

    explain.attribute(model, inputs, run=noted, **options)
    return found


def same(one: explain.Attribution, other: explain.Attribution) -> None:
    for name, values in one.values.items():
        assert explain.attribution_error(values, other.values[name]) <= 1e-6
    np.testing.assert_allclose(one.base_values, other.base_values, rtol=1e-6, atol=1e-7)
    assert one.background_digest == other.background_digest


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_deep_shap_with_its_background_in_the_program_is_the_same(name: str) -> None:
    make, x, rows = CASES[name]
    model = exported(make(), x)
    prepared = explain.Background.of(model, rows)
    given = attribute(model, {"x": x}, "deep_shap", background=rows, target=1)
    found = attribute(model, {"x": x}, "deep_shap", background=prepared, target=1)
    same(found, given)
    assert max(abs(figures["completeness_gap_relative"]) for figures in found.quality) <= 1e-4
    program = programs(model, {"x": x}, method="deep_shap", background=prepared, target=1)["deeplift"]
    assert ("x.baseline" in program.inputs) == (name == "attentive")  # where rows cannot be told apart
    assert (found.program_digest == given.program_digest) == (name == "attentive")
    alone = attribute(model, {"x": x[1:2]}, "deep_shap", background=prepared, target=1)
    assert explain.attribution_error(alone.values["x"][0], found.values["x"][1]) <= 1e-6


def test_in_float64_it_adds_up_to_nine_digits() -> None:
    model = explain.Model(mlp(dtype="float64"))
    prepared = explain.Background.of(model, ROWS.astype(np.float64), WEIGHT)
    found = attribute(model, {"x": X.astype(np.float64)}, "deep_shap", background=prepared, target=0)
    assert max(abs(figures["completeness_gap_relative"]) for figures in found.quality) <= 1e-9
    with pytest.raises(AssertionError):
        same(found, attribute(model, {"x": X}, "deep_shap", background=ROWS[:5], target=0))


@pytest.mark.parametrize("method", ["deep_shap", "exact_shap", "expected_gradients", "permutation_shap"])
def test_every_method_takes_it_as_it_takes_rows(method: str) -> None:
    model = explain.Model(mlp())
    prepared = explain.Background.of(model, ROWS, WEIGHT)
    given = attribute(model, {"x": X}, method, background=ROWS, background_weight=WEIGHT, target=0)
    same(attribute(model, {"x": X}, method, background=prepared, target=0), given)


def test_it_is_a_copy_that_nobody_can_write_to() -> None:
    rows, model = ROWS.copy(), explain.Model(mlp())
    prepared = explain.Background.of(model, {"x": rows})
    before = attribute(model, {"x": X}, "deep_shap", background=prepared, target=0)
    rows[:] = 0
    same(attribute(model, {"x": X}, "deep_shap", background=prepared, target=0), before)
    for array in (prepared.rows["x"], prepared.weight):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    assert (len(prepared), prepared.digest) == (6, explain.digest_arrays({"x": ROWS}))


def test_weights_are_part_of_what_is_bound() -> None:
    model = explain.Model(mlp())
    base = []
    for weight in (None, WEIGHT):
        prepared = explain.Background.of(model, ROWS, weight)
        found = attribute(model, {"x": X}, "deep_shap", background=prepared, target=0)
        same(found, attribute(model, {"x": X}, "deep_shap", background=ROWS, background_weight=weight, target=0))
        base.append(found.base_values)
    assert np.abs(base[0] - base[1]).max() > 1e-3


def test_what_is_too_large_is_sent_along(monkeypatch: pytest.MonkeyPatch) -> None:
    model = explain.Model(mlp())
    asked: dict[str, Any] = {
        "method": "deep_shap",
        "background": explain.Background.of(model, ROWS),
        "outputs": {"z": np.zeros((3, 3), np.float32)},
        "target": 0,
    }
    assert "x.baseline" not in programs(model, {"x": X}, **asked)["deeplift"].inputs
    with monkeypatch.context() as patched:
        patched.setattr("explain.plans.base.ROWS_PER_RUN", 5)
        assert "x.baseline" in programs(model, {"x": X}, **asked)["deeplift"].inputs
    monkeypatch.setattr("explain.methods.deep.BOUND", 20)
    assert "x.baseline" in programs(model, {"x": X}, **asked)["deeplift"].inputs


def test_where_the_model_runs_at_every_pair_it_is_sent_along() -> None:
    """A batch of 1 alone: rows cannot be told apart."""
    model = explain.Model(mlp(batch=1), row_by_row=True)
    prepared = explain.Background.of(model, ROWS)
    found = attribute(model, {"x": X}, "deep_shap", background=prepared, target=0)
    same(found, attribute(model, {"x": X}, "deep_shap", background=ROWS, target=0))


def test_made_for_another_handle_its_rows_are_looked_at_again() -> None:
    model, other = explain.Model(mlp()), explain.Model(mlp())
    prepared = explain.Background.of(other, ROWS)
    assert (
        "x.baseline" in programs(model, {"x": X}, method="deep_shap", background=prepared, target=0)["deeplift"].inputs
    )
    with pytest.raises(explain.InvalidParameter, match="background: input 'x' is unknown; expected image"):
        attribute(cnn(), {"image": numbers(1, 1, 8, 8)}, "deep_shap", background=prepared, target=0)


def test_what_is_no_background_is_refused() -> None:
    model = explain.Model(mlp())
    prepared = explain.Background.of(model, ROWS)
    with pytest.raises(explain.InvalidParameter, match="background_weight: came beside a prepared background"):
        attribute(model, {"x": X}, "deep_shap", background=prepared, background_weight=WEIGHT, target=0)
    with pytest.raises(
        explain.InvalidParameter, match=r"background: input 'x': came shape \(6, 3\), expected \[N, 4\]"
    ):
        explain.Background.of(model, ROWS[:, :3])
    with pytest.raises(explain.InvalidParameter, match="background: input 'z' is unknown"):
        explain.Background.of(model, {"z": ROWS})
    with pytest.raises(explain.InvalidParameter, match="background_weight: expected 6 numbers"):
        explain.Background.of(model, ROWS, [1, 2])
