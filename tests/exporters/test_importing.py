"""Any ONNX file becomes a version, with sentences that say what was found, what was left open, and what is offered."""

import io
import json
import re

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import explain
import exporters
from exporters.case import case_of_arrays
from exporters.parity import client_inputs
from exporters.running import predict
from model_store import RefusedModel, Store

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
W = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)
ROWS = np.random.default_rng(1).normal(size=(7, 3)).astype(np.float32)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def taken_in(tmp_path, store, engine):
    """Imports a model made by hand, and what goes with it."""

    def bring(model, **more):
        path = tmp_path / "file.onnx"
        path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
        return exporters.import_onnx(path, name="m", store=store, engine=engine, **more)

    return bring


@pytest.fixture
def mlp(made):
    nodes = [("MatMul", "xw", "h", {}), ("Tanh", "h", "t", {}), ("Softmax", "t", "y", {"axis": -1})]

    def build(batch=1):
        return made(nodes, {"x": (FLOAT, [batch, 3])}, {"y": (FLOAT, [batch, 2])}, {"w": W})

    return build


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.csv"
    lines = ["height,weight,age", *(",".join(str(value) for value in row) for row in ROWS.tolist())]
    path.write_text("\n".join(lines) + "\n")
    return path


def numpy_mlp(x):
    powers = np.exp(np.tanh(x.astype(float) @ W))
    return powers / powers.sum(axis=1, keepdims=True)


def test_a_batch_of_one_is_served_for_many(mlp, taken_in, engine, store):
    version, said = taken_in(mlp(1))
    assert version.manifest.batching.mode == "item"
    inputs = client_inputs(version.manifest, ROWS.astype(float).tolist())
    found = predict(version.file("model"), version.manifest, inputs, engine)["y"]
    assert found == pytest.approx(numpy_mlp(ROWS), abs=1e-6)
    assert any("fixed its batch at 1" in sentence for sentence in said)
    assert version.manifest.lineage["imported"]["batch_axis_made_free"] is True
    assert store.verify() == []


def test_a_file_that_needs_no_change_is_kept_as_it_is(mlp, taken_in):
    version, said = taken_in(mlp("n"))
    assert version.file("model") == mlp("n").SerializeToString()
    assert not any("fixed its batch" in sentence for sentence in said)


def test_without_a_background_the_methods_that_need_one_are_not_offered(mlp, taken_in):
    version, said = taken_in(mlp())
    told = version.manifest.explanation
    smoothed = ["smooth_grad", "smooth_grad_squared", "var_grad", "deeplift", "guided_backprop"]
    assert told.methods == ["saliency", "input_x_gradient", "integrated_gradients", *smoothed]
    assert told.baseline is None
    compared = {name for name, method in explain.METHODS.items() if {"background", "reference"} & method.needs}
    assert {"kernel_shap", "deep_shap", "lime", "rise"} < compared
    assert compared | {"grad_cam", "hires_cam", "layer_cam"} == set(told.refused)
    assert "a background set or a baseline, and neither" in told.refused["lime"]
    text = " ".join(said)
    assert f"Offered explanations: {', '.join(told.methods)}." in text
    assert re.search("Not offered: [a-z_, ]*kernel_shap[a-z_, ]*: it needs a background set", text)
    assert "--background rows.csv" in text
    assert "no default baseline" in text


def test_a_background_gives_names_a_baseline_and_its_methods(mlp, taken_in, rows):
    version, said = taken_in(mlp(), background=rows)
    assert [feature.name for feature in version.manifest.features] == ["height", "weight", "age"]
    with np.load(io.BytesIO(version.file("background"))) as packed:
        assert packed["x"].tolist() == ROWS.tolist()
    told = version.manifest.explanation
    assert {"kernel_shap", "exact_shap", "lime", "occlusion"} <= set(told.methods)
    assert (told.method, told.baseline.kind) == ("deep_shap", "background_mean")
    assert any("called as in the header" in sentence for sentence in said)


def test_a_long_background_is_thinned_evenly(mlp, taken_in, tmp_path):
    path = tmp_path / "long.csv"
    path.write_text("a,b,c\n" + "".join(f"{row},0,0\n" for row in range(1000)))
    version, _ = taken_in(mlp(), background=path)
    with np.load(io.BytesIO(version.file("background"))) as packed:
        column = packed["x"][:, 0]
    assert (len(column), column[0], column[-1]) == (100, 0, 999)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b,c\n", "1 lines, expected a header and at least one row"),
        ("a,b,c\n1,2\n", "line 2: 2 values, the header has 3"),
        ("a,b,c\n1,2,3\n1,x,3\n", "line 3: b is 'x', expected a number"),
        ("a,b\n1,2\n", "missing: f0, f1, f2; unknown: a, b"),
        ("a,b,c\n1,2,nan\n", r"rows\.csv: "),
    ],
)
def test_a_background_that_does_not_fit_is_refused(mlp, taken_in, tmp_path, store, text, message):
    path = tmp_path / "rows.csv"
    path.write_text(text)
    with pytest.raises(exporters.InvalidImport, match=message):
        taken_in(mlp(), background=path)
    assert store.models() == []


