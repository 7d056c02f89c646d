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
    assert len(found) >= 20
    for figure in found:
        assert {"n", "worst", "row", "tolerance", "passed", "what"} <= set(figure)
        assert figure["row"] in evidence.rows
        assert figure["passed"] is (figure["worst"] <= figure["tolerance"]) is True
    assert certified.certificate["passed"]
    assert certified.certificate["failures"] == []


def test_distributions_have_their_quartiles(certified):
    gap = certified.certificate["methods"]["integrated_gradients"]["completeness"]
    assert gap["n"] == 8
    assert 0 <= gap["lower_quartile"] <= gap["median"] <= gap["upper_quartile"] <= gap["worst"]


def test_what_was_judged_by_whom_and_what_was_not(certified):
    """Every method of the small network has a judge; what has none says why."""
    methods = certified.certificate["methods"]
    judged = {name: each["judged_by"]["name"] for name, each in methods.items() if each["judged_by"]}
    assert set(judged) == set(certified.manifest.explanation.methods)
    assert judged["exact_shap"] == judged["rise"] == judged["occlusion"] == "predictions of the served file"
    assert judged["saliency"] == judged["gradient_shap"] == "torch.autograd in float64"
    assert judged["deeplift"] == judged["deep_shap"] == "the rescale rule in torch, float64"
    assert all(each["judged_by"]["version"] for each in methods.values())
    assert methods["exact_shap"]["completeness"]["worst"] <= 1e-5
    assert methods["saliency"]["completeness"] == "not judged: its values are not meant to add up"
    assert methods["saliency"]["randomisation"].startswith("not judged: ")
    assert certified.certificate["coverage"]["differentiable"]


def test_it_is_json_and_the_same_each_time_but_for_the_clock(certified, exported, evidence, engine, small):
    again = exporters.certify(exported, evidence, engine, network=small.network)
    both = [json.loads(each.files()["certificate"]) for each in (certified, again)]
    assert both[0]["schema_version"] == 2
    assert both[0].keys() >= {"created", "seconds", "versions", "runtime", "rows"}
    for each in both:
        del each["created"], each["seconds"]
    assert both[0] == both[1]


def test_without_a_network_differences_of_predictions_judge(exported, evidence, engine):
    certificate = exporters.certify(exported, evidence, engine).certificate
    assert certificate["gradients"]["autograd"] == "not judged: there is no source network"
    assert certificate["gradients"]["finite_difference"]["passed"]
    methods = certificate["methods"]
    by = {name for name, each in methods.items() if (each["judged_by"] or {}).get("name", "").startswith("central")}
    assert {"saliency", "input_x_gradient", "integrated_gradients", "expected_gradients", "gradient_shap"} <= by
    assert methods["deeplift"]["judge"] == "not judged: it needs the source network, which is not here"
    assert certificate["passed"]


def test_a_method_that_its_judge_contradicts_is_not_offered(exported, evidence, engine, small):
    """The judge here is another network, so every gradient looks wrong; predictions are those of the served file."""
    torch.manual_seed(11)
    other = torch.nn.Sequential(torch.nn.Linear(3, 6), torch.nn.Tanh(), torch.nn.Linear(6, 2))
    certified = exporters.certify(exported, evidence, engine, network=other)
    told = certified.manifest.explanation
    assert not certified.certificate["gradients"]["autograd"]["passed"]
    assert not any("gradient" in explain.METHODS[name].needs for name in told.methods)
    assert {"kernel_shap", "exact_shap", "rise"} <= set(told.methods)
    assert "failed its check" in told.refused["saliency"]
    assert "failed its check" in told.refused["smooth_grad"]
    assert told.method == "exact_shap"
    assert certified.certificate["withheld"].keys() == set(told.refused) & set(certified.certificate["methods"])
    assert certified.certificate["passed"], "what is not offered is no failure of what is"


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
    assert certified.certificate["methods"]["saliency"]["passed"] is False


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
