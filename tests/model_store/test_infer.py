"""Drafts of manifests from files alone: nothing guessed, and what is not known is said."""

import numpy as np
import pytest
from msgspec import structs
from onnx import TensorProto, helper, numpy_helper

from model_store import (
    Batching,
    ExplanationDefaults,
    InvalidManifest,
    Manifest,
    RefusedModel,
    check_model,
    infer_manifest,
)

ITEM = {"x": 0, "y": 0}


def build(inputs, outputs, nodes=None, metadata=None, denotation="", **more):
    """A model of given inputs and outputs: name -> (type, shape). The nodes only have to be there."""
    values = [helper.make_tensor_value_info(name, *spec) for name, spec in inputs.items()]
    for value in values:
        value.type.denotation = denotation
    results = [helper.make_tensor_value_info(name, *spec) for name, spec in outputs.items()]
    nodes = nodes or [helper.make_node("Identity", [next(iter(inputs))], [name]) for name in outputs]
    model = helper.make_model(helper.make_graph(nodes, "g", values, results, **more), producer_name="maker")
    if metadata:
        helper.set_model_props(model, metadata)
    return model.SerializeToString()


FLOAT, INT64, UINT8, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.UINT8, TensorProto.STRING


def test_a_table_gets_features_by_number():
    manifest, unsure = infer_manifest(build({"x": (FLOAT, ["n", 3])}, {"y": (FLOAT, ["n", 1])}), "m", batch_axes=ITEM)
    assert (manifest.inputs[0].kind, [f.name for f in manifest.features]) == ("tabular", ["f0", "f1", "f2"])
    assert (manifest.inputs[0].shape, manifest.outputs[0].kind) == (["n", 3], "value")
    assert any("names no columns" in sentence for sentence in unsure)
    assert any("'y'" in sentence for sentence in unsure)
    assert manifest.lineage == {"producer": "maker"}
    assert Manifest.from_bytes(manifest.to_bytes()) == manifest


def test_columns_that_are_inputs_of_their_own_give_their_names():
    inputs = {"age": (FLOAT, [None, 1]), "visits": (INT64, [None, 1]), "rest": (FLOAT, [None, 2])}
    axes = dict.fromkeys([*inputs, "y"], 0)
    manifest, _ = infer_manifest(build(inputs, {"y": (FLOAT, [None, 4])}), "m", batch_axes=axes)
    assert [(f.name, f.input, f.index) for f in manifest.features] == [
        ("age", "age", 0),
        ("visits", "visits", 0),
        ("rest.0", "rest", 0),
        ("rest.1", "rest", 1),
    ]


@pytest.mark.parametrize(
    ("op", "kind"),
    [("Softmax", "probabilities"), ("Sigmoid", "probabilities"), ("LogSoftmax", "logits"), ("Relu", "tensor")],
)
def test_the_last_operator_tells_what_an_output_is(op, kind):
    nodes = [helper.make_node(op, ["x"], ["a"]), helper.make_node("Identity", ["a"], ["y"])]
    data = build({"x": (FLOAT, ["n", 3])}, {"y": (FLOAT, ["n", 3])}, nodes)
    manifest, unsure = infer_manifest(data, "m", batch_axes=ITEM)
    assert manifest.outputs[0].kind == kind
    assert any(("class names" in each) == (kind != "tensor") and "'y'" in each for each in unsure)


def test_a_picture_is_one_only_where_the_file_leaves_no_doubt():
    picture = {"x": (FLOAT, ["n", 3, 8, 9])}
    out = {"y": (FLOAT, ["n", 2])}
    manifest, unsure = infer_manifest(build(picture, out), "m", batch_axes=ITEM)
    assert manifest.inputs[0].kind == "tensor"
    assert any("8 x 9 pixels and 3 channels" in sentence for sentence in unsure)
    told = {"Image.BitmapPixelFormat": "Rgb8", "Image.NominalPixelRange": "Normalized_0_1"}
    manifest, _ = infer_manifest(build(picture, out, metadata=told, denotation="IMAGE"), "m", batch_axes=ITEM)
    image = manifest.inputs[0].image
    assert (image.height, image.width, image.mode, image.layout, image.scale) == (8, 9, "RGB", "NCHW", 1 / 255)
    for change in ({"Image.BitmapPixelFormat": "Bgr8"}, {"Image.NominalPixelRange": "NominalRange_16_235"}):
        data = build(picture, out, metadata={**told, **change}, denotation="IMAGE")
        assert infer_manifest(data, "m", batch_axes=ITEM)[0].inputs[0].kind == "tensor"
    grey = build({"x": (UINT8, ["n", 8, 9, 1])}, out)
    image = infer_manifest(grey, "m", batch_axes=ITEM)[0].inputs[0].image
    assert (image.mode, image.layout, image.scale) == ("L", "NHWC", 1.0)
    sound = build({"x": (FLOAT, ["n", 4, 8, 9])}, out)
    assert not any("pixels" in each for each in infer_manifest(sound, "m", batch_axes=ITEM)[1])


