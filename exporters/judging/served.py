"""The explained value by the served file alone, and what coalitions of groups are worth by it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

import explain

from ..case import Case
from ..exported import Array
from ..references import groups_of
from ..running import CHECK_BATCH
from .verdict import Unjudged

ROUNDED = 1e-4  # 1 − p in float32 is wrong by 6e-8
HELD = 1 << 22  # elements of mixed rows that are held at once


@dataclass(frozen=True)
class Served:
    """What is explained, read from predictions of the served file.

    Logits are not among a classifier's outputs, but their differences are: log p_a − log p_b is the logit of a less
    that of b. So each row's best class is explained against its second. Behind a Sigmoid it is log p − log(1 − p), or
    where p is rounded to 1 the probability, and otherwise the output itself. `target` and `space` ask explain/ for the
    same; `link` says how the output is read.
    """

    case: Case
    pairs: Array
    target: explain.Target
    space: str | None
    link: str

    @classmethod
    def choices(cls, case: Case) -> list[Served]:
        """What can be explained, the best for a comparison first. Raises Unjudged for a Softmax over one class."""
        link = case.model.explained(case.output).link
        return [cls.of(case, link), cls.of(case, "identity")] if link == "sigmoid" else [cls.of(case, link)]

    @classmethod
    def of(cls, case: Case, link: str | None = None) -> Served:
        """Behind a Sigmoid the probability, unless its `link` is named."""
        own = case.model.explained(case.output).link
        space = "probability" if own == "sigmoid" and link != "sigmoid" else None
        link = link or ("identity" if own == "sigmoid" else own)
        ranked = np.argsort(-case.answer, axis=1, kind="stable")
        if link == "softmax" and (ranked.shape[1] < 2 or case.outputs[case.output].ndim > 2):
            raise Unjudged("the classes of the output are not the only ones on its axis, or it has only one")
        pairs = ranked[:, :2] if link == "softmax" else ranked[:, :1]
        return cls(case, pairs, case.target_at(pairs), space, link)

    def value(self, inputs: Mapping[str, Array], items: Array) -> Array:
        """f float64 [M] of inputs [M, ...item], each with the target of the item [M] it was made from."""
        case, parts = self.case, []
        for start in range(0, len(items), CHECK_BATCH):
            some = {name: array[start : start + CHECK_BATCH] for name, array in inputs.items()}
            answer = case.answered(some)[case.output]
            parts.append(answer.reshape(len(answer), -1).astype(np.float64))
        chosen = np.take_along_axis(np.concatenate(parts), self.pairs[items], axis=1)
        if self.link == "identity":
            return np.asarray(chosen[:, 0])
        p, rest = chosen[:, 0], chosen[:, 1] if self.link == "softmax" else 1 - chosen[:, 0]
        if (np.minimum(p, rest) <= (ROUNDED if self.link == "sigmoid" else 0)).any():
            raise Unjudged("the served file rounds a probability to 0 or 1, which has no logit")
        return np.asarray(np.log(p) - np.log(rest))


@dataclass(frozen=True)
class Players:
    """Who shares: by input the group [item...] of each element, and how many groups; `declared` where explain/ is to
    be told of them, and is not to take every element for one."""

    groups: Mapping[str, Array]
    count: int
    declared: bool

    @classmethod
    def of(cls, case: Case, most: int) -> Players:
        """The manifest's groups or the elements, where they are at most so many; else as many runs of elements."""
        given = groups_of(case.manifest) if case.manifest.explanation.groups is True else None
        if given is not None and len(given[1]) <= most:
            return cls(given[0], len(given[1]), True)
        sizes = {name: array[0].size for name, array in case.inputs.items()}
        total, start, groups = sum(sizes.values()), 0, {}
        elements = given is None and total <= most
        for name, size in sizes.items():
            numbers = np.arange(start, start + size)
            numbers = numbers if elements else numbers * min(most, total) // total
            groups[name] = numbers.reshape(case.inputs[name].shape[1:])
            start += size
        return cls(groups, min(most, total), not elements)

    @property
    def options(self) -> dict[str, object]:
        """What tells explain/ of them."""
        return {"groups": dict(self.groups) if self.declared else None, "group_names": None}

    def shaped(self, phi: Array) -> dict[str, Array]:
        """Values [N, G] as explain/ names them."""
        return {"groups": phi} if self.declared else {name: phi[:, index] for name, index in self.groups.items()}


@dataclass(frozen=True)
class Game:
    """Players of each row of the case: those that a coalition lacks are replaced by `rows` [B, ...item], in turn."""

    served: Served
    players: Players
    rows: Mapping[str, Array]

    def worths(self, masks: Array, rows: Array | None = None) -> Array:
        """[N, K]: the mean over the rows (or that of row number rows [K] alone) of f with coalitions [K, G] kept."""
        items = len(self.served.pairs)
        found = np.zeros((items, len(masks)))
        for item in range(items):
            for part in self._parts(len(masks)):
                found[item, part] = self._some(item, masks[part], None if rows is None else rows[part])
        return found

    def _parts(self, count: int) -> Iterator[slice]:
        elements = sum(array[:1].size for array in self.rows.values())
        step = max(1, HELD // (elements * len(next(iter(self.rows.values())))))
        return (slice(start, start + step) for start in range(0, count, step))

    def _some(self, item: int, masks: Array, rows: Array | None) -> Array:
        """Each mask beside each row: [K · B, ...item] through the model, and the mean over B."""
        mixed, count = {}, len(masks)
        for name, others in self.rows.items():
            group, x = self.players.groups[name], self.served.case.inputs[name][item]
            keep = np.where(group < 0, 1.0, masks[:, np.maximum(group, 0)])[:, np.newaxis]
            beside = others[np.newaxis] if rows is None else others[rows][:, np.newaxis]
            blended = _mixed(keep, x, beside)
            mixed[name] = blended.reshape(-1, *x.shape).astype(x.dtype)
        total = len(next(iter(mixed.values())))
        values = self.served.value(mixed, np.full(total, item)).reshape(count, -1)
        return np.asarray(values.mean(axis=1))


def _mixed(keep: Array, x: Array, others: Array) -> Array:
    """x where it is kept, the others where not, and numbers in between where a mask is in between."""
    if x.dtype.kind != "f" or np.isin(keep, (0.0, 1.0)).all():
        return np.where(keep == 1, x, others)
    return np.asarray(keep * x + (1 - keep) * others)
