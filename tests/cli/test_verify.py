"""`glasshouse verify`: one screen, the certificate kept with the version, and an exit code that says how it went."""

from __future__ import annotations

import json

import numpy as np
import pytest

import explain
import model_store


def test_a_stored_model_passes_and_keeps_its_certificate(glasshouse, store, home):
    done = glasshouse("verify", "linear", "--quick")
    assert done.exit_code == 0, done.output
    assert "exact_shap" in done.output
    assert "predictions of the served file" in done.output
    assert "passed" in done.output
    found = store.resolve("linear")
    certificate = json.loads(found.certificate())
    assert certificate["model"] == found.model_digest
    assert certificate["passed"]
    assert found.certificate_digest in done.output
    assert store.verify() == []


def test_the_certificate_can_be_read_by_programs_and_need_not_be_kept(glasshouse, store, home):
    asked = ("verify", "linear", "--quick", "--json", "--no-store", "--methods", "exact_shap", "--output", "found.json")
    done = glasshouse(*asked)
    assert done.exit_code == 0, done.output
    printed = json.loads(done.output)
    assert list(printed["methods"]) == ["exact_shap"]
    assert json.loads((home / "found.json").read_text()) == printed
    assert store.resolve("linear").certificate() is None


def test_what_fails_is_said_and_ends_with_exit_code_1(glasshouse, store, home, monkeypatch):
    def attribute(*arguments, method, **options):
        found = original(*arguments, method=method, **options)
        if method == "exact_shap":
            found.values["x"][:, 0] += 1
        return found

    original = explain.attribute
    monkeypatch.setattr(explain, "attribute", attribute)
    done = glasshouse("verify", "linear", "--quick")
    assert done.exit_code == 1
    assert "failed: exact_shap: " in done.output
    assert json.loads(store.resolve("linear").certificate())["passed"] is False


def test_a_file_is_verified_on_its_rows(glasshouse, store, home):
    (home / "linear.onnx").write_bytes(store.resolve("linear").file("model"))
    np.savez(home / "rows.npz", x=np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32))
    done = glasshouse("verify", "linear.onnx", "--rows", "rows.npz", "--quick")
    assert done.exit_code == 0, done.output
    assert "Kept" not in done.output


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["linear.onnx"], 2, "give --rows"),
        (["nobody"], 3, "'nobody' is not in the store"),
        (["linear", "--version", "7"], 3, "no version 7"),
        (["linear", "--methods", "tea_leaves"], 2, "'tea_leaves' is not offered"),
        (["linear", "--rows", "none.json"], 2, "none.json cannot be read"),
        (["linear", "--limit", "0"], 2, "--limit"),
        (["linear", "--quick", "--seconds", "5"], 2, "one of --quick and --seconds"),
    ],
)
def test_what_cannot_be_verified_is_refused(glasshouse, store, home, arguments, code, said):
    done = glasshouse("verify", *arguments)
    assert (done.exit_code, said in done.output) == (code, True), done.output


def test_a_store_that_may_not_be_written_is_told(glasshouse, store, home, monkeypatch):
    def refuse(*_arguments):
        raise model_store.StoreUnavailable("the store cannot keep a certificate: Read-only file system")

    monkeypatch.setattr(model_store.Store, "set_certificate", refuse)
    done = glasshouse("verify", "linear", "--quick")
    assert done.exit_code == 5
    assert "Read-only file system" in done.output


def test_an_import_can_require_what_it_then_keeps(glasshouse, store, home):
    (home / "linear.onnx").write_bytes(store.resolve("linear").file("model"))
    rows = np.random.default_rng(0).normal(size=(20, 3))
    np.savetxt(home / "rows.csv", rows, delimiter=",", header="a,b,c", comments="")
    asked = ("import", "linear.onnx", "--name", "mine", "--require-certificate")
    refused = glasshouse(*asked)
    assert refused.exit_code == 2
    assert "give rows to measure on" in refused.output
    assert "mine" not in store.models()
    done = glasshouse(*asked, "--background", "rows.csv")
    assert done.exit_code == 0, done.output
    assert json.loads(store.resolve("mine").certificate())["passed"]


def test_an_import_whose_certificate_fails_is_refused(glasshouse, store, home, monkeypatch):
    (home / "linear.onnx").write_bytes(store.resolve("linear").file("model"))
    np.savetxt(home / "rows.csv", np.eye(3), delimiter=",", header="a,b,c", comments="")
    monkeypatch.setattr("exporters.verify", lambda *_arguments, **_options: {"passed": False, "failures": ["lime: no"]})
    asked = ("import", "linear.onnx", "--name", "mine", "--background", "rows.csv", "--require-certificate")
    refused = glasshouse(*asked)
    assert refused.exit_code == 4
    assert "lime: no" in refused.output
    assert "mine" not in store.models()
