"""PyTorch and onnx-ad agree with the compiled gradients, and would not if a rule were wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ad
import pytest
import torch
from onnx import TensorProto

from explain.registry import REGISTRY, Entry
from tests.explain import others
from tests.explain.backend import NodeTest, node_tests
from tests.explain.differences import Checked, Subject, disagreement, original
from tests.explain.test_backend_suite import judge, named, pairs
from tests.explain.twins import TWINS

BAR = 1e-4
MEASURED: dict[str, Any] = json.loads((Path(__file__).parents[2] / "docs" / "operators.json").read_text("utf-8"))
CHECKED = [operator for operator, row in MEASURED["operators"].items() if row["checked"]]
JUDGES: dict[str, Callable[[Checked], float | None]] = {"torch": others.by_torch, "onnx_ad": others.by_onnx_ad}


def checked(name: str, output: str) -> Checked:
    found = judge(named(name), output).checked
    assert found is not None
    return found


def sample(operator: str) -> Checked:
    """The first gradient of an operator that is right."""
    outcomes = (judge(test, output) for test, output in pairs() if test.operator == operator)
    return next(outcome.checked for outcome in outcomes if outcome.verdict == "right" and outcome.checked)


@pytest.mark.parametrize("operator", CHECKED)
def test_both_agree_as_the_table_says(operator: str) -> None:
    row, found = MEASURED["operators"][operator], sample(operator)
    for name, by in JUDGES.items():
        said = by(found)
        assert said is None or said <= min(BAR, 10 * (row[name] or 0.0) + 1e-7), (
            f"{name}: {said}, {row[name]} in the table"
        )


def test_the_sample_is_judged() -> None:
    """Judges that fall silent are seen: most operators have both."""
    for name in JUDGES:
        assert sum(row[f"{name}_tests"] > 0 for row in MEASURED["operators"].values()) >= 0.9 * len(CHECKED)
    assert [by(checked("test_conv_with_strides_padding", "y")) is not None for by in JUDGES.values()] == [True, True]


@pytest.mark.parametrize("by", JUDGES.values(), ids=JUDGES)
@pytest.mark.parametrize(
    ("operator", "name", "output"),
    [("Tanh", "test_tanh", "y"), ("MatMul", "test_matmul_2d", "c"), ("Softmax", "test_softmax_axis_1", "y")],
)
def test_a_wrong_rule_is_seen(
    operator: str, name: str, output: str, by: Callable[[Checked], float | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (by(checked(name, output)) or 0.0) <= BAR / 10
    rule = REGISTRY.rules["", operator].rule

    def wrong(e: Any, n: Any, *grads: Any) -> Any:
        found = rule(e, n, *grads)
        first, *rest = found if isinstance(found, tuple | list) else (found,)
        return (e.mul(first, 1.0 + 3e-4), *rest) if rest else e.mul(first, 1.0 + 3e-4)

    monkeypatch.setitem(REGISTRY.rules, ("", operator), Entry(wrong))
    assert by(checked(name, output)) == pytest.approx(3e-4, rel=0.01)


def test_a_twin_with_another_value_is_no_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TWINS, "Tanh", torch.sigmoid)
    assert others.by_torch(checked("test_tanh", "y")) is None
    monkeypatch.delitem(TWINS, "Tanh")
    assert others.by_torch(checked("test_tanh", "y")) is None


def test_a_graph_that_is_refused_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    assert others.by_onnx_ad(checked("test_averagepool_2d_ceil", "y")) is None
    reverse = onnx_ad.reverse

    def refuse(*given: Any, **options: Any) -> Any:
        raise onnx_ad.UnsupportedOperator("Tanh")

    monkeypatch.setattr(onnx_ad, "reverse", refuse)
    assert others.by_onnx_ad(checked("test_tanh", "y")) is None
    monkeypatch.setattr(onnx_ad, "reverse", reverse)
    assert others.by_onnx_ad(checked("test_tanh", "y")) is not None


def test_an_error_is_the_largest_of_any_input() -> None:
    judged = {"a": np.array([3.0, 4.0]), "b": np.array([0.0])}
    assert others.error(judged, judged) == 0.0
    assert others.error({"a": np.array([3.0, 4.5]), "b": np.array([0.0])}, judged) == pytest.approx(0.1)
    assert others.error({"a": judged["a"], "b": np.array([1e-7])}, judged) == pytest.approx(0.1)
    assert others.error({"a": judged["a"], "b": np.array([np.nan])}, judged) == np.inf
    assert others.error({"a": judged["a"], "b": np.array(0.0)}, judged) == np.inf
    assert others.error(judged, {"a": np.array([np.nan, 4.0])}) == np.inf
    assert others.error({"a": np.zeros((1, 3))}, {"a": np.zeros((0, 3))}) == 0.0


def has_the_value(test: NodeTest) -> bool:
    """Whether the operator's twin computes an output as ONNX's reference does, at the test's own inputs."""
    try:
        subject, node = Subject(test), others.single_node(test)
        values = original(subject)(subject.fed({}, TensorProto.DOUBLE))
        found = {name: others.twin_value(subject, node, {}, name) for name in test.outputs if node}
    except Exception:  # a form of the operator that the twin, or the reference, does not know
        return False
    pairs = [(found[name].numpy(), values[name]) for name in found]
    return any(mine.shape == value.shape and np.allclose(mine, value, 1e-5, 1e-5) for mine, value in pairs)


@pytest.mark.parametrize("operator", sorted(TWINS))
def test_every_twin_is_one(operator: str) -> None:
    """In some test, whether or not there is a rule; Scatter is unknown to the reference, but judged."""
    own = [test for test in node_tests() if test.operator == operator and "_expanded" not in test.name]
    assert any(map(has_the_value, own)) or MEASURED["operators"][operator]["torch_tests"] > 0


def test_who_is_no_twin_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert has_the_value(named("test_tanh"))
    monkeypatch.setitem(TWINS, "Tanh", torch.sigmoid)
    assert not has_the_value(named("test_tanh"))


def matching(pattern: str) -> list[Checked]:
    """The gradients that a pattern of a table names, those that can be compiled."""
    own = [(test, output) for test, output in pairs() if fnmatchcase(f"{test.name}:{output}", pattern)]
    assert own
    outcomes = [judge(test, output) for test, output in own]
    return [outcome.checked for outcome in outcomes if outcome.verdict == "right" and outcome.checked]


@pytest.mark.parametrize("pattern", others.MISTAKEN)
def test_differences_refute_who_is_mistaken(pattern: str) -> None:
    for each in matching(pattern):
        judged = others.onnx_ad_gradients(each)
        assert judged is not None
        assert disagreement(each.judgement, judged) > 0.05
        assert others.error(each.gradients, judged) > 0.05


@pytest.mark.parametrize("pattern", others.ROUNDED)
def test_what_is_rounded_is_right_in_double(pattern: str) -> None:
    found = matching(pattern)
    assert max((others.by_torch(each) or 0.0 for each in found), default=0.0) > BAR
    assert max(others.by_torch_in_double(each) or 0.0 for each in found) <= 2e-7
