"""shap's explainers on the served file say what they say on the torch original; rows that do not fit are refused."""

from functools import partial

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import explain
import exporters
from exporters.running import run
from model_store import Store

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::PendingDeprecationWarning", "ignore::FutureWarning"
)
FLOAT = TensorProto.FLOAT


def kernel(shap, f, background, rows):
    return shap.KernelExplainer(f, background, link="identity").shap_values(rows, nsamples=60, silent=True)


def sampling(shap, f, background, rows):
    """It wants functions of one value."""
    return shap.SamplingExplainer(lambda table: f(table)[:, 1], background).shap_values(rows, nsamples=200, silent=True)


def explainer(kind, masker="Independent", seeds=None, **options):
    def judge(shap, f, background, rows):
        made = getattr(shap.explainers, kind) if kind != "auto" else shap.Explainer
        return made(f, getattr(shap.maskers, masker)(background), **(seeds or {}))(rows, silent=True, **options).values

    return judge


EXPLAINERS = {
    "auto": explainer("auto"),
    "Exact": explainer("ExactExplainer"),
    "Permutation": explainer("PermutationExplainer", seeds={"seed": 0}, max_evals=50),
    "Partition": explainer("PartitionExplainer", masker="Partition", max_evals=50),
    "Kernel": kernel,
    "Sampling": sampling,
}


def seeded(judge, *arguments):
    import shap

    np.random.seed(0)  # shap draws from numpy's global stream
    return np.asarray(judge(shap, *arguments))


@pytest.mark.parametrize("name", EXPLAINERS)
def test_shap_on_the_served_file_is_shap_on_the_original(name, source, engine):
    rows, background = source.table(slice(0, 2)), source.table(slice(20, 30))
    served = exporters.predict_function(source.exported, engine=engine)
    expected = seeded(EXPLAINERS[name], source.on_table, background, rows)
    found = seeded(EXPLAINERS[name], served, background, rows)
    assert found.shape == expected.shape
    assert explain.attribution_error(found, expected) <= 1e-5
    assert explain.attribution_error(found[:, ::-1], expected) > 1e-2, "columns in another order would be seen"


def test_exact_shap_of_ours_is_that_of_shap_on_the_served_file(source, engine):
    import shap

    rows, background = source.table(slice(0, 3)), source.table(slice(20, 30))
    f = exporters.predict_function(source.exported, engine=engine, target=2)
    judge = shap.explainers.ExactExplainer(f, shap.maskers.Independent(background))(rows, silent=True)
    own = explain.attribute(
        explain.Model(source.model),
        {"x": source.x[:3], "codes": source.codes[:3]},
        method="exact_shap",
        target=2,
        background={"x": source.x[20:], "codes": source.codes[20:]},
        run=partial(run, engine),
    )
    flat = exporters.shap_explanation(own, manifest=source.exported.manifest)
    assert explain.attribution_error(flat.values, judge.values) <= 1e-5
    np.testing.assert_allclose(flat.base_values, judge.base_values, rtol=1e-5)


@pytest.mark.parametrize("kind", ["path", "bytes", "proto", "handle", "export", "version", "name"])
def test_where_a_model_comes_from(kind, source, engine, tmp_path):
    import onnx

    store = Store(tmp_path / "store")
    version = store.publish(source.exported.manifest, source.exported.files())
    (tmp_path / "model.onnx").write_bytes(source.model)
    models = {
        "path": tmp_path / "model.onnx",
        "bytes": source.model,
        "proto": onnx.load_model_from_string(source.model),
        "handle": explain.Model(source.model),
        "export": source.exported,
        "version": version,
        "name": "mixed",
    }
    options = {"store": store.root, "version": 1} if kind == "name" else {}
    f = exporters.predict_function(models[kind], engine=engine, **options)
    if kind in ("export", "version", "name"):
        found = f(source.table(slice(0, 4)))
    else:  # no manifest: the elements of the inputs in their order
        found = f(np.concatenate([source.x[:4], source.codes[:4]], axis=1))
    np.testing.assert_allclose(found, source.on_table(source.table(slice(0, 4))), atol=1e-5)
    assert (found.dtype, found.shape) == (np.float64, (4, 3))


