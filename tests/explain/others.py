"""Two more judges of the gradients that `differences.measure` found, at the same point along the same cotangent.

`by_torch` asks PyTorch's autograd for the gradient of the operator's twin (twins.py), `by_onnx_ad` the package onnx-ad,
which differentiates ONNX graphs by rules of its own, for that of the test's model. Both compute in float64, and judge
only where they first compute the operator's own value; None is the answer of one that cannot.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnx_ad
import torch
from onnx import TensorProto, helper, version_converter

from tests.explain.backend import PRECISION, NodeTest, node_tests
from tests.explain.differences import Checked, Subject, in_double
from tests.explain.runners import Feeds, reference, runtime
from tests.explain.twins import TWINS

SAME = 1e-5
NOTHING = 1e-6

# Tests (name:output) in which the gradient of onnx-ad itself is not that of the function, as differences say.
MISTAKEN = {
    "test_clip_min_greater_than_max:y": "where min exceeds max, onnx-ad gives min a part that is all max's",
    "test_det_*:y": "onnx-ad gives a determinant no gradient",
    "test_constant_pad*:y": "onnx-ad gives no gradient to the value that is padded with",
    "test_resize_tf_crop_and_resize_extrapolation_value:Y": "onnx-ad scales the extrapolation value by the input",
    "test_spacetodepth_crd_mode_example:y": "onnx-ad knows one mode only",
}
MISTAKEN |= dict.fromkeys(
    [
        "test_reduce_l1_default_axes_keepdims_random:reduced",
        "test_reduce_l2_default_axes_keepdims_*[em]:reduced",
        "test_reduce_log_sum_exp_default_axes_keepdims_*[em]:reduced",
        "test_reduce_mean_default_axes_keepdims_*[em]:reduced",
        "test_reduce_sum_square_default_axes_keepdims_*[em]:reduced",
    ],
    "where the axes are empty, onnx-ad differentiates as if it reduced nothing",
)
MISTAKEN |= dict.fromkeys(
    [
        "test_attention_23_boolmask_fullymasked_row_nan_robustness*",
        "test_attention_24_qk_matmul_output_mode3_softmax_precision*",
        "test_attention_2[34]_fullymasked_qk_matmul_output_mode3_zero*",
        "test_attention_4d_causal_nonpad_negative_offset_structural_empty*",
        "test_attention_4d_causal_padded_kv_bf16*",
        "test_attention_causal_boolmask_nan_robustness*",
        "test_attention_local_window_gqa_rank4_mask*",
    ],
    "where all keys of a query are masked, onnx-ad answers NaN",
)
SUMS = (
    "the gradient of a weight is the small difference of two sums of 6480 numbers, which ONNX Runtime adds one after "
    "another"
)
# Tests (name:output) in which float32 leaves fewer than four digits of a gradient that is right in float64.
ROUNDED = {
    "test_attention_3d_transpose_verification*:Y": "a saturated softmax leaves Q a gradient of 1e-7, a difference of "
    "numbers near 1",
    "test_attention_local_window_ext_cache_float16_mask*:Y": "scores that differ by 1e-6 leave Q, K and the mask "
    "gradients of 1e-6 to 1e-3, differences of numbers near 1",
    "test_nllloss_NCd1d2d3d4d5_mean_weight*:loss": SUMS,
    "test_sce_NCd1d2d3d4d5_mean_weight*:z": SUMS,
    "test_simple_rnn_bidirectional:Y_h": "a saturated tanh leaves X a gradient of differences of numbers near 1",
}


def reason(checked: Checked, table: Mapping[str, str]) -> str | None:
    """What one of these tables says of a test."""
    key = f"{checked.subject.test.name}:{checked.output}"
    return next((text for pattern, text in table.items() if fnmatchcase(key, pattern)), None)


def error(found: Mapping[str, np.ndarray], judged: Mapping[str, np.ndarray]) -> float:
    """The largest ||g - g'|| / ||g'|| of any input; a gradient smaller than 1e-6 counts as of that size."""
    worst = 0.0
    for name, expected in judged.items():
        if not expected.size:  # nothing to judge (and ONNX Runtime's optimiser drops an Expand of 1 to 0)
            continue
        finite = np.isfinite(found[name]).all() and np.isfinite(expected).all()
        if found[name].shape != expected.shape or not finite:
            return np.inf
        gap = np.linalg.norm((found[name].astype(np.float64) - expected).ravel())
        worst = max(worst, float(gap / max(np.linalg.norm(expected.ravel()), NOTHING)))
    return worst


def by_torch(checked: Checked) -> float | None:
    """The error against PyTorch."""
    judged = torch_gradients(checked)
    return None if judged is None else error(checked.gradients, judged)


def by_torch_in_double(checked: Checked) -> float | None:
    """The error of the program in float64, by ONNX Runtime or else by the reference, if that has the same value."""
    judged = torch_gradients(checked)
    engines = ["runtime"] if checked.judges.single == "runtime" else ["runtime", "reference"]
    for engine in engines if judged else ():
        try:
            return error(in_double(checked.subject, checked.judgement, checked.output, engine), judged or {})
        except Exception:  # a kernel, or a program, that does not exist in float64
            continue
    return None


def torch_gradients(checked: Checked) -> Feeds | None:
    """Autograd's gradients of the twin, if it has the operator's value."""
    test, judgement = checked.subject.test, checked.judgement
    node = single_node(test)
    if node is None or test.operator not in TWINS:
        return None
    leaves = {name: torch.tensor(x, requires_grad=True) for name, x in judgement.point.items()}
    try:
        value = twin_value(checked.subject, node, leaves, checked.output)
    except Exception:  # a form of the operator that the twin does not know fails it in its own way
        return None
    if not same(value.detach().numpy(), checked):
        return None
    cotangent = torch.tensor(judgement.cotangent)
    if not value.requires_grad:
        return {name: np.zeros_like(x) for name, x in judgement.point.items()}
    found = torch.autograd.grad(value, list(leaves.values()), cotangent, allow_unused=True)
    pairs = zip(leaves.items(), found, strict=True)
    return {name: np.zeros(leaf.shape) if g is None else g.numpy() for (name, leaf), g in pairs}


def same(found: np.ndarray, checked: Checked) -> bool:
    """Whether a judge's value is the operator's, wherever that is finite."""
    value, counted = checked.judgement.value, np.isfinite(checked.judgement.value)
    return found.shape == value.shape and np.allclose(found[counted], value[counted], rtol=SAME, atol=SAME)


def single_node(test: NodeTest) -> onnx.NodeProto | None:
    """The node that a test is about; where its model is an operator's function body, the operator's own."""
    nodes = models()[re.sub(r"_expanded.*", "", test.name)].graph.node
    return nodes[0] if len(nodes) == 1 else None


@cache
def models() -> dict[str, onnx.ModelProto]:
    """Of all node tests, by name."""
    return {test.name: test.model for test in node_tests()}


def twin_value(subject: Subject, node: onnx.NodeProto, leaves: Mapping[str, torch.Tensor], output: str) -> torch.Tensor:
    """One output by the operator's twin."""
    inputs = [leaves[name] if name in leaves else _operand(subject, name) for name in node.input]
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    plain = {name: value.decode() if isinstance(value, bytes) else value for name, value in attributes.items()}
    results = TWINS[subject.test.operator](*inputs, **plain)
    place = list(node.output).index(output)
    value: torch.Tensor = (results if isinstance(results, tuple | list) else (results,))[place]
    return value


