"""What waits and what is next, as plain data."""

from __future__ import annotations

import numpy as np
import pytest

from engine.feeds import Checked
from engine.lanes import Lanes, Request
from engine.protocol import LANES


def request(key, items=1, lane="predict", deadline=None, arrived=0.0):
    checked = Checked({"x": np.zeros((items, 1))}, items, (key,), None, None, True)
    return Request(None, None, checked, lane, deadline, arrived)


def drained(lanes, limit):
    taken = []
    while group := next((group for lane in LANES for group in lanes.groups(lane)), None):
        taken.append([(waiting.checked.key[0], waiting.checked.items) for waiting in lanes.take(group, limit)])
    return taken


def test_groups_take_turns_and_predictions_come_first():
    lanes = Lanes()
    for key, lane in [("e", "explain"), ("a", "predict"), ("a", "predict"), ("a", "predict"), ("b", "predict")]:
        lanes.add(request(key, lane=lane))
    assert (lanes.items, lanes.requests) == (5, 5)
    assert drained(lanes, 2) == [[("a", 1), ("a", 1)], [("b", 1)], [("a", 1)], [("e", 1)]]
    assert (lanes.items, lanes.requests) == (0, 0)


def test_a_run_takes_whole_requests_in_order_and_at_least_one():
    lanes = Lanes()
    for items in (9, 2, 1, 2, 4):
        lanes.add(request("a", items))
    assert drained(lanes, 4) == [[("a", 9)], [("a", 2), ("a", 1)], [("a", 2)], [("a", 4)]]


def test_who_gives_up_is_gone():
    lanes = Lanes()
    stays, leaves = request("a", 2), request("a", 3)
    lanes.add(leaves)
    lanes.add(stays)
    lanes.remove(leaves)
    assert list(lanes) == [stays]
    assert (lanes.items, stays.waiting, leaves.waiting) == (2, True, False)
    lanes.remove(stays)
    assert list(lanes.groups("predict")) == []


@pytest.mark.parametrize(("deadline", "due"), [(None, 15.0), (100.0, 15.0), (15.0, 10.0), (12.0, 10.0)])
def test_a_group_is_due_after_its_first_request(deadline, due):
    lanes = Lanes()
    lanes.add(request("a", arrived=10.0))
    lanes.add(request("a", arrived=14.0, deadline=deadline))
    assert next(lanes.groups("predict")).due(5.0) == due