def test_a_time_major_model_says_where_its_batch_is(made, taken_in, engine):
    nodes = [
        ("CumSum", ["x", "zero"], ["c"], {}),
        ("MatMul", "cw", "h", {}),
        ("ReduceSum", ["h", "axes"], "y", {"keepdims": 0}),
    ]
    weights = {"zero": np.array(0), "w": W, "axes": np.array([0])}
    version, said = taken_in(made(nodes, {"x": (FLOAT, ["T", "B", 3])}, {"y": (FLOAT, ["B", 2])}, weights))
    manifest = version.manifest
    assert (manifest.inputs[0].batch_axis, manifest.outputs[0].batch_axis) == (1, 0)
    series = np.random.default_rng(2).normal(size=(4, 6, 3)).astype(np.float32)
    found = predict(version.file("model"), manifest, {"x": series}, engine)["y"]
    assert found == pytest.approx((series.astype(float).cumsum(axis=1) @ W).sum(axis=1), rel=1e-4)
    assert any("'x' along axis 1" in sentence for sentence in said)


def test_a_model_without_a_batch_axis_is_served_row_by_row(made, taken_in, engine):
    version, said = taken_in(made([("MatMul", "xw", "y", {})], {"x": (FLOAT, [3])}, {"y": (FLOAT, [2])}, {"w": W}))
    assert version.manifest.batching.mode == "row"
    assert "no input has an axis" in version.manifest.batching.reason
    assert predict(version.file("model"), version.manifest, {"x": ROWS}, engine)["y"] == pytest.approx(
        ROWS @ W, abs=1e-5
    )
    assert said[0].startswith("Rows are run one by one: no input")


def test_rows_that_influence_each_other_are_served_one_by_one(made, taken_in, engine):
    nodes = [("Softmax", ["x"], "y", {"axis": 0})]
    version, said = taken_in(made(nodes, {"x": (FLOAT, ["n", 3])}, {"y": (FLOAT, ["n", 3])}))
    assert version.manifest.batching.mode == "row"
    assert predict(version.file("model"), version.manifest, {"x": ROWS}, engine)["y"].tolist() == [[1.0] * 3] * 7
    assert "changes with the other rows" in said[0]


def test_two_inputs_are_described_each(made, taken_in):
    nodes = [("Gather", ["table", "codes"], "e", {}), ("Add", "xe", "y", {})]
    inputs = {"x": (FLOAT, ["n", 2]), "codes": (INT64, ["n"])}
    version, _ = taken_in(made(nodes, inputs, {"y": (FLOAT, ["n", 2])}, {"table": np.eye(2, dtype=np.float32)}))
    assert [(spec.name, spec.dtype, spec.batch_axis) for spec in version.manifest.inputs] == [
        ("x", "float32", 0),
        ("codes", "int64", 0),
    ]
    assert version.manifest.batching.mode == "item"


def test_a_pipeline_from_elsewhere_comes_in(taken_in, engine):
    fitted = make_pipeline(StandardScaler(), LogisticRegression()).fit(ROWS, np.arange(7) % 2)
    columns = [exporters.Column(name) for name in "abc"]
    version, said = taken_in(exporters.export_sklearn(fitted, columns).model)
    found = predict(version.file("model"), version.manifest, {"features": ROWS}, engine)["probabilities"]
    assert found == pytest.approx(fitted.predict_proba(ROWS), abs=1e-6)
    assert any(sentence.startswith("Offered explanations:") for sentence in said)


OUTPUT = {"name": "y", "kind": "tensor", "dtype": "float32", "shape": ["n", "k"], "batch_axis": 0}


def given(tmp_path, manifest, **changes):
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({**json.loads(manifest.to_bytes()), **changes}))
    return path


