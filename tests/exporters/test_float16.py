"""The float16 variant of a model: what of it computes in half precision, and that only what agrees is kept."""

import functools

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import explain
import exporters
from exporters.float16 import agreement, check_variant
from exporters.halving import chosen, halved, network_of, rounded
from model_store import InputSpec, RefusedModel, Store

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
RANDOM = np.random.default_rng(0)
ROWS = RANDOM.normal(size=(12, 2, 6, 6)).astype(np.float32)
KERNEL = RANDOM.normal(size=(4, 2, 3, 3)).astype(np.float32) / 4
W = RANDOM.normal(size=(4, 3)).astype(np.float32)
NETWORK = [
    ("Sub", ["x", "mean"], ["moved"], {}),
    ("Conv", ["moved", "k"], ["h"], {"pads": [1, 1, 1, 1]}),
    ("Relu", "h", "r", {}),
    ("Add", ["r", "mean"], ["s"], {}),
    ("GlobalAveragePool", "s", "p", {}),
    ("Flatten", "p", "f", {}),
    ("MatMul", "fw", ["scores"], {}),
    ("Softmax", ["scores"], ["y"], {}),
]
WEIGHTS = {"mean": np.full((), 0.25, np.float32), "k": KERNEL, "w": W}


def network(made, nodes=NETWORK, weights=WEIGHTS, shape=("n", 2, 6, 6), out=("n", 3), **more):
    return made(nodes, {"x": (FLOAT, list(shape))}, {"y": (FLOAT, list(out))}, weights, **more).SerializeToString()


def described(model, rows=ROWS):
    spec = InputSpec("x", "tensor", "float32", ["n", *rows.shape[1:]], 0)
    outputs = [exporters.output_spec(model, "y", "value")]
    return exporters.describe(model, name="net", inputs=[spec], outputs=outputs, background={"x": rows})


def types(model):
    """The element type of each value that a node makes, by inference over the file alone."""
    found = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(model), strict_mode=True).graph
    return {value.name: value.type.tensor_type.elem_type for value in (*found.value_info, *found.output)}


def halves(model):
    """The values that compute in half precision, Casts apart."""
    proto, kinds = onnx.load_model_from_string(model), types(model)
    return {name for node in proto.graph.node if node.op_type != "Cast" for name in node.output if kinds[name] == HALF}


def reference(model, rows):
    """The file as the ONNX specification's own evaluator computes it, in numpy's float16."""
    return ReferenceEvaluator(onnx.load_model_from_string(model)).run(None, {"x": rows})[0]


@pytest.fixture
def variant(made, engine):
    return exporters.with_float16(described(network(made)), engine)


def test_products_and_what_follows_them_compute_in_halves(variant):
    """Raw inputs are scaled and a Softmax is taken in float32; the boundary is that of the model."""
    assert halves(variant.float16) == {"h", "r", "s", "p", "f", "scores"}
    graph = onnx.load_model_from_string(variant.float16).graph
    assert [value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)] == [FLOAT, FLOAT]
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
    assert (kinds["k"], kinds["w"], kinds["mean"], kinds["mean/float16"]) == (HALF, HALF, FLOAT, HALF)
    assert len(variant.float16) < len(variant.model)


def test_it_answers_as_the_specification_says(variant, engine):
    """Both judges of the figure are near the reference evaluator, which computes in numpy's float16."""
    expected = reference(variant.float16, ROWS)
    wide = rounded(onnx.load_model_from_string(variant.float16)).SerializeToString()
    assert not halves(wide)
    np.testing.assert_allclose(reference(wide, ROWS), expected, atol=2e-3)
    own = reference(variant.model, ROWS)
    found = agreement(variant, {"x": ROWS}, range(len(ROWS)), engine)
    assert found["passed"]
    assert 0 < found["worst"] < 2e-3
    errors = np.abs(reference(wide, ROWS) - own).max(axis=1) / np.abs(own).max()
    assert found["worst"] == pytest.approx(errors.max(), rel=0.2)
    told = variant.manifest.lineage["float16"]
    assert (told["nodes"], told["nodes_in_float16"], told["n"]) == (8, 6, 12)