def test_fixed_batches_and_models_without_one_are_served_by_row():
    data = build({"x": (FLOAT, [1, 3])}, {"y": (FLOAT, [1, 1])})
    manifest, _ = infer_manifest(data, "m", batch_axes=ITEM, batching=Batching("row", "the batch is fixed at 1"))
    assert (manifest.inputs[0].shape, manifest.batching.mode) == ([1, 3], "row")
    with pytest.raises(InvalidManifest, match="batch_axis"):
        infer_manifest(data, "m", batch_axes=ITEM)
    free = build({"x": (FLOAT, [4, 3])}, {"y": (FLOAT, [])})
    manifest, _ = infer_manifest(free, "m", batch_axes={}, batching=Batching("row", "it has none"))
    assert (manifest.inputs[0].kind, manifest.inputs[0].batch_axis, manifest.features) == ("tensor", None, [])


def test_weights_are_no_inputs_and_free_axes_stay_free():
    weight = numpy_helper.from_array(np.ones(3, np.float32), "w")
    inputs = {"x": (FLOAT, ["n", 0, None]), "w": (FLOAT, [3])}
    data = build(inputs, {"y": (FLOAT, ["n", None, None])}, initializer=[weight])
    manifest, _ = infer_manifest(data, "m", batch_axes=ITEM)
    assert [(spec.name, spec.shape) for spec in manifest.inputs] == [("x", ["n", None, None])]


def test_what_is_no_tensor_of_numbers():
    with pytest.raises(RefusedModel, match="'x' is a tensor of STRING"):
        infer_manifest(build({"x": (STRING, ["n", 3])}, {"y": (STRING, ["n", 3])}), "m", batch_axes=ITEM)
    both = build({"x": (FLOAT, ["n", 3])}, {"y": (FLOAT, ["n", 3]), "label": (STRING, ["n"])})
    manifest, unsure = infer_manifest(both, "m", batch_axes=ITEM)
    assert [spec.name for spec in manifest.outputs] == ["y"]
    assert any("'label' is a tensor of STRING and is left out" in sentence for sentence in unsure)
    with pytest.raises(RefusedModel, match="none of the model's outputs"):
        infer_manifest(build({"x": (FLOAT, ["n"])}, {"label": (STRING, ["n"])}), "m", batch_axes=ITEM)


def test_a_shape_the_file_does_not_tell_is_inferred_told_or_missing():
    data = build({"x": (FLOAT, ["n", 3])}, {"y": (FLOAT, None)})
    assert check_model(data).nodes == 1
    assert infer_manifest(data, "m", batch_axes=ITEM)[0].outputs[0].shape == ["n", 3]
    nodes = [helper.make_node("Unknown", ["x"], ["y"], domain="other")]
    hidden = build({"x": (FLOAT, ["n", 3])}, {"y": (FLOAT, None)}, nodes)
    with pytest.raises(InvalidManifest, match="output 'y'"):
        infer_manifest(hidden, "m", batch_axes=ITEM)
    told = infer_manifest(hidden, "m", batch_axes=ITEM, shapes={"y": ["n", 7]})[0]
    assert told.outputs[0].shape == ["n", 7]


def test_a_bad_name_is_refused():
    with pytest.raises(InvalidManifest, match="name"):
        infer_manifest(build({"x": (FLOAT, ["n"])}, {"y": (FLOAT, ["n"])}), "../m", batch_axes=ITEM)


def test_masks_positions_and_caches_are_held():
    """By the names that exporters give them; a model of nothing else keeps its features."""
    names = ["input_ids", "attention_mask", "position_ids", "past_key_values.0.key"]
    made = build({name: (FLOAT, ["N", 2]) for name in names}, {"y": (FLOAT, ["N", 2])})
    draft, unsure = infer_manifest(made, "text", batch_axes=dict.fromkeys([*names, "y"], 0))
    assert draft.explanation.held == names[1:]
    assert any("'attention_mask', 'position_ids'" in sentence and "are no features" in sentence for sentence in unsure)
    alone = build({"attention_mask": (FLOAT, ["N", 2])}, {"y": (FLOAT, ["N", 2])})
    assert infer_manifest(alone, "m", batch_axes={"attention_mask": 0, "y": 0})[0].explanation.held == []
    for held, said in ((["other"], "expected some of"), (names, "names every input"), (names[1:2] * 2, "already")):
        with pytest.raises(InvalidManifest, match=said):
            structs.replace(draft, explanation=ExplanationDefaults(held=held)).validated()
