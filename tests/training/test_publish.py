"""From a recipe to a version in the store, once; and no second price for what is there."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import explain
from engine import InProcessEngine
from model_store import Store, decode_rows
from training import RECIPES, default_examples, prepare_examples

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def engine():
    engine = InProcessEngine(max_batch=256, threads=1)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def versions(store, engine):
    said = []
    made = prepare_examples(store, ["tumour", "digits"], epochs=2, engine=engine, progress=False, tell=said.append)
    assert [sentence.split(":")[0] for sentence in said] == ["tumour version 1", "digits version 1"]
    return {version.name: version for version in made}


def test_each_is_a_whole_version(store, versions):
    assert store.models() == ["digits", "tumour"]
    for version in versions.values():
        assert set(version.manifest.files) == {"model", "background", "examples", "certificate"}
        assert version.manifest.lineage["recipe"] == version.name
        assert 0 <= version.manifest.metrics["test_accuracy"] <= 1
    assert store.verify() == []


def test_what_the_store_has_is_not_trained_again(store, versions):
    assert prepare_examples(store, ["tumour", "digits"]) == []
    assert len(store.versions("tumour")) == 1


def test_looking_imports_neither_torch_nor_scikit_learn(store, versions):
    code = (
        "import sys, training; from model_store import Store;"
        f"print(training.prepare_examples(Store({str(store.root)!r}), ['tumour', 'digits']));"
        "print(sorted({'torch', 'sklearn', 'lightning', 'onnxruntime', 'skl2onnx'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "[]"]


def test_defaults_and_offers(versions):
    tumour, digits = versions["tumour"].manifest.explanation, versions["digits"].manifest.explanation
    assert (tumour.method, tumour.groups, tumour.baseline.kind) == ("exact_shap", True, "background_mean")
    assert (digits.method, digits.baseline.kind, digits.baseline.value) == ("grad_cam", "constant", 0.0)
    assert {"integrated_gradients", "saliency", "kernel_shap"} <= set(tumour.methods) & set(digits.methods)
    assert "12" in digits.refused["exact_shap"]
    assert "convolution" in tumour.refused["grad_cam"]


def test_numbers_know_their_range_in_training(versions):
    area = next(feature for feature in versions["tumour"].manifest.features if feature.name == "mean_area")
    assert 100 < area.minimum < area.maximum < 3000
    assert (area.unit, area.group) == ("pixels²", "area")


def test_the_certificate_is_green(versions):
    for version in versions.values():
        certificate = json.loads(version.file("certificate"))
        assert certificate["model"] == version.model_digest
        assert certificate["parity"]["passed"]
        assert certificate["parity"]["n"] == 64
        assert certificate["gradients"]["autograd"]["passed"]
        assert certificate["gradients"]["finite_difference"]["passed"]
        assert certificate["methods"]["integrated_gradients"]["judge"]["passed"]
        assert set(certificate["methods"]) == set(version.manifest.explanation.methods)
        assert certificate["passed"]
        assert certificate["failures"] == []
        assert not any("refused" in report for report in certificate["methods"].values())


def test_an_example_can_be_sent_and_explained(versions, engine):
    """The groups' SHAP values and the base value add up to what is explained."""
    version = versions["tumour"]
    manifest = version.manifest
    instances = [example["instance"] for example in json.loads(version.file("examples"))]
    inputs = decode_rows(manifest, instances).inputs
    background = dict(np.load(io.BytesIO(version.file("background"))))
    names = list(dict.fromkeys(feature.group for feature in manifest.features))
    groups = {"features": np.array([names.index(feature.group) for feature in manifest.features])}
    found = explain.attribute(
        version.file("model"),
        inputs,
        method="exact_shap",
        run=lambda program, feeds: engine.run(program, feeds).outputs,
        background=background,
        groups=groups,
        group_names=names,
    )
    total = found.base_values + found.values["groups"].sum(axis=1)
    assert total == pytest.approx(found.explained_value, rel=1e-5, abs=1e-6)


def test_examples_that_need_a_data_folder_wait_for_one(tmp_path, monkeypatch):
    assert default_examples() == ["tumour", "digits", "diabetes"]
    assert default_examples(tmp_path) == list(RECIPES)
    monkeypatch.setenv("GLASSHOUSE_DATA", str(tmp_path))
    assert default_examples() == list(RECIPES)


def test_credit_is_certified_with_its_codes(tmp_path, real_data, engine):
    (version,) = prepare_examples(Store(tmp_path), ["credit"], data=real_data, epochs=2, engine=engine, progress=False)
    certificate = json.loads(version.file("certificate"))
    assert certificate["parity"]["passed"]
    assert certificate["gradients"]["autograd"]["passed"]
    assert version.manifest.explanation.method == "kernel_shap"
    assert [spec.dtype for spec in version.manifest.inputs] == ["float32", "int64"]
