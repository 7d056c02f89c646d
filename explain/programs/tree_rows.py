"""What a row costs in `tree_shap`: comparisons, a product of matrices and a lookup for each bundle of leaves."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..errors import MethodUnavailable
from ..trees import NONE, VALUE, Block, Compiled, DeepBlock, gain
from .draft import Draft

ELEMENTS = 1 << 22  # of the largest array in one run
DEEP_ROWS = 128  # of one run where leaves have no tables


class Rows:
    """The arithmetic on rows of columns [N, P]."""

    def __init__(self, draft: Draft, trees: Compiled, columns: str, players: int, dtype: str, pairs: bool) -> None:
        """`players` attributions (or interactions of all `pairs`) and the value are made of each score."""
        self.emit, self.trees, self.players, self.dtype = draft.emit, trees, players, dtype
        self.pairs, self.width = pairs, (players**2 if pairs else players) + 1
        emit, infinite = self.emit, np.array(np.inf, dtype=trees.forest.dtype)
        self.missing = emit.is_nan(columns)
        if trees.high.any():
            raised = emit.logical_and(self.missing, trees.high[None])
            columns = emit.where(raised, infinite, columns)
        self.columns = emit.transpose(columns, perm=[1, 0])
        size = max([1, *(block.slots[..., 0].size for block in trees.blocks)])
        self.per_run = min(max(16, ELEMENTS // size), DEEP_ROWS if trees.deep else ELEMENTS)

    def scores(self) -> dict[int, str]:
        """[N, outputs] by score: sums over all blocks; the value stands last."""
        parts: dict[int, list[str]] = {}
        for block in self.trees.blocks:
            cells = self.cells(block)
            targets = self._targets(block)
            for score, table in block.tables.items():
                found = self.emit.gather(self.emit.constant(table.astype(self.dtype)), cells, axis=0)
                flat = self.emit.reshape(found, np.array([0, block.slots[..., 0].size], dtype=np.int64))
                parts.setdefault(score, []).append(self.emit.matmul(flat, targets))
        for deep in self.trees.deep:
            shares = self.shares(deep)
            for column in np.flatnonzero(deep.values.any(axis=0)).tolist():
                parts.setdefault(column, []).append(self._counted(deep, shares, column))
        return {score: self._sum(found) for score, found in parts.items()}

    def comparisons(self, column: np.ndarray, breaks: np.ndarray) -> str:
        """Whether columns are above breaks [T, k], as numbers [T, k, N]."""
        emit = self.emit
        taken = emit.gather(self.columns, column.reshape(-1), axis=0)
        above = emit.greater(taken, breaks.reshape(-1, 1).astype(self.trees.forest.dtype))
        return emit.reshape(emit.cast_to(above, "float32"), np.array([*column.shape, -1], dtype=np.int64))

    def odd(self) -> str:
        """Where columns whose NaN goes anywhere hold it, as numbers [P, N]."""
        taken = self.emit.gather(self.emit.transpose(self.missing, perm=[1, 0]), np.flatnonzero(self.trees.odd), axis=0)
        return self.emit.cast_to(taken, "float32")

    def cells(self, block: Block) -> str:
        """The cell [N, T * m] that each row has in the table of each bundle."""
        emit, (trees, bundles, _) = self.emit, block.weights.shape
        place = emit.matmul(block.weights.astype(np.float32), self.comparisons(block.column, block.breaks))
        if block.missing.any():
            place = emit.add(place, emit.matmul(block.missing.astype(np.float32), self.odd()))
        whole = emit.add(emit.cast_to(place, "int32"), block.starts[:, :, None].astype(np.int32))
        flat = emit.reshape(whole, np.array([trees * bundles, -1], dtype=np.int64))
        return emit.transpose(flat, perm=[1, 0])

    def _targets(self, block: Block) -> np.ndarray:
        """What each table column counts for, [T * m * D, outputs]; the value stands last.

        Half an interaction counts for both places of its pair, and against the players' own, so that rows of
        interactions sum to the players' values.
        """
        first, second = block.slots.reshape(-1, 2).T
        targets = np.zeros((len(first), self.width), dtype=self.dtype)
        rows, single, paired = np.arange(len(first)), (first >= 0) & (second == NONE), (first >= 0) & (second >= 0)
        step = self.players + 1 if self.pairs else 1
        targets[rows[single], first[single] * step] = 1
        targets[first == VALUE, -1] = 1
        if self.pairs:
            row, i, j = rows[paired], first[paired], second[paired]
            targets[row, i * self.players + j] = targets[row, j * self.players + i] = 1
            targets[row, i * step] = targets[row, j * step] = -1
        return targets

    def shares(self, deep: DeepBlock) -> str:
        """What each player of each leaf gets, and last whether the row reaches it, [L, d + 1, N] (see shares.py)."""
        emit, one, width = self.emit, np.ones((), dtype=np.float32), deep.needed.shape[1]
        bits = self.comparisons(deep.column, deep.breaks)
        unmet = emit.sub(deep.needed[:, :, None].astype(np.float32), emit.matmul(deep.weights.astype(np.float32), bits))
        if deep.missing.any():
            unmet = emit.sub(unmet, emit.matmul(deep.missing.astype(np.float32), self.odd()))
        fails = emit.min(unmet, one)
        size = emit.reduce_sum(fails, [1], keepdims=1)
        sets = emit.cast_to(emit.constant(deep.sets), "float32")
        apart = emit.cast_to(emit.less(emit.matmul(sets, fails), np.array(0.5, np.float32)), "float32")
        missed, count = deep.sets.sum(axis=2), np.arange(width + 1)
        table = emit.constant(gain(count[:, None], count[None, :]).astype(np.float32))
        share = emit.unsqueeze(deep.shares.astype(np.float32), [2])
        gains = emit.mul(emit.gather(table, missed.astype(np.int32), axis=0), share)
        of_size = emit.cast_to(emit.equal(size, np.arange(width + 1, dtype=np.float32)[None, :, None]), "float32")
        met = emit.mul(apart, emit.matmul(gains, of_size))
        given = emit.matmul(emit.transpose(sets, perm=[0, 2, 1]), met)
        reaching = np.where(missed == 0, deep.shares, 0).sum(axis=1)[:, None, None].astype(np.float32)
        taken = emit.div(emit.add(emit.reduce_sum(given, [1], keepdims=1), reaching), emit.max(size, one))
        own = emit.cast_to(emit.less(size, np.array(0.5, np.float32)), "float32")
        return emit.concat(emit.sub(given, emit.mul(fails, taken)), own, axis=1)

    def _counted(self, deep: DeepBlock, shares: str, score: int) -> str:
        """The leaves' shares times their values, summed for each player, [N, players + 1]."""
        emit, (leaves, width) = self.emit, deep.players.shape
        targets = np.zeros((leaves, width + 1, self.players + 1))
        place, slot = np.nonzero(deep.players >= 0)
        targets[place, slot, deep.players[place, slot]] = deep.values[place, score]
        targets[:, -1, -1] = deep.values[:, score]
        flat = emit.cast_to(emit.reshape(shares, np.array([leaves * (width + 1), -1], dtype=np.int64)), self.dtype)
        summed = emit.matmul(targets.reshape(-1, self.players + 1).T.astype(self.dtype), flat)
        return emit.transpose(summed, perm=[1, 0])

    def _sum(self, parts: list[str]) -> str:
        return parts[0] if len(parts) == 1 else self.emit.node("Sum", parts)[0]

    def outputs(self, scores: Mapping[int, str]) -> tuple[str, str]:
        """Attributions [N, C, outputs - 1] and the value [N, C] of the scores."""
        emit, trees = self.emit, self.trees
        if not scores:
            raise MethodUnavailable("the trees add the same to every row: there is nothing to attribute")
        stacked = emit.concat(*(emit.unsqueeze(scores[score], [1]) for score in sorted(scores)), axis=1)
        mixed = emit.matmul(trees.mix[sorted(scores)].T.astype(self.dtype), stacked)
        phi = emit.slice(mixed, [0], [self.width - 1], [2])
        own = emit.squeeze(emit.slice(mixed, [self.width - 1], [self.width], [2]), [2])
        return phi, emit.add(own, trees.offset.astype(self.dtype))
