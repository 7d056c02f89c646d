"""What one more prediction would wait, against queues whose pace is known."""

from __future__ import annotations

import pytest

from server import flow
from server.flow import ALWAYS, Flow


class Clock:
    """A `time` that goes when it is told."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(flow, "time", found)
    return found


def busy(clock: Clock, made: Flow, waiting: int, seconds: float, together: int = 1, answers: int = 400) -> None:
    """`waiting` are under way all the time, and `together` are answered each `together` * `seconds`."""
    for _ in range(waiting):
        made.begin()
    for _ in range(answers // together):
        clock.now += together * seconds
        for _ in range(together):
            made.end()
        for _ in range(together):
            made.begin()


@pytest.mark.parametrize(("waiting", "seconds", "together"), [(10, 0.01, 1), (50, 0.01, 4), (200, 0.001, 8)])
def test_the_wait_is_what_littles_law_says(clock: Clock, waiting: int, seconds: float, together: int) -> None:
    made = Flow(1.0)
    busy(clock, made, waiting, seconds, together)
    assert made.wait() == pytest.approx(waiting * seconds, rel=0.15)


def test_it_is_full_beyond_its_seconds_but_never_below_the_number_that_may_always_wait(clock: Clock) -> None:
    made = Flow(0.5)
    busy(clock, made, ALWAYS - 1, 1.0)
    assert made.wait() > 0.5
    assert not made.full
    made.begin()
    assert made.full
    quick = Flow(0.5)
    busy(clock, quick, 400, 0.001)
    assert not quick.full


def test_what_was_idle_between_is_no_pace(clock: Clock) -> None:
    made = Flow(0.5)
    for _ in range(100):
        made.begin()
        clock.now += 0.01
        made.end()
        clock.now += 60
    for _ in range(2 * ALWAYS):
        made.begin()
    assert not made.full, "nothing is known yet"
    assert made.under_way == 2 * ALWAYS
