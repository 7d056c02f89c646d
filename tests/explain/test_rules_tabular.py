"""Operators of ai.onnx.ml on the way through scikit-learn's pipelines, and whole pipelines as they are converted."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from sklearn.datasets import load_iris
from sklearn.feature_selection import SelectKBest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from sklearn.svm import SVR

import explain
from explain.prepare.expansions import EXPANSIONS, ML
from explain.trees.ensembles import TREES
from tests.explain.single import (
    Case,
    Const,
    assert_close,
    case,
    check,
    declare_ranks,
    forward,
    gradients,
    numbers,
    session,
)


def tabular(op: str, *inputs: Any, judge: Callable[..., Any], also: Any = (), **given: Any) -> Case:
    def formula(*operands: Any) -> np.ndarray:
        return np.asarray(judge(*(torch.as_tensor(np.asarray(x)) for x in operands)))

    outputs = ("", "y") if op == "LinearClassifier" else ("y",)
    return case(op, *inputs, judge=judge, formula=formula, also=also, domain=ML, outputs=outputs, **given)


X, MORE = numbers(3, 4), ((numbers(5, 4, seed=2),),)
W, B = numbers(3, 4, seed=5).astype(np.float32), np.array([0.3, -0.2, 0.1], np.float32)


def linear(x: torch.Tensor, rows: int = 3) -> torch.Tensor:
    return x @ torch.as_tensor(W[:rows]).to(x.dtype).T + torch.as_tensor(B[:rows]).to(x.dtype)


def one_score(x: torch.Tensor, squash: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    s = squash(linear(x, 1))
    return torch.cat([1 - s, s], 1)


SQUASH: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "NONE": lambda s: s,
    "LOGISTIC": torch.sigmoid,
    "SOFTMAX": lambda s: torch.softmax(s, -1),
}
GAPS = np.where(np.arange(12).reshape(3, 4) % 5 == 1, np.nan, X)
CASES = [
    tabular(
        "Scaler",
        X,
        judge=lambda x: (x - torch.tensor([1.0, 2, 3, 0])) * torch.tensor([2.0, 1, 0.5, 3]),
        also=MORE,
        offset=[1.0, 2.0, 3.0, 0.0],
        scale=[2.0, 1.0, 0.5, 3.0],
    ),
    tabular("Scaler", numbers(2, 3, 4), judge=lambda x: (x - 1) * 2, offset=[1.0], scale=[2.0]),
    tabular("Normalizer", X, judge=lambda x: x / x.amax(-1, True), also=MORE, norm="MAX"),
    tabular("Normalizer", X, judge=lambda x: x / x.abs().sum(-1, True), also=MORE, norm="L1"),
    tabular("Normalizer", X, judge=lambda x: x / x.square().sum(-1, True).sqrt(), also=MORE, norm="L2"),
    tabular(
        "Imputer",
        GAPS,
        judge=lambda x: torch.where(x.isnan(), torch.tensor([1.0, 2, 3, 4], dtype=x.dtype), x),
        imputed_value_floats=[1.0, 2.0, 3.0, 4.0],
        replaced_value_float=float("nan"),
    ),
    tabular(
        "FeatureVectorizer",
        X,
        numbers(3, 2, seed=3),
        judge=lambda a, b: torch.cat([a, b], 1),
        also=((numbers(1, 4), numbers(1, 2)),),
        inputdimensions=[4, 2],
    ),
    tabular(
        "FeatureVectorizer",
        X,
        numbers(3, 2, seed=3),
        judge=lambda a, b: torch.cat([a[:, :3], b], 1),
        inputdimensions=[3, 2],
    ),
    tabular("ArrayFeatureExtractor", X, Const(np.array([[2, 0, 2]])), judge=lambda x, i: x[:, i[0]], label="rows"),
    tabular("ArrayFeatureExtractor", X[0], Const(np.array([1, 3])), judge=lambda x, i: x[None, i], label="vector"),
    tabular("ArrayFeatureExtractor", numbers(2, 3, 4), Const(np.array([3])), judge=lambda x, i: x[..., i], label="3"),
]
CASES += [
    tabular(
        "LinearRegressor",
        X,
        judge=lambda x, f=SQUASH[post]: f(linear(x)),
        also=MORE,
        coefficients=W.flatten().tolist(),
        intercepts=B.tolist(),
        targets=3,
        post_transform=post,
    )
    for post in SQUASH
]
CASES += [
    tabular(
        "LinearRegressor",
        X,
        judge=lambda x: linear(x, 1) - torch.as_tensor(B[:1]).to(x.dtype),
        coefficients=W[0].tolist(),
    )
]
CASES += [
    tabular(
        "LinearClassifier",
        X,
        judge=judge,
        also=MORE,
        coefficients=W[:rows].flatten().tolist(),
        intercepts=B[:rows].tolist(),
        classlabels_ints=list(range(max(rows, 2))),
        post_transform=post,
    )
    for rows in (1, 2, 3)
    for post in SQUASH
    for judge in [
        (lambda x, f=SQUASH[post], n=rows: f(linear(x, n)))
        if rows > 1
        else (lambda x, f=torch.sigmoid if post == "LOGISTIC" else SQUASH["NONE"]: one_score(x, f))
    ]
]
SUPPORTS, ALPHAS = torch.tensor(numbers(5, 4, seed=7).astype(np.float32)).double(), [0.5, -1.0, 0.25, 2.0, -0.5]
KERNELS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "LINEAR": lambda x: x @ SUPPORTS.T,
    "POLY": lambda x: (0.5 * x @ SUPPORTS.T + 0.25) ** 3,
    "SIGMOID": lambda x: torch.tanh(0.5 * x @ SUPPORTS.T + 0.25),
    "RBF": lambda x: torch.exp(-0.5 * (x[:, None] - SUPPORTS).square().sum(-1)),
}
CASES += [
    tabular(
        "SVMRegressor",
        X,
        judge=lambda x, k=kernel: k(x) @ torch.tensor(ALPHAS)[:, None].double() + 0.75,
        also=MORE,
        kernel_type=name,
        kernel_params=[0.5, 0.25, 3.0],
        support_vectors=SUPPORTS.flatten().tolist(),
        coefficients=ALPHAS,
        n_supports=5,
        rho=[0.75],
    )
    for name, kernel in KERNELS.items()
]
CASES += [
    tabular(
        "SVMRegressor",
        X,
        judge=lambda x: x @ torch.tensor(ALPHAS[:4])[:, None].double() + 0.75,
        kernel_type="LINEAR",
        kernel_params=[0.5, 0.25, 3.0],
        coefficients=ALPHAS[:4],
        rho=[0.75],
    )
]


@pytest.mark.parametrize("subject", CASES, ids=str)
def test_gradient(subject: Case) -> None:
    check(subject)


@pytest.mark.parametrize("subject", CASES, ids=str)
def test_the_kernel_of_the_runtime_computes_the_same(subject: Case) -> None:
    feeds = {name: x.astype(np.float32) for name, x in subject.variables.items()}
    proto = subject.model()
    proto.graph.node[0].output[0] = proto.graph.node[0].output[0] or "label"  # the kernel wants a name for it
    found = session(proto).run(["y"], feeds | subject.fed)[0]
    assert_close(found, forward(subject)(subject.variables)["y"], 1e-4, "forward value of the kernel")


def test_every_operator_has_a_case() -> None:
    """Trees have no gradient; what is written out of them is judged in test_trees.py."""
    assert {op for domain, op in EXPANSIONS if domain == ML} == {subject.op for subject in CASES} | TREES


def test_a_row_of_zeros_is_not_divided() -> None:
    for norm in ("MAX", "L1", "L2"):
        subject = tabular("Normalizer", np.zeros((1, 3)), judge=torch.abs, norm=norm)
        assert np.isfinite(gradients(subject)["x0"]).all()


def test_what_is_not_a_number_is_replaced_without_gradient() -> None:
    given = {"imputed_value_floats": [5.0], "replaced_value_float": float("nan")}
    found = gradients(tabular("Imputer", np.array([[1.0, np.nan]]), judge=torch.abs, **given))
    assert found["x0"].tolist() == [[1, 0]]


ROWS, CLASSES = load_iris(return_X_y=True)
PIPELINES: dict[str, Pipeline] = {
    "logistic": make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)),
    "normalised": make_pipeline(SimpleImputer(), Normalizer("l2"), LogisticRegression()),
    "chosen": make_pipeline(SelectKBest(k=3), StandardScaler(), MLPClassifier((6,), max_iter=2000, random_state=0)),
    "linear": make_pipeline(StandardScaler(), LinearRegression()),
    "kernel": make_pipeline(StandardScaler(), SVR()),
}


@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_has_the_gradient_of_its_own_predictions(name: str) -> None:
    """Central differences of scikit-learn's own function in float64."""
    pipeline = PIPELINES[name].fit(ROWS, CLASSES)
    function = pipeline.predict if name in ("linear", "kernel") else pipeline.predict_proba
    options = {} if name in ("linear", "kernel") else {id(pipeline): {"zipmap": False}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        proto = to_onnx(pipeline, ROWS[:1].astype(np.float32), options=options, target_opset={"": 18, ML: 3})
    output = proto.graph.output[-1].name
    assert explain.coverage(proto, output=output).differentiable
    program = explain.compile(proto, "vjp", output=output, space="output")
    x = ROWS[[3, 60, 120]].astype(np.float32)
    value = function(x.astype(float)).reshape(3, -1)
    cotangent = numbers(*value.shape).astype(np.float32)
    feeds = {"X": x, f"{output}.cotangent": cotangent}
    gradient, found = session(program.model).run(["X.gradient", output], feeds)
    assert_close(found, value, 1e-4, "value")
    slopes = np.stack([differences(function, x.astype(float), cotangent, column) for column in range(4)], 1)
    assert_close(gradient, slopes, 2e-3, "gradient against differences of scikit-learn")


def differences(function: Any, x: np.ndarray, cotangent: np.ndarray, column: int) -> np.ndarray:
    """Change of sum(cotangent * function) of each row along one column."""
    step = np.zeros(4)
    step[column] = 1e-4
    ends = [(function(x + side * step).reshape(len(x), -1) * cotangent).sum(1) for side in (1, -1)]
    return np.asarray((ends[0] - ends[1]) / 2e-4)


REFUSED = [
    (
        tabular("LinearRegressor", X, judge=linear, coefficients=[1.0] * 4, post_transform="PROBIT"),
        "post_transform='PROBIT'",
    ),
    (tabular("SVMRegressor", X, judge=linear, coefficients=[1.0] * 4, rho=[0.0], one_class=1), "one_class=1"),
    (tabular("LinearRegressor", X[0], judge=linear, coefficients=[1.0] * 4), "an input with 1 axes is not covered"),
    (tabular("Normalizer", X, judge=linear, norm="L9"), "attribute norm='L9' is not covered"),
]


@pytest.mark.parametrize(("subject", "reason"), REFUSED, ids=lambda value: str(value)[:30])
def test_refusals_name_operator_node_opset_and_attribute(subject: Case, reason: str) -> None:
    proto = subject.model(items=True)
    declare_ranks(proto, {"y": X})
    with pytest.raises(explain.UnsupportedOperator, match=reason) as caught:
        explain.compile(proto, "vjp")
    assert (caught.value.op, caught.value.node, caught.value.opset) == (subject.op, "under_test", 18)


def test_labels_are_those_of_the_operator() -> None:
    given = {"coefficients": W.flatten().tolist(), "intercepts": B.tolist(), "classlabels_strings": ["a", "b", "c"]}
    node = helper.make_node("LinearClassifier", ["x"], ["label", "y"], domain=ML, **given)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", n]) for name, n in (("x", 4), ("y", 3)))
    label = helper.make_tensor_value_info("label", TensorProto.STRING, ["N"])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(ML, 3)]
    proto = helper.make_model(helper.make_graph([node], "labels", [x], [label, y]), opset_imports=opsets, ir_version=9)
    rows = numbers(6, 4, seed=3).astype(np.float32)
    found = session(explain.compile(proto, "forward").model).run(["label", "y"], {"x": rows})
    expected = session(proto).run(["label", "y"], {"x": rows})
    assert found[0].tolist() == expected[0].tolist()
    assert_close(found[1], expected[1], 1e-5, "scores")
