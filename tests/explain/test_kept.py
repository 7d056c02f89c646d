"""What is kept is found again, and is never more than was said."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

from explain.methods import kept
from explain.methods.coalitions import sample_coalitions


class Block:
    """So many numbers."""

    def __init__(self, size: int) -> None:
        self.size = size


def test_results_are_made_once_while_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "NUMBERS", 100)
    made: list[int] = []

    @kept.kept(lambda block: block.size)
    def block(size: int, number: int) -> Block:
        made.append(number)
        return Block(size)

    first = block(40, 1)
    assert block(40, 1) is first
    block(40, 2)
    assert block(40, 1) is first  # asked for last
    block(40, 3)
    assert made == [1, 2, 3]
    assert block(40, 1) is first
    block(40, 2)
    assert made == [1, 2, 3, 2]
    large = block(1000, 4)
    assert block(1000, 4) is large  # the newest, whatever its size
    seen = weakref.ref(large)
    del large, first
    block(10, 5)
    gc.collect()
    assert seen() is None
    block(40, 1)
    assert made == [1, 2, 3, 2, 4, 5, 1]


def test_samples_of_many_columns_do_not_pile_up() -> None:
    refs = []
    for seed in range(4):
        sample = sample_coalitions(900, 2 * 900 + 2048, seed)
        assert sample.listed.size + sample.pairs.size > kept.NUMBERS / 2
        refs.append(weakref.ref(sample))
        del sample
    gc.collect()
    assert [ref() is None for ref in refs] == [True, True, True, False]
    small = sample_coalitions(14, 200, 0)
    assert sample_coalitions(14, 200, 0) is small
    assert not np.array_equal(sample_coalitions(14, 200, 1).pairs, small.pairs)
