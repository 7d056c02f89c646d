"""The model parameter randomisation test: an explanation that survives random weights does not explain the model.

Adebayo, Gilmer, Muelly, Goodfellow, Hardt, Kim 2018, arXiv:1810.03292. For every item |phi| of the model is compared
with |phi| of copies whose weights mean nothing, by Spearman's rank correlation; the target is held at the one the
model itself predicts (or was asked about). Copies are explained with seeds of their own: two samples that share their
masks or their noise are alike for that reason. Guided backpropagation stays alike and fails.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..beginning import attribute
from ..errors import InvalidParameter
from ..methods import METHODS
from ..model import Model, ModelLike
from ..quality import joined
from ..run import Attribution, RunProgram
from .correlation import spearman
from .distribution import Distribution
from .randomised import Order, randomised
from .units import unit_factors

KINDS = ("absolute", "signed", "per_unit")


@dataclass(frozen=True)
class Mprt:
    """What was found for L randomisations named by `layers`, D draws and N items.

    `correlation` by kind, [L, D, N]: of |phi| ("absolute", the test as it was published), of phi ("signed"), and of
    |phi| "per_unit", the scale of the data taken out (see units.py). The verdict belongs to "per_unit": where pictures
    are mostly black, or features have units from 1e-3 to 1e3, |phi| of any two models agree. It is NaN where it has no
    meaning, and each kind where an attribution is the same for every element, as in a random network that is dead.
    """

    method: str
    order: str
    layers: tuple[str, ...]
    seeds: tuple[int, ...]
    correlation: dict[str, np.ndarray]

    @property
    def kind(self) -> str:
        """The kind that the verdict belongs to: "per_unit" where it has a meaning, else "absolute"."""
        return "per_unit" if np.isfinite(self.correlation["per_unit"]).any() else "absolute"

    def distributions(self, kind: str | None = None) -> list[Distribution]:
        """One for each randomisation, over items: of each its median over the draws, the largest being the worst."""
        return [Distribution.of([_median(draws) for draws in layer.T]) for layer in self.correlation[kind or self.kind]]

    def medians(self, kind: str | None = None) -> list[float | None]:
        """The median over items for each randomisation; None where there is none."""
        return [found.median for found in self.distributions(kind)]

    def to_dict(self) -> dict[str, Any]:
        """Names and distributions as plain lists and dicts."""
        layers = [
            {"layer": layer} | {kind: self.distributions(kind)[place].to_dict() for kind in KINDS}
            for place, layer in enumerate(self.layers)
        ]
        return {
            "method": self.method,
            "order": self.order,
            "seeds": list(self.seeds),
            "kind": self.kind,
            "layers": layers,
        }


def _median(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else float("nan")


def mprt(
    model: ModelLike,
    inputs: Mapping[str, Any],
    *,
    method: str,
    run: RunProgram,
    layers: Order = "all",
    draws: int = 3,
    seed: int = 0,
    **options: Any,
) -> Mprt:
    """Test a method on items [N, item...] by input, with `draws` random copies for each randomisation.

    `layers`: "all" weights at once, "cascading" from the output down, or "independent" layer by layer; `run` and
    `options` as for `attribute`. It takes one explanation of every item, and for each randomisation `draws` more with
    as many compilations. Raises what `attribute` raises, and MethodUnavailable for a model without weights.
    """
    if isinstance(draws, bool) or not isinstance(draws, int) or draws < 1:
        raise InvalidParameter(f"draws: came {draws!r}, expected a whole number of at least 1")
    handle, seeds = Model.of(model), tuple(range(seed, seed + draws))
    own = attribute(handle, inputs, method=method, run=run, seed=seed, **options)
    held = {**options, "target": own.target, "outputs": None}
    factors = unit_factors(METHODS[method], own, inputs, options.get("baseline"), options.get("background"))
    found: dict[str, list[np.ndarray]] = {}
    for each in seeds:
        for name, copy in randomised(handle, each, layers, output=options.get("output")):
            other = attribute(copy, inputs, method=method, run=run, seed=each + 1, **held)
            found.setdefault(name, []).append(_alike(own, other, factors))
    whole = np.stack([np.stack(found[name]) for name in found])
    kinds = {kind: whole[:, :, place] for place, kind in enumerate(KINDS)}
    return Mprt(method, layers, tuple(found), seeds, kinds)


def _alike(own: Attribution, other: Attribution, factors: np.ndarray | None) -> np.ndarray:
    """Rank correlations [kinds, N] of two attributions of the same items."""
    found = np.full((len(KINDS), len(own.explained_value)), np.nan)
    for item in range(found.shape[1]):
        one, two = (joined(each.values, item) for each in (own, other))
        found[:2, item] = spearman(np.abs(one), np.abs(two)), spearman(one, two)
        if factors is not None:
            known = np.isfinite(factors[item])
            sizes = (np.abs(phi[known]) * factors[item][known] for phi in (one, two))
            found[2, item] = spearman(*sizes)
    return found
