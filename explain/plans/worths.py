"""What coalitions are worth: f where some groups are present and the others replaced, averaged over the replacements.

Masks are run in blocks of bounded size, equal masks once. For models whose first layer adds up the groups
(programs/first_layer.py) that layer is taken apart once for each item, and only the rest of the model is run under the
masks. What an item gets does not depend on its company: blocks of masks have one size whatever the number of items.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np

from ..compiler import compile as compile_program
from ..programs import Program, first_layer
from ..request import Arrays, Request
from .base import Step, capacity, pick
from .ends import Ends

HELD = 1 << 24  # numbers that first layers taken apart may hold at a time: 64 MiB of float32
ELEMENTS = 1 << 21  # of the first layer in one run of the rest, measured like those of base.py


class Worths:
    """f at coalitions of the request's groups. `binary` says that masks are 0 and 1 alone."""

    def __init__(self, request: Request, *, binary: bool = True, paired: bool = False) -> None:
        if request.removal is None:
            raise ValueError("coalitions need what takes the place of the groups they lack")
        self.request, self.removal, self.paired = request, request.removal, paired
        self.options = {"output": request.explained.output, "space": request.explained.space}
        self.kinds = {
            "groups": request.groups.kind,
            "background": "paired" if paired else "item" if self.removal.per_item else "shared",
        }
        self.program = compile_program(request.model, "masked_forward", **self.options, **self.kinds)
        self.width = self._first_layer_width() if binary and not paired else 0
        self._parts: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._sound: dict[int, bool] = {}  # whether an item's parts are numbers, so that they add up
        self.spent = np.zeros(request.items, dtype=np.int64)
        self.full, self.empty = np.full(request.items, np.nan), np.full(request.items, np.nan)

    def ends(self, *, empty: bool = True) -> Iterator[Step]:
        """Find f at the items themselves, `full` [N], and, if it is asked for, with nothing present, `empty` [N].

        Where nothing of an item is left, the background is evaluated once for all of them.
        """
        program = compile_program(self.request.model, "masked_forward", **self.options)
        if not empty:
            only = Ends(self.request, program, None)
            yield from only.steps()
            self.full, self.spent = only.values()[0], self.spent + 1
            return
        self.spent += 1 + self.removal.size
        common = self.request.groups.all_masked and not self.removal.per_item
        ends = Ends(self.request, program, self.removal.rows if common else None, self.removal.weight)
        yield from ends.steps()
        self.full, mean = ends.values()
        if mean is not None:
            self.empty = mean
            return
        nothing = Worths(self.request, binary=False)
        found = np.zeros((self.request.items, 1))
        yield from nothing.steps(np.arange(self.request.items), np.zeros((1, self.request.groups.count)), found)
        self.empty = found[:, 0]

    @property
    def evaluations(self) -> np.ndarray:
        """[N] evaluations of the model for each item: at the ends, and under the masks that differ."""
        return self.spent

    @property
    def rows(self) -> int:
        """Evaluations of the model that one coalition takes."""
        return 1 if self.paired else self.removal.size

    def steps(
        self, items: np.ndarray, masks: np.ndarray, f: np.ndarray, rows: np.ndarray | None = None
    ) -> Iterator[Step]:
        """Fill f [n, K] with the worths of masks [K, G], the same for all n items, or [n, K, G].

        `rows` [K] says which row of the background each mask is paired with.
        """
        self.spent[items] += masks.shape[-2] * self.rows
        if masks.ndim == 3 or self.paired:
            yield from self._blocks(items, masks, f, rows)
            return
        distinct, places = _distinct(masks)
        self.spent[items] -= (len(masks) - len(distinct)) * self.rows
        found = np.zeros((len(items), len(distinct)))
        if not self._worth_taking_apart(len(distinct)):
            yield from self._blocks(items, distinct, found)
        else:
            together = HELD // self._size()
            for at in range(0, len(items), together):
                yield from self._apart(items[at : at + together], distinct, found[at : at + together])
                if len(items) > together:
                    self._parts.clear()
        f[:] = found[:, places]

    def _apart(self, items: np.ndarray, masks: np.ndarray, f: np.ndarray) -> Iterator[Step]:
        """Items whose first layer can be taken apart and put together, and others through the whole model."""
        yield from self._take_apart([int(item) for item in items if int(item) not in self._parts])
        apart = np.array([self._sound[int(item)] for item in items])
        for some, evaluated in ((apart, self._rest), (~apart, self._blocks)):
            if some.any():
                part = np.zeros((int(some.sum()), len(masks)))
                yield from evaluated(items[some], masks, part)
                f[some] = part

    def _blocks(
        self, items: np.ndarray, masks: np.ndarray, f: np.ndarray, pairs: np.ndarray | None = None
    ) -> Iterator[Step]:
        """Blocks of items, coalitions and background rows, each through the whole model."""
        limit, count = capacity(self.request.model, self.request.inputs), masks.shape[-2]
        width = min(self.rows, limit)
        step = min(count, max(1, limit // width))
        together = max(1, limit // (width * step))
        for at in range(0, len(items), together):
            chosen = slice(at, at + together)
            for start in range(0, count, step):
                part = slice(start, min(start + step, count))
                mask = masks[chosen, part] if masks.ndim == 3 else masks[part]
                for first in range(0, self.rows, width):
                    others = slice(first, min(first + width, self.rows)) if pairs is None else pairs[part]
                    feeds = self._feeds(items[chosen], mask, others)
                    yield Step(self.program, feeds, partial(self._add, items[chosen], f, chosen, part))

    def _feeds(self, items: np.ndarray, mask: np.ndarray, others: slice | np.ndarray) -> Arrays:
        """Inputs of `masked_forward`; the weights of a part of the background are its share of the whole."""
        dtype = np.dtype(self.request.explained.dtype)
        feeds = {name: array[items] for name, array in self.request.inputs.items()} | self._references(items, others)
        feeds["mask"] = np.empty((len(items), *mask.shape[-2:]), dtype=dtype)
        feeds["mask"][:] = mask
        weight = np.ones(1) if self.paired else self.removal.weight[others]
        return feeds | {"background.weight": weight.astype(dtype)}

    def _references(self, items: np.ndarray, others: slice | np.ndarray) -> Arrays:
        """Groups and background of these items, these rows of it."""
        groups = self.request.groups
        index = {} if groups.kind == "elements" else groups.index
        feeds = {f"{name}.groups": each[items] if groups.per_item else each for name, each in index.items()}
        own = self.removal.per_item
        rows = {f"{k}.background": a[items][:, others] if own else a[others] for k, a in self.removal.rows.items()}
        return feeds | rows

    def _add(self, items: np.ndarray, f: np.ndarray, at: slice, part: slice, outputs: Mapping[str, np.ndarray]) -> None:
        f[at, part] += pick(self.request, outputs["value"].astype(np.float64), items)

    def _first_layer_width(self) -> int:
        """H where the model's first layer can be taken apart, else 0."""
        model = self.request.model
        value = first_layer(model, self.request.explained)
        return 0 if value is None else int(model.graph.type(value).shape[-1])  # type: ignore[index, arg-type]

    def _size(self) -> int:
        """Numbers that the first layer of one item is taken apart into."""
        return (self.request.groups.count + 1) * self.removal.size * self.width

    def _worth_taking_apart(self, masks: int) -> bool:
        """Whether the parts of an item fit, and are fewer evaluations than the masks they save, now or later."""
        return bool(self.width) and self._size() <= HELD and masks > self.request.groups.count // 2

    def _rest(self, items: np.ndarray, masks: np.ndarray, f: np.ndarray) -> Iterator[Step]:
        """Coalitions through what follows the first layer."""
        program = compile_program(self.request.model, "masked_rest", **self.options)
        dtype = np.dtype(self.request.explained.dtype)
        step = max(1, ELEMENTS // (self.removal.size * self.width))
        together = max(1, step // len(masks))
        weight = self.removal.weight.astype(dtype)
        for at in range(0, len(items), together):
            chosen = slice(at, at + together)
            parts = [self._parts[int(item)] for item in items[chosen]]
            base, group = (np.stack(side) if len(parts) > 1 else side[0][None] for side in zip(*parts, strict=True))
            for start in range(0, len(masks), step):
                part = slice(start, min(start + step, len(masks)))
                mask = np.tile(masks[part].astype(base.dtype), (len(parts), 1, 1))
                feeds = {"mask": mask, "layer.base": base, "layer.group": group, "background.weight": weight}
                yield Step(program, feeds, partial(self._add, items[chosen], f, chosen, part))

    def _take_apart(self, items: list[int]) -> Iterator[Step]:
        """The first layer of each item with nothing present, and with one group alone."""
        count, whole = self.request.groups.count, slice(0, self.removal.size)
        masks = np.vstack([np.zeros((1, count)), np.eye(count)])
        program = compile_program(self.request.model, "masked_layer", **self.options, **self.kinds)
        for item in items:
            at = np.array([item])
            feeds = {name: array[at] for name, array in self.request.inputs.items()} | self._references(at, whole)
            feeds["mask"] = masks[None].astype(self.request.explained.dtype)
            yield Step(program, feeds, partial(self._keep, item))

    def _keep(self, item: int, outputs: Mapping[str, np.ndarray]) -> None:
        layer = outputs["layer"][0]
        with np.errstate(invalid="ignore", over="ignore"):
            self._parts[item] = (layer[0], layer[1:] - layer[0])
        self._sound[item] = all(bool(np.isfinite(part).all()) for part in self._parts[item])


def _distinct(masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The masks [K, G] that differ, in the order in which they first come, and for each mask its place [K] there."""
    seen: dict[bytes, int] = {}
    places = np.array([seen.setdefault(row.tobytes(), len(seen)) for row in masks])
    first = np.full(len(seen), -1)
    first[places[::-1]] = np.arange(len(masks))[::-1]
    return (masks if len(seen) == len(masks) else masks[first]), places


class OnWorths:
    """A plan whose work is `worths`: its program and its evaluations are theirs."""

    worths: Worths

    @property
    def program(self) -> Program:
        """`masked_forward`."""
        return self.worths.program

    @property
    def evaluations(self) -> np.ndarray:
        """[N] evaluations of the model spent on each item."""
        return self.worths.evaluations