def test_a_forest(engine):
    """shap's own sums over the trees judge what its explainer of functions says of the served file."""
    import shap
    from sklearn.ensemble import RandomForestClassifier

    table = np.random.default_rng(0).normal(size=(120, 3)).astype(np.float32)
    fitted = RandomForestClassifier(8, max_depth=4, random_state=0).fit(table, (table[:, 0] > 0) ^ (table[:, 2] > 0.5))
    converted = exporters.export_sklearn(fitted, [exporters.Column(name) for name in ("age", "income", "debt")])
    described = exporters.describe(
        converted.model,
        name="forest",
        inputs=converted.inputs,
        outputs=converted.outputs,
        features=converted.features,
    )
    f = exporters.predict_function(described, engine=engine, target=1)
    np.testing.assert_allclose(f(table), fitted.predict_proba(table)[:, 1], atol=1e-6)
    judge = shap.TreeExplainer(fitted, table[:20], feature_perturbation="interventional")
    found = shap.explainers.ExactExplainer(f, shap.maskers.Independent(table[:20]))(table[20:23], silent=True)
    assert explain.attribution_error(found.values, judge.shap_values(table[20:23])[..., 1]) <= 1e-5
    np.testing.assert_allclose(found.base_values, judge.expected_value[1], atol=1e-6)


def test_a_store_stands_only_beside_a_name(source, engine, tmp_path):
    with pytest.raises(exporters.InvalidBridge, match="came with a bytes, expected the name of a stored model"):
        exporters.predict_function(source.model, engine=engine, store=tmp_path)


def test_the_space_and_the_target(source, engine):
    table = source.table(slice(0, 4))
    logits = source.on_table(table)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    for space in ("probability", "output"):
        f = exporters.predict_function(source.exported, engine=engine, space=space)
        np.testing.assert_allclose(f(table), odds / odds.sum(axis=1, keepdims=True), atol=1e-6)
    f = exporters.predict_function(source.exported, engine=engine, target=1)
    np.testing.assert_allclose(f(table), logits[:, 1], atol=1e-5)
    with pytest.raises(exporters.InvalidBridge, match="target: came 3, expected 0 to 2"):
        exporters.predict_function(source.exported, engine=engine, target=3)(table)


def test_a_data_frame_and_numbers_held_as_objects(source, engine):
    import pandas as pd

    f = exporters.predict_function(source.exported, engine=engine)
    table = source.table(slice(0, 4))
    np.testing.assert_array_equal(f(pd.DataFrame(table)), f(table))
    np.testing.assert_array_equal(f(table.astype(object)), f(table))


def test_rows_that_do_not_fit_are_refused(source, engine):
    f = exporters.predict_function(source.exported, engine=engine)
    with pytest.raises(exporters.InvalidBridge, match=r"came shape \[2, 4\] for inputs x, codes, expected \[N, 5\]"):
        f(np.zeros((2, 4)))
    means = source.table(slice(0, 4)).mean(axis=0, keepdims=True)
    with pytest.raises(exporters.InvalidBridge, match=r"input 'codes': .* expected whole codes; a background of means"):
        f(means)
    with pytest.raises(exporters.InvalidBridge, match=r"input 'codes': came values that int64 cannot hold"):
        f(np.full((1, 5), np.nan))


def test_arrays_in_their_own_shape(made, engine):
    """What a masker of pictures hands on."""
    nodes = [("ReduceMean", ["x", "axes"], ["y"], {"keepdims": 0})]
    picture = made(nodes, {"x": (FLOAT, ["N", 1, 4, 4])}, {"y": (FLOAT, ["N", 1])}, {"axes": np.array([2, 3])})
    pixels = np.random.default_rng(0).normal(size=(3, 1, 4, 4)).astype(np.float32)
    f = exporters.predict_function(picture, engine=engine)
    np.testing.assert_allclose(f(pixels), pixels.mean(axis=(2, 3)), rtol=1e-6)
    np.testing.assert_allclose(f(pixels.reshape(3, 16)), pixels.mean(axis=(2, 3)), rtol=1e-6)
    free = made(nodes, {"x": (FLOAT, ["N", 1, "h", "w"])}, {"y": (FLOAT, ["N", 1])}, {"axes": np.array([2, 3])})
    f = exporters.predict_function(free, engine=engine)
    np.testing.assert_allclose(f(pixels[..., :2]), pixels[..., :2].mean(axis=(2, 3)), rtol=1e-6)
    with pytest.raises(exporters.InvalidBridge, match="expected arrays of fixed size"):
        f(pixels.reshape(3, 16))


def test_strings(engine):
    """What a masker of words hands on: [N, words] of text."""
    words = helper.make_tensor_value_info("words", TensorProto.STRING, ["N", 2])
    score = helper.make_tensor_value_info("score", FLOAT, ["N", 1])
    nodes = [
        helper.make_node(
            "LabelEncoder",
            ["words"],
            ["each"],
            domain="ai.onnx.ml",
            keys_strings=["good", "bad"],
            values_floats=[1.0, -2.0],
            default_float=0.0,
        ),
        helper.make_node("ReduceSum", ["each", "axes"], ["score"]),
    ]
    axes = numpy_helper.from_array(np.array([1]), "axes")
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    graph = helper.make_graph(nodes, "words", [words], [score], [axes])
    f = exporters.predict_function(helper.make_model(graph, opset_imports=opsets, ir_version=10), engine=engine)
    np.testing.assert_array_equal(f([["good", "bad"], ["good", "..."]]), [[-1], [1]])


