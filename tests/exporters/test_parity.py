"""An export that does not answer as its source does is refused, whichever part of the way is at fault."""

import base64
import io

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from PIL import Image

import exporters
from exporters.parity import figure
from model_store import Feature, ImageSpec, InputSpec, Level


def with_weights(exported, change):
    """The export with its first matrix changed."""
    read = onnx.load_model_from_string(exported.model)
    tensor = next(each for each in read.graph.initializer if len(each.dims) == 2)
    tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), tensor.name))
    return exported.but(model=read.SerializeToString())


def with_features(exported, features, **changes):
    fields = {name: getattr(exported.manifest, name) for name in type(exported.manifest).__struct_fields__}
    return exported.but(manifest=type(exported.manifest)(**{**fields, "features": features, **changes}))


def test_a_faithful_export_passes(exported, evidence, engine):
    found = exporters.parity(exported, evidence, engine)
    assert (found.passed, found.n) == (True, 20)
    assert found.worst < 1e-6


def test_wrong_weights_are_refused_with_the_worst_row(exported, evidence, engine):
    with pytest.raises(exporters.ParityFailed, match=r"differs from its source by .* on row 1\d\d") as caught:
        exporters.parity(with_weights(exported, lambda matrix: matrix * 1.01), evidence, engine)
    assert caught.value.worst > caught.value.tolerance == 1e-4
    assert caught.value.row in evidence.rows


def test_the_worst_row_is_the_worst(exported, evidence, engine):
    wrong = evidence.expected["probabilities"].copy()
    wrong[7, 1] += 0.25
    wrong[3, 0] += 0.125
    with pytest.raises(exporters.ParityFailed) as caught:
        exporters.parity(
            exported, exporters.Evidence(evidence.rows, evidence.instances, {"probabilities": wrong}), engine
        )
    assert (caught.value.row, caught.value.worst) == (107, pytest.approx(0.25, abs=1e-6))


def test_a_wrong_order_of_features_is_refused(exported, evidence, engine):
    swapped = [
        Feature(name=feature.name, input="x", index={0: 2, 2: 0}.get(feature.index, feature.index))
        for feature in exported.manifest.features
    ]
    with pytest.raises(exporters.ParityFailed):
        exporters.parity(with_features(exported, swapped), evidence, engine)


def test_a_wrong_scale_is_seen_even_if_it_is_small(exported, evidence, engine):
    with pytest.raises(exporters.ParityFailed):
        exporters.parity(with_weights(exported, lambda matrix: matrix + 2e-3), evidence, engine)
    assert exporters.parity(with_weights(exported, lambda matrix: matrix + 1e-6), evidence, engine).passed


def test_an_answer_that_is_no_number_is_refused(exported, evidence, engine):
    with pytest.raises(exporters.ParityFailed):
        exporters.parity(with_weights(exported, lambda matrix: matrix * np.nan), evidence, engine)


def test_an_output_of_another_shape_is_refused(exported, evidence, engine):
    flat = exporters.Evidence(evidence.rows, evidence.instances, {"probabilities": np.zeros((20, 3))})
    with pytest.raises(exporters.InvalidExport, match=r"the source answers \[20, 3\]"):
        exporters.parity(exported, flat, engine)


def test_a_row_the_decoder_refuses_is_an_invalid_export(exported, evidence, engine):
    odd = exporters.Evidence([1], [{"age": 1.0}], {"probabilities": np.zeros((1, 2))})
    with pytest.raises(exporters.InvalidExport, match="refuses a real row"):
        exporters.parity(exported, odd, engine)


@pytest.fixture
def lookup(made):
    """Answers 10, 20 or 30 for the codes 0, 1, 2; clients send a, b or c, which the source coded in that order."""
    table = np.array([10, 20, 30], np.float32)
    codes, value = {"codes": (TensorProto.INT64, ["N", 1])}, {"value": (TensorProto.FLOAT, ["N", 1])}
    data = made([("Gather", ["table", "codes"], ["value"], {})], codes, value, {"table": table}).SerializeToString()

    def build(levels):
        grade = Feature(name="grade", kind="category", input="codes", index=0, levels=[Level(each) for each in levels])
        return exporters.describe(
            data,
            name="lookup",
            inputs=[InputSpec("codes", "tabular", "int64", ["N", 1], 0)],
            outputs=[exporters.output_spec(data, "value", "value")],
            features=[grade],
        )

    return build


def test_a_wrong_order_of_levels_is_refused(lookup, engine):
    expected = {"value": np.array([[30.0], [10.0], [20.0]])}
    evidence = exporters.Evidence([0, 1, 2], [{"grade": grade} for grade in "cab"], expected)
    assert exporters.parity(lookup("abc"), evidence, engine).passed
    with pytest.raises(exporters.ParityFailed, match="by 10 on row"):
        exporters.parity(lookup("acb"), evidence, engine)


@pytest.fixture
def picture(made):
    """Answers the mean pixel."""

    def build(scale):
        nodes = [("ReduceMean", ["image", "axes"], ["value"], {"keepdims": 0})]
        image, value = {"image": (TensorProto.FLOAT, ["N", 1, 4, 5])}, {"value": (TensorProto.FLOAT, ["N"])}
        data = made(nodes, image, value, {"axes": np.array([1, 2, 3])}).SerializeToString()
        spec = InputSpec("image", "image", "float32", ["N", 1, 4, 5], 0, ImageSpec(4, 5, "L", "NCHW", scale))
        output = exporters.output_spec(data, "value", "value")
        return exporters.describe(data, name="grey", inputs=[spec], outputs=[output])

    return build


def test_pictures_are_judged_from_their_png_bytes(picture, engine):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 4, 5), dtype=np.uint8)
    instances = []
    for each in pixels:
        out = io.BytesIO()
        Image.fromarray(each).save(out, "PNG")
        instances.append({"b64": base64.b64encode(out.getvalue()).decode()})
    evidence = exporters.Evidence(range(6), instances, {"value": pixels.mean(axis=(1, 2))})
    assert exporters.parity(picture(1.0), evidence, engine, tolerance=1e-3).passed
    with pytest.raises(exporters.ParityFailed):
        exporters.parity(picture(1 / 255), evidence, engine, tolerance=1e-3)


def test_a_figure_names_the_row_of_its_worst_case():
    found = figure(np.array([0.1, 0.5, 0.2]), [11, 12, 13], 0.4, "something")
    assert (found.n, found.worst, found.row, found.passed) == (3, 0.5, 12, False)
    assert figure(np.array([0.1, np.nan]), [1, 2], 10.0, "x").row == 2
    assert not figure(np.array([0.1, np.nan]), [1, 2], 10.0, "x").passed
    assert figure(np.array([0.4]), [1], 0.4, "x").passed
