"""The certificate holds what was measured, with the row that was worst, and a method that fails is not offered."""

import json

import numpy as np
import pytest
import torch

import explain
import exporters
from exporters import checks
from exporters.case import case_of


@pytest.fixture
def certified(exported, evidence, engine, small):
    return exporters.certify(exported, evidence, engine, network=small.network)


def figures(report):
    if isinstance(report, dict) and "worst" in report:
        yield report
    elif isinstance(report, dict):
        for each in report.values():
            yield from figures(each)


def test_every_figure_has_its_n_worst_row_tolerance_and_verdict(certified, evidence):
    found = list(figures(certified.certificate))
    assert len(found) >= 8
    for figure in found:
        assert set(figure) == {"n", "worst", "row", "tolerance", "passed", "what"}
        assert figure["row"] in evidence.rows
        assert figure["passed"] is (figure["worst"] <= figure["tolerance"]) is True


def test_what_was_judged_and_what_was_not(certified):
    methods = certified.certificate["methods"]
    judged = {name for name, each in methods.items() if each["judge"] != "not judged"}
    assert judged == {"saliency", "input_x_gradient", "integrated_gradients"}
    for name in ("exact_shap", "permutation_shap", "partition_shap"):
        assert methods[name]["completeness"]["worst"] <= 1e-5
    assert methods["lime"]["completeness"] == methods["sampling_shap"]["completeness"] == "not judged"
    assert not [name for name, report in methods.items() if "refused" in report]
    assert methods["saliency"]["completeness"] == "not judged"
    assert certified.certificate["randomisation"] == "not judged"
    assert certified.certificate["coverage"]["differentiable"]


def test_it_is_json_and_the_same_each_time(certified, exported, evidence, engine, small):
    again = exporters.certify(exported, evidence, engine, network=small.network)
    assert again.files()["certificate"] == certified.files()["certificate"]
    assert json.loads(certified.files()["certificate"])["schema_version"] == 1


def test_without_a_network_there_is_no_judge(exported, evidence, engine):
    certificate = exporters.certify(exported, evidence, engine).certificate
    assert certificate["gradients"]["autograd"] == "not judged"
    assert certificate["gradients"]["finite_difference"]["passed"]
    assert {each["judge"] for each in certificate["methods"].values()} == {"not judged"}


def test_a_method_that_its_judge_contradicts_is_not_offered(exported, evidence, engine, small):
    """The judge here is another network, so every gradient looks wrong."""
    torch.manual_seed(11)
    other = torch.nn.Sequential(torch.nn.Linear(3, 6), torch.nn.Tanh(), torch.nn.Linear(6, 2))
    certified = exporters.certify(exported, evidence, engine, network=other)
    told = certified.manifest.explanation
    assert not certified.certificate["gradients"]["autograd"]["passed"]
    assert told.methods == [
        name for name, method in explain.METHODS.items() if not {"gradient", "trees", "affine"} & method.needs
    ]
    assert "failed its check" in told.refused["saliency"]
    assert "the gradient failed its check" in told.refused["smooth_grad"]
    assert told.method == "exact_shap"


def test_a_method_that_refuses_a_real_row_is_not_offered(exported, evidence, engine, small, monkeypatch):
    def attribute(*arguments, method, **options):
        if method == "saliency" and options.get("absolute") is None:
            raise explain.InvalidParameter("saliency: not today")
        return original(*arguments, method=method, **options)

    original = explain.attribute
    monkeypatch.setattr(explain, "attribute", attribute)
    certified = exporters.certify(exported, evidence, engine, network=small.network)
    assert "saliency" not in certified.manifest.explanation.methods
    assert certified.manifest.explanation.refused["saliency"] == "saliency: not today"
    assert certified.certificate["methods"]["saliency"]["refused"] == "saliency: not today"


def test_an_unfaithful_model_gets_no_certificate(exported, evidence, engine):
    wrong = exporters.Evidence(evidence.rows, evidence.instances, {"probabilities": np.full((20, 2), 0.5)})
    with pytest.raises(exporters.ParityFailed):
        exporters.certify(exported, wrong, engine)


def test_a_wrong_gradient_is_seen_by_finite_differences(exported, evidence, engine, monkeypatch):
    honest = checks.gradients(case_of(exported, evidence, engine, 4), None)["finite_difference"]
    assert honest["worst"] < 1e-2

    def attribute(*arguments, **options):
        found = original(*arguments, **options)
        found.values["x"][:, 1] *= 3
        return found

    original = explain.attribute
    monkeypatch.setattr(explain, "attribute", attribute)
    wrong = checks.gradients(case_of(exported, evidence, engine, 4), None)["finite_difference"]
    assert wrong["worst"] > wrong["tolerance"]
    assert not wrong["passed"]


@pytest.mark.parametrize(
    ("link", "answer", "expected"),
    [
        ("softmax", [0.2, 0.5, 0.3], np.log(0.5 / 0.2)),
        ("sigmoid", [0.2, 0.5, 0.8], 0.0),
        ("identity", [4.0, -2.5, 1.0], -2.5),
    ],
)
def test_the_explained_value_is_read_from_the_models_own_output(link, answer, expected):
    assert checks._value(np.array(answer), np.array([1, 0]), link) == pytest.approx(expected)