def test_missing_values_pass_where_the_model_knows_them(made, engine):
    """A row's NaN is the model's affair, and no other row's: the logit is that of each row alone."""
    nodes = [
        ("IsNaN", ["x"], ["missing"], {}),
        ("Where", ["missing", "mean", "x"], ["filled"], {}),
        ("ReduceSum", ["filled", "axes"], ["score"], {"keepdims": 1}),
        ("Sigmoid", ["score"], ["p"], {}),
    ]
    weights = {"mean": np.array([5.0, 7.0], np.float32), "axes": np.array([1])}
    model = made(nodes, {"x": (FLOAT, ["N", 2])}, {"p": (FLOAT, ["N", 1])}, weights)
    rows = [[np.nan, 1.0], [2.0, 3.0], [-np.inf, 1.0]]
    f = exporters.predict_function(model, engine=engine)
    np.testing.assert_allclose(f(rows), [[6.0], [5.0], [-np.inf]])
    np.testing.assert_allclose(exporters.predict_function(model, engine=engine, space="probability")(rows)[2], 0)


def test_the_output_is_chosen_by_name(made, engine):
    nodes = [("Neg", ["x"], ["first"], {}), ("Exp", ["x"], ["second"], {})]
    shape = (FLOAT, ["N", 2])
    model = made(nodes, {"x": shape}, {"first": shape, "second": shape})
    rows = np.array([[0.5, 1.0]])
    np.testing.assert_allclose(exporters.predict_function(model, engine=engine)(rows), -rows)
    np.testing.assert_allclose(exporters.predict_function(model, engine=engine, output="second")(rows), np.exp(rows))
    with pytest.raises(explain.InvalidParameter, match="output: came 'third', expected one of first, second"):
        exporters.predict_function(model, engine=engine, output="third")


def test_logits_at_every_position(made, engine):
    """Free sizes of an item come back as they went in."""
    nodes = [("MatMul", ["x", "w"], ["score"], {}), ("Softmax", ["score"], ["p"], {"axis": -1})]
    draw = np.random.default_rng(0)
    weights = {"w": draw.normal(size=(3, 4)).astype(np.float32)}
    model = made(nodes, {"x": (FLOAT, ["N", "S", "T", 3])}, {"p": (FLOAT, ["N", "S", "T", 4])}, weights)
    x = draw.normal(size=(5, 2, 6, 3)).astype(np.float32)
    served = exporters.as_torch(model, engine=engine)
    np.testing.assert_allclose(served(torch.from_numpy(x)), x @ weights["w"], rtol=1e-4, atol=1e-5)
    assert exporters.predict_function(model, engine=engine)(x).shape == (5, 2 * 6 * 4)


def weighted(made, width):
    """A linear model of ``width`` columns, every weight of another size, none of them 0."""
    weights = np.arange(1, width + 1, dtype=np.float32)[:, None]
    model = made(
        [("MatMul", ["x", "w"], ["y"], {})], {"x": (FLOAT, ["N", width])}, {"y": (FLOAT, ["N", 1])}, {"w": weights}
    )
    return model, weights[:, 0].astype(np.float64)


def test_kernel_shap_leaves_features_out_unless_told_not_to(made, engine):
    """The trap the page warns of: by default at most ten features get a share."""
    import shap

    model, weights = weighted(made, 12)
    f = exporters.predict_function(model, engine=engine, target=0)
    rows = np.ones((1, 12))
    judge = shap.KernelExplainer(f, np.zeros((1, 12)))
    np.random.seed(0)
    assert np.count_nonzero(judge.shap_values(rows, nsamples=500, silent=True)) == 10
    whole = judge.shap_values(rows, nsamples=500, silent=True, l1_reg=False)
    np.testing.assert_allclose(whole[0], weights, rtol=1e-4)


def test_a_masker_keeps_a_hundred_rows_unless_told_not_to(made, engine):
    """The trap the page warns of: the base value is that of 100 rows drawn from the background."""
    import shap

    model, weights = weighted(made, 3)
    f = exporters.predict_function(model, engine=engine, target=0)
    background = np.random.default_rng(0).normal(size=(150, 3)).astype(np.float32)
    assert len(shap.maskers.Independent(background).data) == 100
    whole = shap.maskers.Independent(background, max_samples=len(background))
    found = shap.explainers.ExactExplainer(f, whole)(np.ones((1, 3)), silent=True)
    np.testing.assert_allclose(found.values[0], weights * (1 - background.mean(axis=0)), rtol=1e-4)