def test_a_manifest_is_taken_at_its_word(mlp, taken_in, tmp_path, rows):
    first, _ = taken_in(mlp("n"), background=rows)
    output = {**json.loads(first.manifest.to_bytes())["outputs"][0], "class_names": ["thin", "thick"]}
    explanation = {"methods": ["kernel_shap", "saliency"], "method": "kernel_shap"}
    path = given(tmp_path, first.manifest, name="other", description="told", outputs=[output], explanation=explanation)
    second, _ = taken_in(mlp("n"), manifest=path, background=rows)
    assert (second.name, second.version, second.manifest.description) == ("m", 2, "told")
    assert second.manifest.outputs[0].class_names == ["thin", "thick"]
    assert second.manifest.explanation.methods == ["saliency", "kernel_shap"]
    assert second.manifest.explanation.method == "kernel_shap"
    assert second.manifest.explanation.refused["exact_shap"] == "the manifest does not list it"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": []}, "manifest.json: inputs"),
        ({"surprise": 1}, "manifest.json: .*surprise"),
        (
            {"outputs": [{**OUTPUT, "name": "z"}], "explanation": {}},
            r"outputs: described \['z'\], the graph has \['y'\]",
        ),
        ({"outputs": [{**OUTPUT, "batch_axis": 1}]}, "batch axis of 'y' is said to be 1, by running the model it is 0"),
    ],
)
def test_a_manifest_of_another_model_is_refused(mlp, taken_in, tmp_path, store, changes, message):
    version, _ = taken_in(mlp("n"))
    with pytest.raises(exporters.InvalidImport, match=message):
        taken_in(mlp("n"), manifest=given(tmp_path, version.manifest, **changes))
    assert len(store.versions("m")) == 1


def test_a_manifest_of_one_row_keeps_the_file_as_it_is(mlp, taken_in, tmp_path, engine):
    version, _ = taken_in(mlp("n"))
    fixed = json.loads(version.manifest.to_bytes())
    fixed["inputs"][0]["shape"], fixed["outputs"][0]["shape"] = [1, 3], [1, 2]
    fixed["batching"] = {"mode": "row", "reason": "one patient at a time"}
    second, said = taken_in(mlp(1), manifest=given(tmp_path, version.manifest, **fixed))
    assert second.file("model") == mlp(1).SerializeToString()
    assert said[0] == "Rows are run one by one: one patient at a time."
    found = predict(second.file("model"), second.manifest, {"x": ROWS}, engine)["y"]
    assert found == pytest.approx(numpy_mlp(ROWS), abs=1e-6)


def test_a_manifest_that_promises_batches_the_model_cannot_keep_is_corrected(made, taken_in, tmp_path, mlp):
    nodes = [("Softmax", ["x"], "y", {"axis": 0})]
    mixing = made(nodes, {"x": (FLOAT, ["n", 3])}, {"y": (FLOAT, ["n", 3])})
    version, _ = taken_in(mixing)
    path = given(tmp_path, version.manifest, batching={"mode": "item", "reason": None})
    second, said = taken_in(mixing, manifest=path)
    assert second.manifest.batching.mode == "row"
    assert any("they cannot" in sentence for sentence in said)


def test_a_file_that_is_no_model_is_refused_by_the_gate(taken_in, store):
    with pytest.raises(RefusedModel):
        taken_in(b"no model at all")
    assert store.models() == []


def test_a_missing_file_is_named(tmp_path, store, engine):
    with pytest.raises(exporters.InvalidImport, match=r"model gone\.onnx: cannot be read: No such file"):
        exporters.import_onnx(tmp_path / "gone.onnx", name="m", store=store, engine=engine)


def test_labels_are_never_what_is_explained(taken_in, made):
    """Classifiers of other exporters answer a label before the scores; only scores can be attributed."""
    nodes = [("MatMul", "xw", ["scores"], {}), ("ArgMax", ["scores"], ["label"], {"axis": 1, "keepdims": 0})]
    outputs = {"label": (onnx.TensorProto.INT64, ["n"]), "scores": (FLOAT, ["n", 2])}
    version, _ = taken_in(made(nodes, {"x": (FLOAT, ["n", 3])}, outputs, {"w": W}))
    assert [spec.name for spec in version.manifest.outputs] == ["label", "scores"]
    assert version.manifest.explanation.output == "scores"


def test_inputs_that_are_no_features_are_held(tmp_path, engine):
    """An attention mask goes by its name; what is offered knows of it, and so does the certificate's handle."""
    nodes = [onnx.helper.make_node("Mul", ["x", "attention_mask"], ["m"]), onnx.helper.make_node("Tanh", ["m"], ["y"])]
    names = ("x", "attention_mask", "y")
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", 3]) for name in names]
    graph = onnx.helper.make_graph(nodes, "masked", ends[:2], ends[2:])
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(made, tmp_path / "m.onnx")
    exported, sentences = exporters.read_onnx(tmp_path / "m.onnx", name="m", engine=engine)
    assert exported.manifest.explanation.held == ["attention_mask"]
    assert any("'attention_mask' are no features" in sentence for sentence in sentences)
    assert "'attention_mask' is held" in exported.manifest.explanation.refused["linear_shap"]
    rows = {name: np.ones((2, 3), np.float32) for name in names[:2]}
    case = case_of_arrays(exported, rows, [0, 1], engine)
    found = case.explained("saliency", target=0)
    assert set(found.values) == {"x"}
