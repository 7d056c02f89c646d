"""A certificate made anew: of a stored version and of a file, with randomisation and error bars, and what fails it."""

import dataclasses
import io
import json

import numpy as np
import pytest

import explain
import exporters
from exporters import effort, verifying
from exporters.case import case_of_arrays
from exporters.effort import Effort, Pace
from exporters.error_bars import error_bars
from exporters.randomisation import randomisation
from model_store import Store

SOME = Effort(rows=12, judged=2, random_rows=12, draws=2, seeded_rows=6, seeds=5, more=8, seconds=20.0)


@pytest.fixture
def stored(tmp_path, exported, evidence, engine, small):
    certified = exporters.certify(exported, evidence, engine, network=small.network)
    return exporters.register(Store(tmp_path / "store"), certified)


@pytest.fixture
def case(exported, engine):
    return case_of_arrays(exported, {"x": exported.background["x"][:12]}, list(range(12)), engine)


def test_a_stored_version_is_verified_on_its_own_rows(stored, engine):
    found = exporters.verify(stored, engine, quick=True)
    assert found["passed"]
    assert found["schema_version"] == 2
    assert found["model"] == stored.model_digest
    assert found["rows"]["n"] == 8
    assert len(found["rows"]["digest"]) == 64
    assert set(found["methods"]) == set(stored.manifest.explanation.methods)


def test_what_only_the_source_could_judge_stands_and_says_when_it_was_found(stored, engine):
    earlier = json.loads(stored.file("certificate"))
    found = exporters.verify(stored, engine, quick=True)
    assert found["parity"] == {**earlier["parity"], "found": earlier["created"]}
    assert found["gradients"]["autograd"]["found"] == earlier["created"]
    assert found["methods"]["deeplift"]["judge"]["found"] == earlier["created"]
    assert "found" not in found["methods"]["exact_shap"]["judge"]


def test_a_certificate_of_another_file_is_not_inherited(stored, engine):
    exported = exporters.exported_of(stored)
    other = exported.but(certificate={**exported.certificate, "model": "0" * 64})
    found = exporters.verify(other, engine, quick=True, methods=["deeplift"])
    assert found["parity"] == "not judged: the source model is not here"
    assert found["methods"]["deeplift"]["judge"] == "not judged: it needs the source network, which is not here"


def test_methods_and_rows_are_chosen(stored, engine):
    rows = {"x": np.ones((5, 3), np.float32)}
    said = []
    found = exporters.verify(
        stored, engine, rows=rows, limit=3, methods=["saliency", "exact_shap"], quick=True, tell=said.append
    )
    assert (list(found["methods"]), found["rows"]["n"], said) == (["saliency", "exact_shap"], 3, list(found["methods"]))
    with pytest.raises(exporters.InvalidImport, match="'tree_shap' is not offered"):
        exporters.verify(stored, engine, methods=["tree_shap"])


def test_without_any_row_there_is_nothing_to_measure(exported, engine):
    with pytest.raises(exporters.InvalidImport, match="give rows"):
        exporters.verify(exported.but(background=None, examples=()), engine)


def test_a_wrong_program_fails_the_certificate(stored, engine, monkeypatch):
    def attribute(*arguments, method, **options):
        found = original(*arguments, method=method, **options)
        if method == "exact_shap":
            found.values["x"][:, 0] *= 1.5
        return found

    original = explain.attribute
    monkeypatch.setattr(explain, "attribute", attribute)
    found = exporters.verify(stored, engine, quick=True)
    assert not found["passed"]
    assert found["methods"]["exact_shap"]["passed"] is False
    assert [failure.split(":")[0] for failure in found["failures"]] == ["exact_shap"]
    assert "attribution error against its definition on predictions" in found["failures"][0]


def test_rows_come_as_json_or_npz(stored):
    rows = [{"age": 1.0, "ratio": 2.0, "income": 3.0}, {"age": 4.0, "ratio": 5.0, "income": 6.0}]
    as_json = exporters.rows_of(stored.manifest, json.dumps(rows).encode(), "rows")
    packed = io.BytesIO()
    np.savez(packed, x=np.array([[1, 2, 3], [4, 5, 6]], np.float32))
    as_npz = exporters.rows_of(stored.manifest, packed.getvalue(), "rows")
    assert as_json["x"].tolist() == as_npz["x"].tolist() == [[1, 2, 3], [4, 5, 6]]
    for data, said in ((b"{", "rows.json: "), (b"PKnonsense", "no npz"), (b'[{"age": 1}]', "ratio")):
        with pytest.raises(exporters.InvalidImport, match=said):
            exporters.rows_of(stored.manifest, data, "rows.json")


