"""f as pixels are removed and their surroundings put in their place: pixel flipping with ROAD's imputation.

Two orders are followed: the most important pixels first (`morf`), under which f should fall fast, and the least
important first (`lerf`), under which it should stay. A pixel is all channels of a place; its importance is the sum of
their attributions. Rong et al. 2022, arXiv:2202.00449; Samek et al. 2017, arXiv:1509.06321 (pixel flipping).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from ..beginning import begin
from ..compiler import compile as compile_program
from ..errors import InvalidParameter, MethodUnavailable
from ..model import Model, ModelLike
from ..plans import Ends
from ..quality import area, places, players_of
from ..request import Request
from ..run import Attribution, RunProgram
from .distribution import Distribution
from .imputing import NOISE, impute

FRACTIONS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
ORDERS = ("morf", "lerf")
DRAWS = 3  # in the seeds of draws: no two checks draw the same


@dataclass(frozen=True)
class Flipping:
    """`curves` by order, [N, F]: f with each of `fractions` [F] of the pixels removed."""

    method: str
    fractions: np.ndarray
    curves: dict[str, np.ndarray]

    @property
    def areas(self) -> dict[str, np.ndarray]:
        """Area under each item's curve [N], by order, divided by the length of the fractions: a mean of f."""
        length = self.fractions[-1] - self.fractions[0]
        found = {}
        for order, curves in self.curves.items():
            found[order] = np.array([area(self.fractions, curve) / length for curve in curves])
        return found

    @property
    def distributions(self) -> dict[str, Distribution]:
        """Of the areas by order, and of their "gap" lerf - morf: the larger, the better the order of the pixels."""
        areas = self.areas
        return {
            "morf": Distribution.of(areas["morf"]),
            "lerf": Distribution.of(areas["lerf"], worst="smallest"),
            "gap": Distribution.of(areas["lerf"] - areas["morf"], worst="smallest"),
        }


def road(
    model: ModelLike,
    inputs: Mapping[str, Any],
    *,
    method: str,
    run: RunProgram,
    fractions: Sequence[float] = FRACTIONS,
    noise: float = NOISE,
    seed: int = 0,
    **options: Any,
) -> Flipping:
    """Flip pixels of pictures [N, C, H, W] of a model with one input by the attributions of a method.

    `noise` is the deviation of what is added to imputed pixels, as a share of the item's range; `run` and `options` as
    for `attribute`. Raises what `attribute` raises, InvalidParameter for fractions that are no shares in rising order,
    and MethodUnavailable where there is not one input of pictures.
    """
    shares = np.asarray(fractions, dtype=np.float64)
    if shares.ndim != 1 or len(shares) < 2 or (np.diff(shares) <= 0).any() or shares[0] < 0 or shares[-1] > 1:
        raise InvalidParameter(f"fractions: came {fractions!r}, expected at least two from 0 to 1 in rising order")
    handle = Model.of(model)
    name = _picture(handle)
    request, scores = _explained(handle, inputs, method, run, seed, options)
    pictures = request.inputs[name]
    place = places(scores, "value")
    flipped = {}
    for order in ORDERS:
        ranks = place if order == "morf" else place.shape[1] - 1 - place
        images = np.stack([_flipped(pictures[i], ranks[i], shares, noise, seed) for i in range(request.items)])
        flipped[order] = _values(request, name, images, run)
    return Flipping(method, shares, flipped)


def _picture(model: Model) -> str:
    """The name of the input that holds the pictures."""
    (name, kind), *others = model.graph.inputs.items()
    if others or not kind.is_float or len(kind.shape or ()) != 4:
        raise MethodUnavailable("pixels are flipped in pictures [N, C, H, W] of numbers that are a model's only input")
    return name


def _explained(
    model: Model, inputs: Mapping[str, Any], method: str, run: RunProgram, seed: int, options: Mapping[str, Any]
) -> tuple[Request, np.ndarray]:
    """The request as it was understood, and the attribution of each pixel [N, H * W]."""
    running = begin(model, inputs, method=method, seed=seed, **options)
    while (step := running.chunk()) is not None:
        running.update(run(*step))
    return running.asked, _by_pixel(running.asked, running.result())


def _by_pixel(request: Request, found: Attribution) -> np.ndarray:
    """Attributions summed over channels; a map's cell gives its value to each of its pixels."""
    players = players_of(request, found.values)
    index = next(iter(players.index.values()))
    own = index if players.per_item else np.broadcast_to(index, (request.items, *index.shape))
    flat = own.reshape(request.items, -1)
    known = np.where(flat >= 0, np.take_along_axis(players.scores, np.maximum(flat, 0), axis=1), 0.0)
    height, width = index.shape[-2:]
    return np.asarray(known.reshape(request.items, -1, height * width).sum(axis=1))


def _flipped(picture: np.ndarray, rank: np.ndarray, fractions: np.ndarray, noise: float, seed: int) -> np.ndarray:
    """The picture [F, C, H, W] with each share of its pixels imputed, the lowest ranks [H * W] first."""
    random = np.random.default_rng([seed, DRAWS])
    added = noise * float(np.ptp(picture.astype(np.float64))) * random.standard_normal(picture.shape)
    counts = np.round(fractions * rank.size)
    gone = [(rank < count).reshape(picture.shape[-2:]) for count in counts]
    return np.stack([impute(picture, hole, added) for hole in gone]).astype(picture.dtype)


def _values(request: Request, name: str, images: np.ndarray, run: RunProgram) -> np.ndarray:
    """f [N, F] of images [N, F, item...], each item with its own target."""
    items, count = images.shape[:2]
    repeated = partial(np.repeat, repeats=count, axis=0)
    target = replace(request.target, index=repeated(request.target.index), weight=repeated(request.target.weight))
    outputs = {key: repeated(array) for key, array in request.outputs.items()}
    inputs = {name: images.reshape(-1, *images.shape[2:])}
    asked = replace(request, inputs=inputs, outputs=outputs, target=target)
    options = {"output": request.explained.output, "space": request.explained.space}
    ends = Ends(asked, compile_program(request.model, "masked_forward", **options), None)
    for step in ends.steps():
        step.collect(run(step.program, step.feeds))
    return ends.values()[0].reshape(items, count)
