"""Cuts a data set into training, validation and test rows: by seed, and with each class in each part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .data import Array, Dataset

VALIDATION_SHARE = 0.15
TEST_SHARE = 0.20
_STRATUM = 20


@dataclass(frozen=True)
class Split:
    """Row numbers of the three parts; no row is in two of them."""

    train: Array
    validation: Array
    test: Array


def split(dataset: Dataset, *, task: str, seed: int) -> Split:
    """The publisher's split where there is one, else a stratified one drawn from ``seed``.

    Values are stratified over runs of 20 neighbours: each part then has the same range and spread, without which R²,
    a ratio to the spread of the part, would differ between splits for no reason of the model's.
    """
    if dataset.parts is not None:
        train, validation, test = (np.flatnonzero(dataset.parts == part) for part in range(3))
        return Split(train, validation, test)
    strata = dataset.labels
    if task == "regression":
        ranks = np.empty(len(strata), dtype=np.int64)
        ranks[np.argsort(strata, kind="stable")] = np.arange(len(strata))
        strata = ranks // _STRATUM
    return stratified(strata, seed=seed, name=dataset.name)


def stratified(strata: Array, *, seed: int, name: str = "") -> Split:
    """Each stratum is shuffled and cut by the same shares; at least one row of it is left for training.

    ``name`` gives every data set its own stream of random numbers, so that one seed is not lucky or unlucky for all.
    """
    random = np.random.default_rng([seed, *name.encode()])
    parts: tuple[list[Array], list[Array], list[Array]] = ([], [], [])
    for stratum in np.unique(strata):
        rows = random.permutation(np.flatnonzero(strata == stratum))
        test, validation = round(len(rows) * TEST_SHARE), round(len(rows) * VALIDATION_SHARE)
        parts[0].append(rows[test + validation :])
        parts[1].append(rows[test : test + validation])
        parts[2].append(rows[:test])
    train, held, last = (np.sort(np.concatenate(part)) for part in parts)
    return Split(train, held, last)
