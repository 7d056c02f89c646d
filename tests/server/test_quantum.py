"""Runs of explanations are bounded once for each model, and say so."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from server import Config, open_service
from server.messages import ExplainRequest, Rows
from server.quantum import MEASURED_ROWS, MOST_ROWS, rows_within

ASKED = ExplainRequest("flowers", None, Rows([[1.5, -0.5, "w"]]), method="integrated_gradients", seed=3)


@pytest.mark.parametrize(
    ("seconds", "start", "each", "rows"),
    [
        (0.02, 0.0, 0.030, 1),  # a row takes longer than a run should: one
        (0.02, 0.0, 0.005, 4),
        (0.02, 0.0, 0.0049, 4),
        (0.02, 0.010, 0.001, 8),  # what a run takes besides its rows counts
        (0.02, 0.050, 0.001, 1),
        (0.02, 0.0, 0.0, MOST_ROWS),
    ],
)
def test_as_many_rows_as_fit_rounded_down_to_a_power_of_two(
    seconds: float, start: float, each: float, rows: int
) -> None:
    assert rows_within(seconds, start + each, start + MEASURED_ROWS * each) == rows


def test_every_answer_says_the_same_bound_and_records_keep_it(config: Config) -> None:
    service = open_service(dataclasses.replace(config, cache_mib=0))
    answers = [service.explain(ASKED) for _ in range(3)]
    bounds = {answer.runs.run_rows for answer in answers}
    assert len(bounds) == 1
    assert bounds == {service.models.resolve("flowers", None).run_rows}
    (bound,) = bounds
    assert service.decision(answers[0].decisions[0]).entry["runtime"]["runs"]["run_rows"] == bound
    for answer in answers[1:]:
        np.testing.assert_array_equal(answer.values["x"], answers[0].values["x"])
    service.close()


def test_a_tight_bound_makes_more_runs_and_the_same_answer(config: Config) -> None:
    def explained(rows: int) -> Any:
        service = open_service(dataclasses.replace(config, audit="off", cache_mib=0))
        service.models.resolve("flowers", None).bound_runs(rows)
        answer = service.explain(ASKED)
        service.close()
        return answer

    wide, narrow = explained(4096), explained(1)
    assert narrow.runs.count > wide.runs.count + 10
    np.testing.assert_allclose(narrow.values["x"], wide.values["x"], rtol=0, atol=1e-6 * np.abs(wide.values["x"]).max())
