"""`train` and `examples`: a recipe becomes a certified version, once."""

from __future__ import annotations

import json

import pytest

import model_store
import training


@pytest.fixture
def no_training(monkeypatch):
    """From now on training anything is an error."""

    def train(*_, **__):
        raise AssertionError("something was trained")

    monkeypatch.setattr("training.publish.train", train)
    monkeypatch.setattr(training, "train", train)


def test_a_recipe_becomes_a_certified_version(process, glasshouse, home, no_training):
    options = ("--epochs", "3", "--seed", "5", "--out", "out", "--store", "store", "--float16")
    done = process("train", "diabetes", *options)
    assert done.returncode == 0, done.stderr
    version = model_store.Store(home / "store", create=False).resolve("diabetes")
    assert f"diabetes version 1 (model {version.model_digest}) is in {home / 'store'}" in done.stdout
    assert "test_r2" in done.stdout
    assert version.manifest.lineage["seed"] == 5
    assert version.has("certificate")
    assert (home / "out" / "model.onnx").read_bytes() == version.file("model")
    assert (home / "out" / "model_float16.onnx").read_bytes() == version.file("model_float16")
    certificate = json.loads(version.certificate() or b"")
    assert certificate["float16"]["n"] == certificate["parity"]["n"] == 64
    assert certificate["float16"]["model"] == version.preferring("float16").model_digest
    assert json.loads((home / "out" / "training.json").read_text())["metrics"] == version.manifest.metrics
    again = glasshouse("examples", "diabetes", "--store", "store")
    assert (again.exit_code, again.output) == (0, "")


def test_examples_trains_what_is_missing_and_says_so(glasshouse, store, monkeypatch):
    asked = []

    def prepare(opened, names, *, data, epochs, tell):
        asked.append((opened.root, names, data, epochs))
        tell("tumour version 1: test accuracy 0.980 on 113 rows")

    monkeypatch.setattr(training, "prepare_examples", prepare)
    done = glasshouse("examples")
    assert done.output == "tumour version 1: test accuracy 0.980 on 113 rows\n"
    assert asked == [(store.root, None, None, None)]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["train", "nothing"], 2, "'nothing' is not one of"),
        (["train", "diabetes", "--epochs", "0"], 2, "Error: epochs"),
        (["train", "diabetes", "--seed", "-1"], 2, "Error: seed"),
        (["examples", "nothing"], 3, "nothing"),
        (["train", "credit", "--data", "gone"], 3, "Error: "),
    ],
)
def test_what_cannot_be_is_refused(glasshouse, home, arguments, code, text):
    done = glasshouse(*arguments)
    assert done.exit_code == code, done.output
    assert text in done.output
    assert "Traceback" not in done.output


def test_the_guard_of_these_tests_can_fail(glasshouse, home, no_training):
    assert glasshouse("train", "diabetes").exit_code == 70
