"""What is removed from an item, and what takes its place: the sides on which an attribution is tested by removal."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from ..errors import MethodUnavailable
from ..methods import Parameter
from ..plans import Worths
from ..references import replacement_of
from ..request import Arrays, Request
from ..segments import Segments
from .base import Asked, Subject

REFERENCES = ("baseline", "background", "removal")
CHANNELS = 4  # at most so many: how an axis of colours is told from one of places
REFERENCE = Parameter(
    "reference",
    None,
    {"enum": [None, *REFERENCES]},
    "what takes the place of what is removed; default: what the method compares with, or else the one there is",
)


@dataclass(frozen=True)
class Players:
    """What is removed together: `index` by input (int64 [item...], or [N, item...] where `per_item`; -1 = stays), and
    what was attributed to each player, `scores` [N, G] float64."""

    index: Arrays
    scores: np.ndarray
    per_item: bool = False

    @property
    def count(self) -> int:
        """G, the number of players."""
        return int(self.scores.shape[1])


def players_of(request: Request, values: Arrays) -> Players:
    """Declared groups, else every element that something was attributed to, else the cells of a map, from attributions
    by input (or under "groups").

    Where groups were declared and elements attributed, a group has the sum of its elements. Inputs to which the method
    says nothing stay as they are. Raises MethodUnavailable for a map that fits no picture.
    """
    flat = {name: x.shape[1:] for name, x in request.inputs.items()} | {"groups": (request.groups.count,)}
    values = {name: _of_pairs(value, flat[name]) for name, value in values.items()}
    if "groups" in values:
        return Players(dict(request.groups.index), values["groups"], request.groups.per_item)
    index: Arrays = {}
    scores: list[np.ndarray] = []
    start = 0
    for name, array in request.inputs.items():
        if name not in values:
            index[name] = np.full(array.shape[1:], -1, dtype=np.int64)
            continue
        value = values[name]
        cells = _cells(name, array.shape[1:], value.shape[1:])
        index[name] = cells + start
        scores.append(value.reshape(request.items, -1))
        start += scores[-1].shape[1]
    found = Players(index, np.concatenate(scores, axis=1))
    whole = all(value.shape == request.inputs[name].shape for name, value in values.items())
    return found if request.groups.names is None or not whole else _grouped(request, found)


def _of_pairs(value: np.ndarray, item: tuple[int, ...]) -> np.ndarray:
    """What each of F features has alone and in all pairs, of values [N, F, F] of items [F]; others as they are."""
    return np.asarray(value.sum(axis=2)) if len(item) == 1 and value.shape[1:] == item * 2 else value


def _cells(name: str, item: tuple[int, ...], found: tuple[int, ...]) -> np.ndarray:
    """Which value [found...] each element of an item belongs to: its own, or the cell of a map [h, w] it lies in."""
    if found == item:
        return np.arange(math.prod(item), dtype=np.int64).reshape(item)
    if len(found) != 2 or len(item) < 2:
        raise MethodUnavailable(f"an attribution of shape {list(found)} cannot be laid over {name!r} {list(item)}")
    last = len(item) == 3 and item[2] <= CHANNELS < item[0]
    height, width = item[:2] if last else item[-2:]
    rows, columns = (np.arange(size) * cells // size for size, cells in zip((height, width), found, strict=True))
    grid = rows[:, None] * found[1] + columns[None, :]
    return np.array(np.broadcast_to(grid[..., None] if last else grid, item), dtype=np.int64)


def _grouped(request: Request, elements: Players) -> Players:
    """Elements summed up to the groups that were declared."""
    groups = request.groups
    scores = np.zeros((request.items, groups.count))
    for name, index in elements.index.items():
        own = np.broadcast_to(groups.index[name], (request.items, *index.shape)).reshape(request.items, -1)
        for item in range(request.items):
            known = (index.reshape(-1) >= 0) & (own[item] >= 0)
            np.add.at(scores[item], own[item][known], elements.scores[item, index.reshape(-1)[known]])
    return Players(dict(groups.index), scores, groups.per_item)


def reference_of(asked: Asked) -> str | None:
    """The reference that is meant, one of `REFERENCES`; None where there is none."""
    chosen: str | None = asked.parameters["reference"]
    compared = ["removal", *(name for name in REFERENCES if name in asked.method.needs)]
    order = tuple(reversed(REFERENCES)) if "reference" in asked.method.needs else REFERENCES
    wanted = (*compared, *order) if chosen is None else (chosen,)
    return next((name for name in wanted if name in asked.references), None)


def refuse_without(asked: Asked) -> str | None:
    """Why nothing can be removed, or None."""
    if reference_of(asked) is not None:
        return None
    wanted = asked.parameters["reference"] or "baseline or a background"
    return f"it needs a {wanted} to put in the place of what it removes, and none was given"


def removals(subject: Subject, players: Players) -> tuple[str, Worths]:
    """What takes the place of what is removed, one of `REFERENCES`, and f where players are removed."""
    request, weight = subject.request, subject.request.background_weight
    made = request.removal is not None and request.removal.spec is not None
    found = {
        "baseline": replacement_of(None, weight, request.baseline),
        "background": replacement_of(request.background, weight, None),
        "removal": request.removal if made else None,
    }
    there = {name for name, rows in found.items() if rows is not None}
    name = reference_of(Asked(subject.method, request.parameters, subject.parameters, there))
    removal = found[name] if name else None
    groups = Segments(players.index, players.count, None, players.per_item)
    return str(name), Worths(replace(request, groups=groups, removal=removal))
