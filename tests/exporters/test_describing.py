"""A manifest is made of parts that fit (graph, specs, features, background), and what is offered follows from them."""

import json

import numpy as np
import pytest

import exporters
from exporters.offers import NO_BACKGROUND, NO_REFERENCE, offers, players
from exporters.references import baseline_of, groups_of
from model_store import Baseline, Feature, InputSpec, Level, Manifest, OutputSpec, RefusedModel, Store

REMOVING = ("lime", "feature_ablation", "occlusion", "rise")

ROWS = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)


@pytest.fixture
def parts(exported):
    return {
        "model": exported.model,
        "name": "small",
        "inputs": exported.manifest.inputs,
        "outputs": exported.manifest.outputs,
        "features": exported.manifest.features,
        "background": {"x": ROWS},
    }


def describe(parts, **changes):
    given = {**parts, **changes}
    return exporters.describe(given.pop("model"), **given)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"inputs": [InputSpec("z", "tabular", "float32", ["N", 3], 0)]},
            r"inputs: described \['z'\], the graph has \['x'\]",
        ),
        ({"inputs": [InputSpec("x", "tabular", "int64", ["N", 3], 0)]}, "input 'x': described int64"),
        ({"inputs": [InputSpec("x", "tensor", "float32", ["N", 3, 1], 0)]}, "input 'x': described float32"),
        ({"outputs": [OutputSpec("p", "value", "float32", ["N", 2], 0)]}, "outputs: described"),
        ({"background": {"y": ROWS}}, r"background: has \['y'\], expected \['x'\]"),
        ({"background": {"x": ROWS[:, :2]}}, r"background 'x': float32 \[2\] per row, expected float32 \[3\]"),
        ({"background": {"x": ROWS.astype(np.float64)}}, "background 'x': float64"),
        ({"background": {"x": ROWS[:0]}}, "expected one number of at least 1"),
        ({"features": [Feature(name="a", input="x", index=0)]}, "cannot be described: .*features"),
        ({"name": "no name/at all"}, "cannot be described: .*name"),
    ],
)
def test_parts_that_do_not_fit_are_refused(parts, changes, message):
    with pytest.raises(exporters.InvalidExport, match=message):
        describe(parts, **changes)


def test_an_output_is_described_by_the_graph(exported):
    spec = exporters.output_spec(exported.model, "probabilities", "probabilities", unit="share")
    assert (spec.dtype, spec.shape, spec.batch_axis, spec.unit) == ("float32", ["N", 2], 0, "share")
    with pytest.raises(exporters.InvalidExport, match="no output 'other'"):
        exporters.output_spec(exported.model, "other", "value")


def test_without_a_background_its_methods_are_not_offered_and_zeros_are_nobodys_baseline(parts):
    told = describe(
        parts, background=None, baseline=Baseline("background_mean"), method="exact_shap"
    ).manifest.explanation
    smoothed = ["smooth_grad", "smooth_grad_squared", "var_grad", "deeplift", "guided_backprop"]
    assert told.methods == ["saliency", "input_x_gradient", "integrated_gradients", *smoothed]
    compared = ("exact_shap", "kernel_shap", "permutation_shap", "sampling_shap", "partition_shap")
    assert {told.refused[name] for name in (*compared, "deep_shap", "expected_gradients", "gradient_shap")} == {
        NO_BACKGROUND
    }
    assert {told.refused[name] for name in REMOVING} == {NO_REFERENCE}
    assert told.baseline is None
    assert told.method == "saliency"


def test_a_constant_baseline_is_enough_to_remove_features(parts):
    told = describe(parts, background=None, baseline=Baseline("constant", 0.5)).manifest.explanation
    assert set(REMOVING) <= set(told.methods)
    assert told.refused["kernel_shap"] == NO_BACKGROUND