def test_a_file_is_verified_on_the_rows_that_come_with_it(tmp_path, exported, engine):
    path = tmp_path / "model.onnx"
    path.write_bytes(exported.model)
    packed = io.BytesIO()
    np.savez(packed, x=exported.background["x"])
    subject, rows = exporters.file_with_rows(path, packed.getvalue(), engine)
    found = exporters.verify(subject, engine, rows=rows, quick=True)
    assert found["passed"]
    assert found["methods"]["exact_shap"]["judge"]["passed"]


def test_randomisation_tells_what_depends_on_the_weights(case):
    found = randomisation(case, "integrated_gradients", SOME, Pace(case))
    assert (found["n"], found["tolerance"], found["flagged"]) == (12, 0.5, False)
    assert found["passed"] is (found["median_spearman"] < 0.5)


def test_an_explanation_that_ignores_the_weights_fails_randomisation(case, monkeypatch):
    blind = explain.Mprt("saliency", "all", ("all",), (0,), dict.fromkeys(("absolute", "signed"), np.ones((1, 1, 12))))
    blind.correlation["per_unit"] = np.full((1, 1, 12), np.nan)
    monkeypatch.setattr(explain, "mprt", lambda *_arguments, **_options: blind)
    found = randomisation(case, "saliency", SOME, Pace(case))
    assert (found["median_spearman"], found["passed"], found["flagged"]) == (1.0, False, False)
    flagged = randomisation(case, "guided_backprop", SOME, Pace(case))
    assert (flagged["passed"], flagged["flagged"]) == (None, True)


def test_a_model_without_weights_is_not_randomised(case, monkeypatch):
    def mprt(*_arguments, **_options):
        raise explain.MethodUnavailable("the model has no weights to randomise")

    monkeypatch.setattr(explain, "mprt", mprt)
    assert randomisation(case, "exact_shap", SOME, Pace(case)) == "not judged: the model has no weights to randomise"


def test_error_bars_hold_what_they_say(case):
    found = error_bars(case, "expected_gradients", SOME, Pace(case))
    assert (found["n"], found["seeds"]) == (6, 5)
    assert 0.8 < found["share"] <= 1
    assert found["passed"] is (found["share"] >= 0.9)
    assert found["reasons"] == "not judged: the model has no named features, or so few that all are reasons"
    assert error_bars(case, "saliency", SOME, Pace(case)) == "not judged: it draws nothing"


def test_error_bars_that_are_too_narrow_fail(case, monkeypatch):
    def attribute(*arguments, **options):
        found = original(*arguments, **options)
        narrow = {name: half / 10 for name, half in found.half_widths.items()}
        return dataclasses.replace(found, half_widths=narrow)

    original = explain.attribute
    monkeypatch.setattr(explain, "attribute", attribute)
    found = error_bars(case, "expected_gradients", SOME, Pace(case))
    assert found["share"] < 0.5
    assert not found["passed"]


def test_reasons_are_those_of_the_default_method(case, monkeypatch):
    monkeypatch.setattr("exporters.error_bars.REASONS", 1)
    steady = error_bars(case, "kernel_shap", SOME, Pace(case))["reasons"]
    assert (steady["share"], steady["passed"]) == (1.0, None), "exact_shap is the default of this model"

    def attribute(*arguments, seed=0, **options):
        found = original(*arguments, seed=seed, **options)
        if seed == 3:
            found.values["x"][0] = found.values["x"][0, ::-1].copy()
        return found

    original = explain.attribute
    monkeypatch.setattr(explain, "attribute", attribute)
    moved = error_bars(case, "kernel_shap", SOME, Pace(case))["reasons"]
    assert moved["row"] == 0
    assert moved["worst"] == pytest.approx(0.2)
    assert moved["share"] == pytest.approx(5 / 6)


def test_no_more_rows_are_taken_than_there_is_time_for(case):
    pace = Pace(case, {("saliency", "[]"): 2.0})
    assert pace.rows(SOME, 100, "saliency") == 10
    assert pace.rows(SOME, 3, "saliency") == 3
    assert pace.rows(SOME, 100, "saliency", 30) == 0
    assert pace.rows(effort.QUICK, 100, "saliency") == 12, "no limit of time, only that of the rows there are"


def test_the_full_effort_is_what_verify_takes(stored, engine, monkeypatch):
    monkeypatch.setattr(verifying, "FULL", SOME)
    found = exporters.verify(stored, engine, methods=["saliency", "gradient_shap"])
    assert found["methods"]["saliency"]["randomisation"]["n"] == 12
    assert found["methods"]["gradient_shap"]["error_bars"]["n"] == 6
