"""`glasshouse import`: a file from anywhere becomes a version that is predicted with and explained."""

from __future__ import annotations

import json

import pytest

import model_store


def test_a_file_alone_is_imported_and_says_what_is_missing(glasshouse, onnx_file, home):
    done = glasshouse("import", onnx_file, "--name", "plane")
    assert done.exit_code == 0, done.output
    version = model_store.Store(home / "var" / "store", create=False).resolve("plane")
    first, *sentences = done.output.splitlines()
    assert first == f"plane version 1 (model {version.model_digest}) is in {home / 'var' / 'store'}"
    assert all(sentence.startswith("- ") for sentence in sentences)
    assert any(sentence.startswith("- Rows can be joined in one run") for sentence in sentences)
    assert any(sentence.startswith("- Not offered: ") for sentence in sentences)
    assert version.manifest.batching.mode == "item"
    done = glasshouse("predict", "plane", "--row", "[2, 3, 4]", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["predictions"] == [[-2.0]]


def test_a_background_names_the_columns_and_brings_shap(glasshouse, onnx_file, home):
    (home / "rows.csv").write_text("age,height,weight\n0,0,0\n1,1,1\n")
    done = glasshouse("import", onnx_file, "--name", "plane", "--background", "rows.csv")
    assert done.exit_code == 0, done.output
    done = glasshouse(
        "explain", "plane", "--method", "exact_shap", "--row", '{"age": 2, "height": 3, "weight": 4}', "--json"
    )
    assert done.exit_code == 0, done.output
    attributions = json.loads(done.output)["explanations"][0]["attributions"]
    assert [entry["feature"] for entry in attributions] == ["age", "height", "weight"]
    assert [entry["attribution"] for entry in attributions] == pytest.approx([1.5, -5.0, 1.75], abs=1e-5)


def test_importing_again_is_a_new_version(glasshouse, onnx_file, store):
    assert glasshouse("import", onnx_file, "--name", "linear").output.startswith("linear version 2 ")
    assert [version.version for version in store.versions("linear")] == [1, 2]


def test_a_written_manifest_is_taken(glasshouse, onnx_file, store, home):
    (home / "m.json").write_bytes(store.resolve("linear").manifest.to_bytes())
    done = glasshouse("import", onnx_file, "--name", "plane", "--manifest", "m.json")
    assert done.exit_code == 0, done.output
    manifest = store.resolve("plane").manifest
    assert manifest.description == "a plane"
    assert [feature.name for feature in manifest.features] == ["age", "height", "[bold]weight[/bold]"]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["linear.onnx"], 2, "Missing option '--name'"),
        (["gone.onnx", "--name", "a"], 2, "gone.onnx cannot be read"),
        (["junk.onnx", "--name", "a"], 4, "Error: "),
        (["linear.onnx", "--name", "no/name"], 2, "Error: "),
        (["linear.onnx", "--name", "a", "--manifest", "bad.json"], 2, "Error: manifest bad.json"),
        (["linear.onnx", "--name", "a", "--background", "gone.csv"], 2, "Error: background gone.csv"),
        (["linear.onnx", "--name", "a", "--background", "bad.json"], 2, "Error: background bad.json"),
    ],
)
def test_what_cannot_be_imported_is_refused(glasshouse, onnx_file, home, arguments, code, text):
    (home / "junk.onnx").write_bytes(b"no model at all")
    (home / "bad.json").write_text("{}")
    done = glasshouse("import", *arguments)
    assert done.exit_code == code, done.output
    assert text in done.output
    assert "Traceback" not in done.output


def test_a_float16_variant_is_made_on_request(glasshouse, onnx_file, home):
    """Held against the model on the background, or on rows that are given; without any it is refused."""
    refused = glasshouse("import", onnx_file, "--name", "plane", "--float16")
    assert refused.exit_code == 2
    assert "held against the model on real rows" in refused.output
    (home / "rows.json").write_text("[[1, 2, 3], [0.5, 0, 1]]")
    done = glasshouse("import", onnx_file, "--name", "plane", "--float16", "--rows", "rows.json")
    assert done.exit_code == 0, done.output
    assert "- A float16 variant: 1 of 1 nodes compute in float16; it differs from the model by at most " in done.output
    version = model_store.Store(home / "var" / "store", create=False).resolve("plane")
    assert version.precisions == ("float32", "float16")
    assert version.manifest.lineage["float16"]["n"] == 2
    asked = glasshouse("import", onnx_file, "--name", "plane", "--rows", "rows.json")
    assert asked.exit_code == 2
    assert "give --float16" in asked.output
    verified = glasshouse("verify", "plane", "--rows", "rows.json", "--quick")
    assert "float16 variant against the model: passed" in verified.output
