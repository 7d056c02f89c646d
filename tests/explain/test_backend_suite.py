"""Every node test of the ONNX backend suite: its gradient is that of the function, or it says here why it is left out.

In float64 the gradient along random directions equals differences to 1e-6, in float32 on ONNX Runtime to 1e-2. An
entry of these tables that is no longer needed fails.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple

import numpy as np
import pytest

from explain.registry import REGISTRY, Entry
from tests.explain.backend import NodeTest, is_float, node_tests
from tests.explain.differences import (
    Checked,
    Errors,
    Judges,
    NoFloatPath,
    Subject,
    Wrong,
    judged,
    measure,
    original,
)

DOUBLE, SINGLE = 1e-6, 1e-2
PARTS = 24

# Inputs that are constants of the graph here, as they are in models: weights, sizes, axes. The gradient with respect
# to them is refused; the others of each operator are differentiated or fed.
HELD: dict[str, tuple[str, ...]] = {
    "BatchNormalization": ("s", "bias", "mean", "var"),
    "CastLike": ("like",),
    "CausalConvWithState": ("weight", "bias"),
    "Col2Im": ("block_shape",),
    "Conv": ("W",),
    "ConvTranspose": ("W",),
    "DFT": ("axis",),
    "Dropout": ("r",),
    "GRU": ("W", "R", "B"),
    "InstanceNormalization": ("s", "bias"),
    "LSTM": ("W", "R", "B", "P"),
    "LayerNormalization": ("W", "B"),
    "Mod": ("y",),
    "OneHot": ("depth", "values"),
    "Pad": ("axes",),
    "RNN": ("W", "R", "B"),
    "Range": ("start", "limit", "delta"),
    "Resize": ("roi",),
    "RoiAlign": ("rois",),
    "STFT": ("window",),
    "Slice": ("axes",),
}

# Operators with floating-point inputs and outputs and no gradient to check: flat, or drawn at random.
FLAT = {
    "Bernoulli",
    "Ceil",
    "DynamicQuantizeLinear",
    "Floor",
    "Hardmax",
    "OneHot",
    "Round",
    "Sign",
    "ai.onnx.ml::Binarizer",
}

NEITHER = "ONNX's reference walks no Scan backwards, ONNX Runtime has no recurrent operator in float64"

# Tests (name:output) that not both judges can judge.
OTHERWISE: dict[str, tuple[Judges, str]] = {
    "test_maxpool_*": (Judges("runtime"), "ONNX's reference numbers the maxima otherwise than the specification says"),
    "test_maxunpool_export_with_output_shape:*": (
        Judges(None, "runtime"),
        "ONNX Runtime takes the indices as those of the shape stated, ONNX's reference as those of the shape inferred",
    ),
    "test_basic_deform_conv_without_padding:*": (
        Judges(None, "runtime"),
        "ONNX's reference computes the places in float32",
    ),
    "test_gridsample*": (Judges(None, "runtime"), "ONNX's reference computes the places in float32"),
    "test_mvn:*": (Judges(None, "runtime"), "its function body has constants in float32"),
    "test_causal_conv_with_state_s*": (Judges(None, "runtime"), "ONNX's reference computes it in float32"),
    "test_resize_downsample_scales_*_align_corners:*": (
        Judges(single="runtime"),
        "ONNX Runtime places the samples elsewhere where a scale does not divide the size",
    ),
    "test_pow_types_float32_uint*": (Judges(single=None), "ONNX Runtime has no kernel for the model itself"),
    "test_mod_*fmod_0*": (Judges(single=None), "ONNX Runtime has no kernel for the model itself"),
    "test_scatter_with*": (Judges(None, "runtime"), "ONNX's reference lacks this operator"),
    "test_convtranspose_output_shape:*": (
        Judges(double=None),
        "ONNX Runtime has no ConvTranspose in float64, ONNX's reference no negative pads",
    ),
    "test_averagepool_3d_dilations_large_*_ceil_mode_is_True:*": (
        Judges(double=None),
        "ONNX Runtime has no Conv in float64, ONNX's reference no negative pads",
    ),
    "test_gru_*": (Judges(double=None), NEITHER),
    "test_lstm_*": (Judges(double=None), NEITHER),
    "test_simple_rnn_*": (Judges(double=None), NEITHER),
    "test_attention_local_window_ext_cache_float16_mask*": (
        Judges(double=None),
        "scores beside -65504 leave differences five digits",
    ),
}

# Tests (name:output) that are not covered.
LEFT_OUT: dict[str, str] = {
    "test_rnn_seq_length:*": "its tanh is saturated: float32 rounds most of 1 - h^2 to 0",
    "test_scan_sum:*": "Scan of opset 8 is refused by name",
    "test_optional_get_element_tensor:*": "optional values have no rule",
    "test_affine_grid_*": "onnx's inliner cannot expand a function in the body of another",
    "test_linear_attention_*": "onnx's inliner cannot expand a function in the body of another",
    "test_flexatt*[!2]?:Y": "of the preview domain no functions are expanded (the suite's own expansions are right)",
    "test_adagrad*": "a training operator has no rule",
    "test_adam*": "a training operator has no rule",
    "test_*momentum*": "a training operator has no rule",
    "test_batchnorm_*_training_mode:*": "training mode is refused",
    "test_training_dropout*:y": "training mode is refused",
    "test_averagepool_2d_ceil_last_window_starts_on_pad:*": "ONNX Runtime infers another shape than it computes",
    "test_cumprod_*": "newer than opset 18, without a function body",
    "test_dequantizelinear*": "the scale of a quantisation is held",
    "test_dynamicquantizelinear:y_scale": "the scale of a quantisation is held",
    "test_dynamicquantizelinear_*_adjusted:y_scale": "the scale of a quantisation is held",
    "test_basic_deform_conv_with_padding:*": "its places are at kinks, too close for steps in float32",
    "test_deform_conv_*": "its places are at kinks, too close for steps in float32",
    "test_gridsample_volumetric_bilinear_align_corners_1:*": "its places are at kinks, too close for steps in float32",
    "test_melweightmatrix:*": "no rule; it makes a constant",
    "test_roialign_mode_max:*": "maxima over weighted elements are refused",
    "test_tensorscatter*": "newer than opset 18, without a function body",
    "test_unique_bfloat16_sorted_without_axis:Y": "off its ties it has another number of values than it declares",
    "test_ai_onnx_ml_tree_ensemble_*": "trees are steps: methods on coalitions explain them",
}


class Outcome(NamedTuple):
    """What became of one output of one test: "right", "none" (no gradient to check) or what is wrong."""

    key: str
    verdict: str
    errors: Errors | None = None
    checked: Checked | None = None


def judge(test: NodeTest, output: str, varied: str = "", usual: bool = False) -> Outcome:
    """The verdict on one output; `varied` names an input that is not held, `usual` takes both judges."""
    key = f"{test.name}:{output}"
    judges = next((judges for pattern, (judges, _) in OTHERWISE.items() if fnmatchcase(key, pattern)), None)
    held = frozenset(HELD.get(test.operator, ())) - {varied}
    try:
        checked = measure(test, output, held, None if usual else judges)
    except NoFloatPath:
        return Outcome(key, "none")
    except Exception as error:  # whatever a judge or the compiler fails with is a verdict
        return Outcome(key, f"{type(error).__name__}: {error}".splitlines()[0])
    double, single = checked.errors.double or 0.0, checked.errors.single or 0.0
    right = double <= DOUBLE and single <= SINGLE
    verdict = "right" if right else f"off by {double:.1e} in float64, {single:.1e} in float32"
    return Outcome(key, verdict, checked.errors, checked)


def surprises(outcomes: list[Outcome], left_out: dict[str, str]) -> list[str]:
    """Outcomes that are not as the tables say."""
    found = []
    for outcome in outcomes:
        reason = next((reason for pattern, reason in left_out.items() if fnmatchcase(outcome.key, pattern)), None)
        if reason is None and outcome.verdict not in ("right", "none"):
            found.append(f"{outcome.key} is {outcome.verdict}")
        if reason is not None and outcome.verdict == "right":
            found.append(f"{outcome.key} is right, but left out: {reason}")
    return found


def pairs() -> list[tuple[NodeTest, str]]:
    return [(test, output) for test in node_tests() for output in test.outputs]


def carries(test: NodeTest, output: str) -> bool:
    """Whether floating-point numbers that vary go in and come out."""
    inputs = [value for value in test.model.graph.input if value.name not in HELD.get(test.operator, ())]
    return any(map(is_float, inputs)) and any(is_float(v) for v in test.model.graph.output if v.name == output)


@pytest.mark.parametrize("part", range(PARTS))
def test_gradients(part: int) -> None:
    """A part of the suite: right, left out for a reason, or without a gradient to check."""
    every = pairs()
    size = -(-len(every) // PARTS)
    own = every[part * size : (part + 1) * size]
    outcomes = [judge(test, output) for test, output in own]
    assert surprises(outcomes, LEFT_OUT) == []
    silent = [pair for pair, outcome in zip(own, outcomes, strict=True) if outcome.verdict == "none"]
    assert {test.operator for test, output in silent if carries(test, output)} <= FLAT


def test_every_table_is_needed() -> None:
    keys = [f"{test.name}:{output}" for test, output in pairs()]
    for table in (LEFT_OUT, OTHERWISE):
        matches = {pattern: {key for key in keys if fnmatchcase(key, pattern)} for pattern in table}
        assert [pattern for pattern, found in matches.items() if not found] == []
        assert [key for key in keys if sum(key in found for found in matches.values()) > 1] == []


@pytest.mark.parametrize(("operator", "name"), [(operator, name) for operator in HELD for name in HELD[operator]])
def test_what_is_held_could_not_vary(operator: str, name: str) -> None:
    own = [(test, output) for test, output in pairs() if test.operator == operator and name in test.inputs]
    assert any(judge(test, output, varied=name).verdict not in ("right", "none") for test, output in own)


@pytest.mark.parametrize("pattern", OTHERWISE)
def test_who_is_judged_otherwise_fails_the_usual_judges(pattern: str) -> None:
    own = [(test, output) for test, output in pairs() if fnmatchcase(f"{test.name}:{output}", pattern)]
    assert any(judge(test, output, usual=True).verdict not in ("right", "none") for test, output in own)


def test_surprises_are_named() -> None:
    outcomes = [Outcome("a:y", "right"), Outcome("b:y", "none"), Outcome("c:y", "wrong")]
    assert surprises(outcomes, {"c*": "no rule"}) == []
    assert surprises(outcomes, {"a*": "no rule"}) == ["a:y is right, but left out: no rule", "c:y is wrong"]


def named(name: str) -> NodeTest:
    return next(test for test in node_tests() if test.name == name)


def test_a_wrong_rule_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert judge(named("test_tanh"), "y").verdict == "right"
    rule = REGISTRY.rules["", "Tanh"].rule
    monkeypatch.setitem(REGISTRY.rules, ("", "Tanh"), Entry(lambda e, n, grad: e.mul(rule(e, n, grad), 1.0 + 3e-5)))
    outcome = judge(named("test_tanh"), "y")
    assert outcome.errors is not None
    assert outcome.errors.double == pytest.approx(3e-5, rel=0.99)
    assert outcome.verdict.startswith("off by")


def test_a_gradient_denied_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(REGISTRY, "stops", REGISTRY.stops | {("", "Tanh")})
    assert "Wrong: the compiler says that nothing reaches 'y'" in judge(named("test_tanh"), "y").verdict


def test_an_output_that_jumps_is_no_judge() -> None:
    noise = np.random.default_rng(0)

    class Jumping(Subject):
        def fed(self, variables: Mapping[str, np.ndarray], to: int) -> dict[str, np.ndarray]:
            return {name: x + noise.normal(size=x.shape) for name, x in super().fed(variables, to).items()}

    subject = Jumping(named("test_tanh"))
    with pytest.raises(Wrong, match="no smooth point found"):
        judged(subject, "y", original(subject))
