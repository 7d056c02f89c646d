"""No row is in two parts, each part has its share of each class, and the seed decides which rows."""

import numpy as np
import pytest

from training.data import Dataset
from training.split import split, stratified


def dataset(labels, parts=None, name="made"):
    return Dataset(name, "a test", "0" * 64, {"x": np.zeros((len(labels), 1), np.float32)}, labels, lambda _: [], parts)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_row_is_in_one_part(seed):
    parts = split(dataset(np.random.default_rng(seed).integers(0, 3, 501)), task="classification", seed=seed)
    together = np.concatenate([parts.train, parts.validation, parts.test])
    assert sorted(together.tolist()) == list(range(501))


def test_classes_keep_their_shares():
    labels = np.repeat([0, 1], [900, 100])
    parts = split(dataset(labels), task="classification", seed=3)
    assert [(labels[rows] == 1).sum() for rows in (parts.train, parts.validation, parts.test)] == [65, 15, 20]


def test_values_are_spread_alike():
    values = np.random.default_rng(0).gamma(2.0, 50.0, 440).astype(np.float32)
    parts = split(dataset(values), task="regression", seed=1)
    spreads = [values[rows].std() for rows in (parts.train, parts.validation, parts.test)]
    assert max(spreads) / min(spreads) < 1.15
    assert [len(rows) for rows in (parts.train, parts.validation, parts.test)] == [286, 66, 88]


def test_the_seed_and_the_name_decide_and_nothing_else():
    labels = np.repeat([0, 1], 100)
    first = stratified(labels, seed=5, name="a").test
    assert first.tolist() == stratified(labels, seed=5, name="a").test.tolist()
    assert first.tolist() != stratified(labels, seed=6, name="a").test.tolist()
    assert first.tolist() != stratified(labels, seed=5, name="b").test.tolist()


def test_the_publishers_split_is_kept():
    parts = split(dataset(np.zeros(6, np.int64), np.array([0, 2, 1, 0, 2, 0])), task="classification", seed=9)
    assert [rows.tolist() for rows in (parts.train, parts.validation, parts.test)] == [[0, 3, 5], [2], [1, 4]]


def test_a_class_of_one_row_is_trained_on():
    assert 10 in stratified(np.array([0] * 10 + [1]), seed=0).train
