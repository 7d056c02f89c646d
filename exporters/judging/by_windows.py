"""Occlusion by its definition, on predictions of the served file."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from ..case import Case
from ..exported import Array
from .by_coalitions import FLOOR, ROWS, TOLERANCE, reference
from .served import Game, Players, Served
from .verdict import Judgement, Unjudged, attribution_errors


def judged_by_windows(case: Case) -> Judgement:
    """The errors of occlusion with windows of a quarter of a picture, or two features wide. Raises Unjudged."""
    case = case.first(len(case.rows), ROWS)
    served, (name, places, sizes, options) = Served.of(case), _places(case)
    window = [max(1, -(-size // 4)) for size in sizes] if len(sizes) == 2 else [2]
    stride = [max(1, width - 1) for width in window]
    covered = np.array(
        [
            np.multiply.outer(*axes).reshape(-1) if len(axes) == 2 else axes[0]
            for axes in product(*(_along(*each) for each in zip(sizes, window, stride, strict=True)))
        ],
        dtype=np.float64,
    )
    given = reference(case, "occlusion")
    game = Game(served, Players({name: places}, covered.shape[1], False), next(iter(given.values())))
    full = game.worths(np.ones((1, covered.shape[1])))
    lost = full - game.worths(1 - covered)
    phi = np.stack([lost[:, cover > 0].mean(axis=1) if cover.any() else 0 * full[:, 0] for cover in covered.T], axis=1)
    asked: dict[str, Any] = {"window": window, "stride": stride, **options, **given}
    found = case.explained("occlusion", target=served.target, space=served.space, **asked).values
    errors = attribution_errors(found, {name: phi[:, places]}, FLOOR * np.abs(full[:, 0]))
    what = f"attribution error against its definition on predictions, {len(covered)} windows"
    return Judgement(errors, TOLERANCE, what, "predictions of the served file", case.engine.info().version)


def _places(case: Case) -> tuple[str, Array, tuple[int, ...], dict[str, Any]]:
    """The only input, the place of each element of it, the sizes of the places' axes, and the layout."""
    if len(case.inputs) != 1:
        raise Unjudged("occlusion takes one input")
    (spec,) = case.manifest.inputs
    shape = case.inputs[spec.name].shape[1:]
    if len(shape) == 1:
        return spec.name, np.arange(shape[0]), shape, {}
    if spec.image is None:
        raise Unjudged("what the axes of the input are is not known")
    height, width = spec.image.height, spec.image.width
    places = np.arange(height * width).reshape(height, width)
    channels_first = spec.image.layout == "NCHW"
    places = np.broadcast_to(places if channels_first else places[:, :, np.newaxis], shape)
    return spec.name, places, (height, width), {"layout": "CHW" if channels_first else "HWC"}


def _along(size: int, width: int, step: int) -> list[Array]:
    """The windows along one axis as 0 and 1, up to the first that reaches the end."""
    found, start = [], 0
    while True:
        found.append(((np.arange(size) >= start) & (np.arange(size) < start + width)).astype(np.float64))
        if start + width >= size:
            return found
        start += step
