"""Owen values: what a hierarchy of groups contributes, divided from the top down, the largest shares first.

Each node of a binary tree is worth what it adds to a context of other nodes; between its two children that is divided
as between two players, in contexts without and with the other. A node that has not been divided when the budget ends
gives its groups equal parts, so the values always add up.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count

import numpy as np

from ..request import Arrays, Request
from .base import Outcome, Step, capacity
from .budget import EVALUATIONS, TIME, TOLERANCE, Budget
from .worths import OnWorths, Worths

TOGETHER = 16  # nodes of an item that one round divides at most


class Tree:
    """A binary tree over G leaves: `children` [G - 1, 2] by scipy's linkage, leaves 0 to G - 1, row k node G + k."""

    def __init__(self, children: np.ndarray, leaves: int) -> None:
        self.children, self.leaves, self.root = children, leaves, 2 * leaves - 2
        self.order = np.empty(leaves, dtype=np.int64)
        self.spans = np.zeros((2 * leaves - 1, 2), dtype=np.int64)
        self._lay_out()

    def _lay_out(self) -> None:
        """Put the leaves in the order in which every node is a span of them."""
        at, stack = 0, [(self.root, False)]
        while stack:
            node, done = stack.pop()
            if node < self.leaves:
                self.order[at] = node
                self.spans[node] = at, at + 1
                at += 1
            elif done:
                left, right = self.children[node - self.leaves]
                self.spans[node] = self.spans[left][0], self.spans[right][1]
            else:
                left, right = (int(child) for child in self.children[node - self.leaves])
                stack += [(node, True), (right, False), (left, False)]

    def members(self, node: int) -> np.ndarray:
        """The leaves of a node."""
        start, stop = self.spans[node]
        return self.order[start:stop]


@dataclass(order=True)
class Share:
    """A node in a context: with what it is worth there, and how much that counts; the largest come first."""

    priority: float
    place: int
    node: int = field(compare=False)
    context: np.ndarray = field(compare=False)
    without: float = field(compare=False)
    within: float = field(compare=False)
    weight: float = field(compare=False)


class Division:
    """The division of one item: undivided shares, and what the leaves have got for certain."""

    def __init__(self, tree: Tree, empty: float, full: float) -> None:
        self.tree, self.values = tree, np.zeros(tree.leaves)
        self.undivided: list[Share] = []
        self._places = count()
        self.put(tree.root, np.zeros(tree.leaves, dtype=bool), empty, full, 1.0)

    def put(self, node: int, context: np.ndarray, without: float, within: float, weight: float) -> None:
        """Add the share of a node; a leaf keeps it."""
        gain = weight * (within - without)
        if node < self.tree.leaves:
            self.values[node] += gain
            return
        share = Share(-abs(gain), next(self._places), node, context, without, within, weight)
        heapq.heappush(self.undivided, share)

    def largest(self, most: int) -> list[Share]:
        """The largest undivided shares, which stay undivided until what divides them is known."""
        return heapq.nsmallest(most, self.undivided)

    def take(self, most: int) -> list[Share]:
        """The largest undivided shares, to be divided."""
        return [heapq.heappop(self.undivided) for _ in range(min(most, len(self.undivided)))]

    def contexts(self, share: Share) -> np.ndarray:
        """The two coalitions [2, G] that divide a share: its context with the left child, and with the right."""
        both = np.stack([share.context] * 2)
        for row, child in zip(both, self.tree.children[share.node - self.tree.leaves], strict=True):
            row[self.tree.members(int(child))] = True
        return both

    def divide(self, share: Share, both: np.ndarray, left: float, right: float) -> None:
        """Each child in the context without the other, and with it."""
        first, second = (int(child) for child in self.tree.children[share.node - self.tree.leaves])
        half = share.weight / 2
        self.put(first, share.context, share.without, left, half)
        self.put(first, both[1], right, share.within, half)
        self.put(second, share.context, share.without, right, half)
        self.put(second, both[0], left, share.within, half)

    def spread(self) -> np.ndarray:
        """Values [G], what is undivided in equal parts."""
        values = self.values.copy()
        for share in self.undivided:
            members = self.tree.members(share.node)
            values[members] += share.weight * (share.within - share.without) / len(members)
        return values


class OwenPlan(OnWorths):
    """Owen values of the request's groups by `trees`, one for all items or one for each."""

    def __init__(
        self, request: Request, trees: list[Tree], budget: Budget, by_group: Callable[[np.ndarray], Arrays]
    ) -> None:
        self.request, self.trees, self.budget, self.by_group = request, trees, budget, by_group
        self.worths = Worths(request)
        self.divisions: list[Division] = []
        self.spent = np.zeros(request.items, dtype=np.int64)
        self.stopped: list[str | None] = [None] * request.items

    @property
    def ready(self) -> bool:
        """From the ends on there is a division, if a coarse one."""
        return bool(self.divisions)

    def steps(self) -> Iterator[Step]:
        """Both ends, then rounds that divide the largest shares of every item that is not done."""
        yield from self.worths.ends()
        ends = zip(self.worths.empty, self.worths.full, strict=True)
        trees = self.trees * (self.request.items if len(self.trees) == 1 else 1)
        self.divisions = [Division(tree, float(e), float(f)) for tree, (e, f) in zip(trees, ends, strict=True)]
        limit = capacity(self.request.model, self.request.inputs) // (2 * self.worths.rows)
        together = int(np.clip(limit, 1, TOGETHER))
        active = [item for item in range(self.request.items) if self._goes_on(item)]
        while active:
            yield from self._round(np.array(active), together)
            active = [item for item in active if self._goes_on(item)]

    def outcome(self) -> Outcome:
        """The division so far."""
        values = np.array([division.spread() for division in self.divisions])
        full, empty = self.worths.full, self.worths.empty
        return Outcome(self.by_group(values), full, empty, complete=True, stopped=tuple(self.stopped))

    def _round(self, items: np.ndarray, most: int) -> Iterator[Step]:
        """Divide at most so many shares of each item. Items with fewer get empty masks, so that all have as many."""
        left = [int(self.budget.max_evals - self.spent[item]) // 2 for item in items]
        divisions = [self.divisions[item] for item in items]
        shares = [division.largest(min(most, room)) for division, room in zip(divisions, left, strict=True)]
        both = [[d.contexts(share) for share in taken] for d, taken in zip(divisions, shares, strict=True)]
        width = 2 * max(map(len, shares))
        masks = np.zeros((len(items), width, self.request.groups.count))
        for row, pairs in zip(masks, both, strict=True):
            row[: 2 * len(pairs)] = np.concatenate(pairs)
        f = np.zeros((len(items), width))
        yield from self.worths.steps(items, masks if len(items) > 1 else masks[0], f)
        for item, division, pairs, values in zip(items, divisions, both, f, strict=True):
            taken = division.take(len(pairs))
            for share, pair, (one, other) in zip(taken, pairs, values.reshape(-1, 2).tolist(), strict=False):
                division.divide(share, pair, one, other)
            self.spent[item] += 2 * len(taken)

    def _goes_on(self, item: int) -> bool:
        """Whether there is something left to divide, worth it, and the means; notes why not."""
        division = self.divisions[item]
        if not division.undivided:
            self.stopped[item] = TOLERANCE if self.budget.tolerance else None
        elif self.budget.tolerance and -division.undivided[0].priority <= self.budget.allowed(division.spread()):
            self.stopped[item] = TOLERANCE
        elif self.spent[item] + 2 > self.budget.max_evals:
            self.stopped[item] = EVALUATIONS
        elif self.budget.late:
            self.stopped[item] = TIME
        else:
            return True
        return False
