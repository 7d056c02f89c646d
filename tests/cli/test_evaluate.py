"""`glasshouse evaluate`: medians, worst rows and the randomisation test, for people and as JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest

ROWS = [[2.0, 3.0, 4.0], [0.0, 1.0, -1.0], [1.0, 1.0, 2.0], [5.0, 0.0, 0.5]]
WEIGHT = np.array([1.0, -2.0, 0.5])


def areas(background):
    """Deletion areas of a plane: the value less the contributions, the largest first, step by step."""
    found = []
    for row in ROWS:
        phi = np.sort(WEIGHT * (np.array(row) - background.mean(axis=0)))[::-1]
        curve = WEIGHT @ row - np.concatenate([[0.0], np.cumsum(phi)])
        found.append(np.trapezoid(curve, dx=1 / 3))
    return np.array(found)


def test_the_figures_are_those_of_the_rows(glasshouse, store, home):
    (home / "rows.json").write_text(json.dumps(ROWS))
    common = ["evaluate", "linear", "--rows", "@rows.json", "--method", "exact_shap"]
    done = glasshouse(*common, "--check", "deletion_insertion", "--check", "infidelity", "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.output)
    expected = areas(np.array([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]))
    deletion = report["figures"]["deletion_auc"]
    assert deletion["median"] == pytest.approx(np.median(expected), abs=1e-5)
    assert deletion["worst"] == pytest.approx(expected.max(), abs=1e-5)
    assert deletion["worst_row"] == expected.argmax()
    assert report["figures"]["infidelity"]["worst"] == pytest.approx(0.0, abs=1e-9)
    assert report["randomisation"]["kind"] == "per_unit"
    assert len(report["randomisation"]["seeds"]) == 3
    shown = glasshouse(*common, "--draws", "1")
    assert shown.exit_code == 0, shown.output
    assert "linear version 1, exact_shap, 4 rows" in shown.output
    for name in ("deletion_auc", "max_sensitivity", "with random weights (rank correlation, per_unit, 1 draws)"):
        assert name in shown.output


def test_a_method_that_compares_with_nothing_and_no_random_copies(glasshouse, store):
    asked = ["evaluate", "linear/1", "--rows", json.dumps(ROWS), "--method", "saliency", "--draws", "0", "--json"]
    done = glasshouse(*asked, "--parameter", "absolute=false")
    assert done.exit_code == 0, done.output
    report = json.loads(done.output)
    assert report["randomisation"] is None
    assert report["figures"]["max_sensitivity"]["worst"] == 0.0
    assert report["parameters"] == {"absolute": False}


@pytest.mark.parametrize(
    ("rows", "method", "code", "text"),
    [
        ("[]", "saliency", 2, "--rows: expected a JSON list of rows, at least one"),
        ("[[1, 2]]", "saliency", 2, "Error: "),
        ("[[1, 2, 3]]", "guess", 2, "method: came 'guess', expected one of"),
        ("[[1, 2, 3]]", "grad_cam", 4, "method grad_cam is not offered for this model"),
    ],
)
def test_what_is_refused(glasshouse, store, rows, method, code, text):
    done = glasshouse("evaluate", "linear", "--rows", rows, "--method", method)
    assert done.exit_code == code, done.output
    assert text in done.output