def test_a_wrong_variant_is_found(variant, engine):
    """The figure that vouches for variants is shown to fail, by the row."""
    graph = onnx.load_model_from_string(variant.float16)
    weight = next(tensor for tensor in graph.graph.initializer if tensor.name == "w")
    weight.CopyFrom(numpy_helper.from_array(W[:, ::-1].astype(np.float16).copy(), "w"))
    found = agreement(variant.but(float16=graph.SerializeToString()), {"x": ROWS}, range(100, 112), engine)
    assert not found["passed"]
    assert found["worst"] > 0.1
    assert 100 <= found["row"] < 112


def test_what_is_too_large_for_halves_stays_in_float32(made, engine):
    """Constants by what they are, values by what was seen of them, raw inputs too."""
    nodes = [
        ("MatMul", "xb", "h", {}),
        ("Relu", "h", "r", {}),
        ("MatMul", "rs", "t", {}),
        ("MatMul", "tw", "y", {}),
    ]
    weights = {"b": np.full((4, 4), 3e4, np.float32), "s": np.full((4, 4), 1e-5, np.float32), "w": W}
    rows = RANDOM.normal(size=(9, 4)).astype(np.float32)
    model = network(made, nodes, weights, ("n", 4))
    assert halves(exporters.with_float16(described(model, rows), engine).float16) == {"y/float16"}
    weights["b"] = np.full((4, 4), 1e5, np.float32)  # no half
    every = {"y/float16", "t"}
    assert halves(halved_by_graph(network(made, nodes, weights, ("n", 4)))) == every
    with pytest.raises(exporters.VariantRefused, match="no product or convolution in it that float16 can hold"):
        exporters.with_float16(described(model, rows * 1e6), engine)


def halved_by_graph(model):
    """What the graph alone allows, whatever its values are."""
    read = network_of(model)
    return halved(read, chosen(read)).SerializeToString()


def test_what_overflows_is_refused_where_the_runtime_does_not_round(made, engine, monkeypatch):
    """A processor computes in float32 what a GPU cannot hold: the rounded copy of the file tells."""
    monkeypatch.setattr("exporters.float16._largest", lambda *_: {})
    nodes = [("MatMul", "xb", "h", {}), ("MatMul", "hs", "y", {})]
    weights = {"b": np.full((4, 4), 3e4, np.float32), "s": np.full((4, 3), 1e-5, np.float32)}
    model = network(made, nodes, weights, ("n", 4))
    with pytest.raises(exporters.VariantRefused, match=r"differs from the model by .* on row \d+ \(worst of 9 rows"):
        exporters.with_float16(described(model, np.full((9, 4), 2, np.float32)), engine)


def test_branches_and_what_they_read_stay_in_float32(made, engine):
    """A graph inside of a node reads what is around it by name."""
    inner = helper.make_graph(
        [helper.make_node("Add", ["h", "c"], ["out"])], "then", [], [helper.make_tensor_value_info("out", FLOAT, None)]
    )
    other = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["same"])],
        "else",
        [],
        [helper.make_tensor_value_info("same", FLOAT, None)],
    )
    nodes = [
        ("MatMul", "xc", "h", {}),
        ("MatMul", "hc", "g", {}),
        ("If", ["yes"], ["i"], {"then_branch": inner, "else_branch": other}),
        ("Mul", "gi", "y", {}),
    ]
    weights = {"c": RANDOM.normal(size=(4, 4)).astype(np.float32), "yes": np.array(True)}
    rows = RANDOM.normal(size=(4, 4)).astype(np.float32)
    model = made(nodes, {"x": (FLOAT, [4, 4])}, {"y": (FLOAT, [4, 4])}, weights).SerializeToString()
    made_half = halved_by_graph(model)
    assert halves(made_half) == {"g"}
    np.testing.assert_allclose(reference(made_half, rows), reference(model, rows), rtol=2e-2, atol=2e-2)


def test_functions_old_files_and_constant_nodes_are_read(made):
    """Initializers that are inputs too, as old files have them, and constants that are nodes."""
    value = numpy_helper.from_array(W, "any")
    nodes = [("Constant", [], "c", {"value": value}), ("MatMul", "xc", "h", {}), ("Mul", "hk", "y", {})]
    proto = made(nodes, {"x": (FLOAT, ["n", 4]), "k": (FLOAT, [])}, {"y": (FLOAT, ["n", 3])}, {"k": np.float32(2)})
    proto.ir_version = 3
    model = halved_by_graph(proto.SerializeToString())
    assert halves(model) == {"h", "y/float16"}
    rows = RANDOM.normal(size=(4, 4)).astype(np.float32)
    np.testing.assert_allclose(reference(model, rows), 2 * rows @ W, rtol=2e-2, atol=2e-2)
    assert [value.name for value in onnx.load_model_from_string(model).graph.input] == ["x"]


