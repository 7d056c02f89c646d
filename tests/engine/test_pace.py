"""What is learned from runs, and how the lanes share the time."""

from __future__ import annotations

import pytest

from engine.pace import DEBT_SECONDS, Pace, Share


def test_pace_is_learned_and_recent_runs_count_most():
    pace = Pace(remembered=2)
    assert pace.items_within(("a",), 0.05) == 1
    pace.learn(("a",), items=10, seconds=0.1)
    assert pace.items_within(("a",), 0.05) == 5
    pace.learn(("a",), items=10, seconds=0.3)
    assert pace.items_within(("a",), 0.05) == 2
    pace.learn(("b",), 1, 0.001)
    pace.learn(("c",), 1, 0.001)
    assert pace.items_within(("a",), 0.05) == 1
    pace.learn(("d",), 1, 0.0)
    assert pace.items_within(("d",), 0.05) > 1000


def test_the_shortest_run_is_remembered_and_slowly_forgotten():
    pace = Pace()
    assert pace.shortest_run(("a",)) is None
    for seconds in (0.5, 0.001, 0.4):
        pace.learn(("a",), 1, seconds)
    assert pace.shortest_run(("a",)) == pytest.approx(0.001 * 1.02)
    for _ in range(500):
        pace.learn(("a",), 1, 0.4)
    assert pace.shortest_run(("a",)) == pytest.approx(0.4)


def play(share, predict, explain, runs):
    """Both lanes always wait; the seconds each of them got."""
    account, got = Share(share), {"predict": 0.0, "explain": 0.0}
    for _ in range(runs):
        lane = account.turn(explain)
        seconds = predict if lane == "predict" else explain
        got[lane] += seconds
        account.ran(lane, seconds, other_waited=True)
    return got


@pytest.mark.parametrize("share", [0.05, 0.1, 0.5])
@pytest.mark.parametrize(("predict", "explain"), [(0.01, 0.05), (0.2, 0.05), (0.05, 0.05)])
def test_explanations_get_their_share_and_no_more(share, predict, explain):
    got = play(share, predict, explain, 5000)
    assert got["explain"] / (got["explain"] + got["predict"]) == pytest.approx(share, rel=0.05)


def test_without_a_share_predictions_always_go_first():
    assert play(0.0, 0.01, 0.05, 500)["explain"] == 0


def test_time_that_nobody_waited_for_counts_for_nothing_and_debts_are_bounded():
    account = Share(0.5)
    account.ran("predict", 10.0, other_waited=False)
    assert account.turn(0.05) == "predict"
    account.ran("explain", 100.0, other_waited=True)
    account.ran("predict", DEBT_SECONDS + 0.05, other_waited=True)
    assert account.turn(0.05) == "explain"