def test_exact_shap_is_offered_up_to_twelve_players(parts):
    inputs = [InputSpec("x", "tabular", "float32", ["N", 13], 0)]
    single = [Feature(name=f"f{place}", input="x", index=place) for place in range(13)]
    paired = [Feature(name=f"f{place}", input="x", index=place, group=f"g{place // 2}") for place in range(13)]
    assert players(inputs, single) == players(inputs, []) == 13
    assert players(inputs, paired) == 7
    assert players([InputSpec("x", "series", "float32", ["N", "T"], 0)], []) is None
    specs = {"inputs": parts["inputs"], "outputs": parts["outputs"], "background": parts["background"]}
    offered, _ = offers(parts["model"], **specs, features=parts["features"])
    assert "exact_shap" in offered


def test_numbers_get_the_range_of_training_and_categories_keep_their_levels(exported):
    ranges = {feature.name: (feature.minimum, feature.maximum) for feature in exported.manifest.features}
    assert ranges["age"][0] < ranges["age"][1]
    assert len(ranges) == 3


def manifest(**changes):
    fields = {
        "name": "m",
        "inputs": [
            InputSpec("numbers", "tabular", "float32", ["N", 2], 0),
            InputSpec("codes", "tabular", "int64", ["N", 2], 0),
        ],
        "outputs": [OutputSpec("y", "value", "float32", ["N"], 0)],
        "features": [
            Feature(name="a", input="numbers", index=0, group="first"),
            Feature(name="b", input="numbers", index=1),
            Feature(name="c", input="codes", index=0, kind="category", levels=[Level("u"), Level("v")], group="first"),
            Feature(name="d", input="codes", index=1, kind="category", levels=[Level("u"), Level("v")]),
        ],
    }
    return Manifest(**{**fields, **changes})


def test_groups_span_inputs_and_a_feature_without_one_is_its_own():
    numbers, names = groups_of(manifest())
    assert names == ["first", "b", "d"]
    assert {name: array.tolist() for name, array in numbers.items()} == {"numbers": [0, 1], "codes": [0, 2]}
    assert groups_of(manifest(features=[])) is None


def test_the_centre_of_codes_is_the_most_frequent():
    background = {
        "numbers": np.array([[1, 10], [2, 20], [6, 30]], np.float32),
        "codes": np.array([[0, 1], [1, 1], [1, 0]]),
    }
    told = type(manifest().explanation)(baseline=Baseline("background_mean"))
    found = baseline_of(manifest(explanation=told), background)
    assert {name: array.tolist() for name, array in found.items()} == {"numbers": [[3, 20]], "codes": [[1, 1]]}
    assert baseline_of(manifest(explanation=told), None) is None
    assert baseline_of(manifest(), background) is None
    constant = type(told)(baseline=Baseline("constant", 2.0))
    assert baseline_of(manifest(explanation=constant), None)["numbers"].tolist() == [[2, 2]]


def test_files_are_the_same_bytes_each_time_and_read_back(exported, tmp_path):
    assert exported.files() == exported.files()
    written = exporters.write(exported, tmp_path / "new")
    assert {path.name for path in written} == {"model.onnx", "background.npz", "examples.json", "manifest.json"}
    with np.load(tmp_path / "new" / "background.npz") as packed:
        assert packed["x"].tolist() == exported.background["x"].tolist()
    assert Manifest.from_bytes((tmp_path / "new" / "manifest.json").read_bytes()) == exported.manifest
    assert json.loads((tmp_path / "new" / "examples.json").read_text())[0]["label"] == "no"


def test_a_folder_that_cannot_be_written_is_an_export_error(exported, tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(exporters.ExportError, match="could not be written"):
        exporters.write(exported, tmp_path / "taken")


def test_registering_publishes_what_the_gate_lets_pass(exported, tmp_path):
    store = Store(tmp_path)
    version = exporters.register(store, exported)
    assert (version.version, version.file("model")) == (1, exported.model)
    assert exporters.register(store, exported).version == 2
    assert store.verify() == []


def test_the_gate_is_asked_first(exported, tmp_path):
    store = Store(tmp_path)
    with pytest.raises(RefusedModel):
        exporters.register(store, exported.but(model=b"no model"))
    assert store.models() == []