def test_weights_in_files_of_their_own_come_inside(made, tmp_path):
    onnx.save(
        onnx.load_model_from_string(network(made)),
        tmp_path / "m.onnx",
        save_as_external_data=True,
        location="w",
        size_threshold=0,
    )
    read = network_of((tmp_path / "m.onnx").read_bytes(), {"w": tmp_path / "w"})
    model = halved(read, chosen(read)).SerializeToString()
    assert model == halved_by_graph(network(made))


def test_halves_and_graphs_without_products_are_refused(made, engine):
    nodes = [("Relu", "x", "y", {})]
    with pytest.raises(exporters.VariantRefused, match="no product or convolution"):
        exporters.with_float16(described(network(made, nodes, {}, ("n", 4), ("n", 4)), ROWS[:, 0, 0, :4]), engine)
    with pytest.raises(exporters.VariantRefused, match="it holds half precision already"):
        network_of(halved_by_graph(network(made)))
    bare = described(network(made)).but(background=None)
    with pytest.raises(exporters.InvalidImport, match="give some, or a background"):
        exporters.with_float16(bare, engine)


def test_a_variant_is_explained_by_the_same_methods_on_its_own_file(variant, engine):
    """Compiled from the variant, complete, and as near to the model's own as its answers are."""

    def explained(model):
        outputs = {"y": engine.run(exporters.running.artifact_of(model, variant.manifest), {"x": ROWS}).outputs["y"]}
        return explain.attribute(
            model,
            {"x": ROWS},
            method="deeplift",
            run=functools.partial(exporters.running.run, engine),
            baseline={"x": ROWS[:1] * 0},
            outputs=outputs,
            space="probability",
        )

    half, own = explained(variant.float16), explained(variant.model)
    assert max(row["completeness_gap_relative"] for row in half.quality) < 1e-4
    assert max(abs(row["forward_gap"]) for row in half.quality) < 1e-2
    scale = np.abs(own.values["x"]).max()
    np.testing.assert_allclose(half.values["x"] / scale, own.values["x"] / scale, atol=2e-2)


def test_the_gate_and_the_methods_are_asked_of_the_variant(variant, made, engine, tmp_path):
    with pytest.raises(RefusedModel):
        exporters.register(Store(tmp_path), variant.but(float16=b"junk"))
    other = network(made, [*NETWORK[:-1], ("Ceil", ["scores"], ["y"], {})])
    with pytest.raises(exporters.VariantRefused, match=r"cannot be explained by \w+: "):
        check_variant(variant.but(float16=other))
    version = exporters.register(Store(tmp_path), variant)
    assert version.file("model_float16") == variant.float16
    again = exporters.exported_of(version.preferring("float16"))
    assert (again.model, again.float16) == (variant.model, variant.float16)
    assert {path.name for path in exporters.write(variant, tmp_path / "out")} >= {"model.onnx", "model_float16.onnx"}


def test_a_certificate_says_how_far_the_variant_is(variant, engine):
    found = exporters.verify(variant, engine, quick=True, methods=["saliency"])
    assert found["float16"]["passed"]
    assert 0 < found["float16"]["gradient"]["median"] <= found["float16"]["gradient"]["worst"] < 0.05
    assert found["float16"]["model"] == variant.manifest.lineage["float16"]["model"]
    graph = onnx.load_model_from_string(variant.float16)
    for tensor in graph.graph.initializer:
        if tensor.name == "w":
            tensor.CopyFrom(numpy_helper.from_array((W * 3).astype(np.float16), "w"))
    failed = exporters.verify(variant.but(float16=graph.SerializeToString()), engine, quick=True, methods=["saliency"])
    assert failed["passed"] is False
    assert failed["float16"]["gradient"]["median"] > 0.5
    assert any(failure.startswith("float16: largest difference") for failure in failed["failures"])
