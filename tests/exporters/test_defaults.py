"""What a model is explained by unless somebody says otherwise: by its kind, and never with zeros nobody chose."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto

import explain
import exporters
from exporters.defaults import default_groups, default_removal, kind_of, preferred
from exporters.references import compared
from exporters.running import run
from model_store import Baseline, Feature, ImageSpec, InputSpec

EVERYTHING = list(explain.METHODS)
POINT = Baseline("constant", 0.5)


def picture(size, mode="L", layout="NCHW"):
    image = ImageSpec(height=size, width=size, mode=mode, layout=layout)
    return InputSpec("image", "image", "float32", ["N", *image.item_shape], 0, image)


ROW = InputSpec("x", "tabular", "float32", ["N", 3], 0)
IDS = InputSpec("ids", "text", "int64", ["N", "T"], 0)
SERIES = InputSpec("s", "series", "float32", ["N", 4, 50], 0)
CODES = InputSpec("c", "tabular", "int64", ["N", 2], 0)


@pytest.mark.parametrize(
    ("inputs", "features", "kind"),
    [
        ([picture(8)], (), "image"),
        ([InputSpec("x", "tensor", "float32", ["N", 3, "H", "W"], 0)], (), "image"),
        ([ROW], (), "columns"),
        ([ROW, picture(8)], (), "image"),
        ([IDS], (), "tokens"),
        ([IDS, InputSpec("mask", "tensor", "int64", ["N", "T"], 0)], (), "tokens"),
        ([CODES], [Feature(name="a", input="c", index=0)], "columns"),
        ([SERIES], (), "series"),
        ([InputSpec("x", "tensor", "float32", ["N", 7], 0)], (), "columns"),
    ],
)
def test_kinds_of_models(inputs, features, kind):
    assert kind_of(inputs, features) == kind


@pytest.mark.parametrize(
    ("inputs", "offered", "baseline", "method"),
    [
        ([ROW], EVERYTHING, POINT, "tree_shap"),
        ([ROW], [name for name in EVERYTHING if "tree" not in name], POINT, "linear_shap"),
        ([ROW], ["saliency", "integrated_gradients", "deep_shap", "exact_shap"], POINT, "deep_shap"),
        ([ROW], ["saliency", "integrated_gradients", "exact_shap"], POINT, "integrated_gradients"),
        ([ROW], ["saliency", "integrated_gradients", "lime"], None, "saliency"),
        ([ROW], ["kernel_shap", "exact_shap", "permutation_shap", "lime"], None, "permutation_shap"),
        ([picture(8)], EVERYTHING, POINT, "grad_cam"),
        ([picture(8)], ["saliency", "integrated_gradients", "permutation_shap"], POINT, "integrated_gradients"),
        ([picture(8)], ["occlusion", "permutation_shap", "partition_shap"], None, "partition_shap"),
        ([IDS], EVERYTHING, POINT, "integrated_gradients"),
        ([IDS], ["saliency", "integrated_gradients"], None, "saliency"),
        ([SERIES], EVERYTHING, POINT, "integrated_gradients"),
        ([ROW], ["deeplift"], None, None),
        ([ROW], [], POINT, None),
    ],
)
def test_a_kind_has_its_method_if_it_can_answer_alone(inputs, offered, baseline, method):
    assert preferred(inputs, (), offered, baseline) == method


def test_pictures_are_removed_in_pieces_and_give_way_to_themselves():
    sizes = {8: False, 12: False, 28: "patches", 64: "patches", 65: "superpixels", 224: "superpixels"}
    for size, kind in sizes.items():
        assert default_groups([picture(size)]) == (kind and {kind: {"count": 50}})
    assert default_removal([picture(28)], None) == "mean"
    assert default_removal([picture(224)], None) == {"blur": {"sigma": 10}}
    assert default_removal([picture(224)], {"image": np.zeros((1, 1, 224, 224))}) is None
    for inputs in ([ROW], [IDS], [SERIES], [picture(28), ROW]):
        assert (default_groups(inputs), default_removal(inputs, None)) == (False, None)


@pytest.fixture
def reader(made):
    """Two logits of a picture 28 x 28, its channels last: a kernel, a ReLU, a mean."""
    draw = np.random.default_rng(4)
    nodes = [
        ("Transpose", ["image"], ["first"], {"perm": [0, 3, 1, 2]}),
        ("Conv", ["first", "kernel"], ["seen"], {"pads": [1, 1, 1, 1]}),
        ("Relu", ["seen"], ["active"], {}),
        ("ReduceMean", ["active", "axes"], ["logits"], {"keepdims": 0}),
    ]
    weights = {"kernel": draw.normal(size=(2, 3, 3, 3)).astype(np.float32), "axes": np.array([2, 3], dtype=np.int64)}
    ends = {"image": (TensorProto.FLOAT, ["N", 28, 28, 3])}, {"logits": (TensorProto.FLOAT, ["N", 2])}
    model: onnx.ModelProto = made(nodes, *ends, weights)
    return model.SerializeToString()


def described(reader, **changes):
    output = exporters.output_spec(reader, "logits", "logits", class_names=["a", "b"])
    return exporters.describe(
        reader, name="reader", inputs=[picture(28, "RGB", "NHWC")], outputs=[output], **changes
    ).manifest


def test_a_picture_without_a_background_offers_what_removes_its_pieces(reader, engine):
    manifest = described(reader)
    told = manifest.explanation
    assert (told.method, told.groups, told.removal) == ("grad_cam", {"patches": {"count": 50}}, "mean")
    assert {"partition_shap", "kernel_shap", "permutation_shap", "occlusion", "lime", "rise"} <= set(told.methods)
    assert {"deep_shap", "expected_gradients", "exact_shap"} <= set(told.refused)
    images = np.random.default_rng(1).uniform(size=(2, 28, 28, 3)).astype(np.float32)
    for method in ("partition_shap", "feature_ablation", "occlusion"):
        given = compared(explain.METHODS[method].needs, manifest, None, None)
        layout = {"layout": "NHWC"} if method == "occlusion" else {}
        found = explain.attribute(
            reader, {"image": images}, method=method, run=lambda *step: run(engine, *step), **given, **layout
        )
        shape = found.values["groups" if method != "occlusion" else "image"].shape
        assert shape == ((2, 49) if method != "occlusion" else (2, 28, 28, 3))
        if method == "partition_shap":
            total = found.values["groups"].sum(axis=1) + found.base_values
            np.testing.assert_allclose(total, found.explained_value, atol=1e-5)


def test_what_is_said_goes_before_the_kind(reader):
    told = described(reader, groups=False, removal={"constant": 0.5}, method="saliency").explanation
    assert (told.groups, told.removal, told.method) == (False, {"constant": 0.5}, "saliency")
    rows = {"image": np.zeros((2, 28, 28, 3), dtype=np.float32)}
    assert described(reader, background=rows).explanation.removal is None