def _operand(subject: Subject, name: str) -> torch.Tensor | None:
    """An input that does not vary; a whole number unless it is of floating point, eight bits or fewer included."""
    if not name:
        return None
    array = np.asarray(subject.test.inputs[name])
    if array.dtype == bool:
        return torch.tensor(array)
    numbers = array.astype(np.float64)
    whole = name not in subject.floats and (numbers == numbers.round()).all()
    return torch.tensor(array.astype(np.int64) if whole else numbers)


def by_onnx_ad(checked: Checked) -> float | None:
    """The error against onnx-ad, unless it is known to be mistaken."""
    judged = None if reason(checked, MISTAKEN) else onnx_ad_gradients(checked)
    return None if judged is None else error(checked.gradients, judged)


def onnx_ad_gradients(checked: Checked) -> Feeds | None:
    """By onnx-ad's program, wherever it first has the operator's value: ONNX Runtime, or the reference."""
    double, single = TensorProto.DOUBLE, TensorProto.FLOAT
    for to, engine in ((double, runtime), (double, reference), (single, runtime)):
        try:
            found = _by_program(checked, to, engine)
        except Exception:  # what it refuses, and what its programs fail with, has no type of its own
            continue
        if same(found[checked.output], checked):
            return {name: found[f"adj_{name}"][..., 0] for name in checked.judgement.point}
    return None


def _by_program(checked: Checked, to: int, engine: Callable[[onnx.ModelProto], Any]) -> Feeds:
    """Its seeds have an axis more, for several cotangents at once; what does not vary is a constant of the graph."""
    test, judgement, output = checked.subject.test, checked.judgement, checked.output
    subject = Subject(test, frozenset(test.inputs) - set(judgement.point))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = _recent(subject.model(to))
        program = onnx_ad.reverse(model, list(judgement.point), [output], prefix="adj_", layout="onnx")
    feeds = {name: np.asarray(array) for name, array in subject.fed(judgement.point, to).items()}
    feeds[f"adj_{output}"] = judgement.cotangent.astype(PRECISION[to])[..., None]
    found: Feeds = engine(program)(feeds)
    return found


def _recent(model: onnx.ModelProto) -> onnx.ModelProto:
    """At opset 18 if it was made before 16: onnx-ad scatters with reductions, which are newer."""
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    return model if opset >= 16 else version_converter.convert_version(model, 18)
