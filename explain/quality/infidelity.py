"""Infidelity: how far the attribution is from foretelling what a perturbation does to f (Yeh et al. 2019).

INFD = E[(I . phi - (f(x) - f(x - I)))^2] over perturbations I. Attributions per unit of input (gradients) foretell
I . phi for noise I. Contributions foretell for the removal of some players, I = x - reference there and 0 elsewhere,
the sum of their contributions: the same product, with contribution / (x - reference) in the place of the gradient.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..compiler import compile as compile_program
from ..methods import Method, Parameter, spreads
from ..plans import Ends, Step
from ..request import Arrays
from .base import Asked, Check, CheckPlan, Figures, Subject, number
from .neighbours import nearby
from .players import REFERENCE, players_of, refuse_without, removals

DRAWS = 1  # in the seeds of draws: no two checks draw the same
NOISE, REMOVAL = "noise", "removal"


def perturbation_of(method: Method, chosen: str | None) -> str:
    """ "noise" for attributions per unit of input, else "removal", unless chosen otherwise."""
    return chosen or (NOISE if method.states == "slope" else REMOVAL)


def _refuse(asked: Asked) -> str | None:
    if perturbation_of(asked.method, asked.parameters["perturbation"]) == REMOVAL:
        return refuse_without(asked)
    if asked.method.states != "slope":
        return f"{asked.method.name} does not state slopes: its perturbation must be 'removal'"
    return None


def _foretold(predicted: np.ndarray, change: np.ndarray) -> Figures:
    """Figures of one item from what was foretold and what happened, both [K]."""
    errors = (predicted - change) ** 2
    squares = float((predicted**2).mean())
    beta = float((predicted * change).mean()) / squares if squares else 0.0
    scaled = float(((beta * predicted - change) ** 2).mean())
    total = float((change**2).mean())
    spread = float(errors.std(ddof=1)) / np.sqrt(len(errors)) if len(errors) > 1 else np.nan
    return Figures(
        {"infidelity": number(errors.mean()), "infidelity_normalised": number(scaled / total) if total else None},
        {"standard_error": number(spread), "scale": number(beta)},
    )


class Removed:
    """Random players are removed: K draws of a number of players, then of that many of them, and the item itself."""

    def __init__(self, subject: Subject) -> None:
        self.players = players_of(subject.request, subject.outcome.values)
        self.reference, self.worths = removals(subject, self.players)
        self.gone = np.array([self._draw(subject.request.seed, k) for k in range(subject.parameters["n_samples"])])
        self.f = np.zeros((subject.request.items, len(self.gone) + 1))

    def _draw(self, seed: int, k: int) -> np.ndarray:
        random = np.random.default_rng([seed, DRAWS, k])
        gone = np.zeros(self.players.count)
        gone[random.permutation(self.players.count)[: random.integers(1, self.players.count + 1)]] = 1.0
        return gone

    @property
    def evaluations(self) -> np.ndarray:
        """[N] evaluations of each item."""
        return self.worths.spent

    def steps(self) -> Iterator[Step]:
        """The removals."""
        masks = np.vstack([np.ones((1, self.players.count)), 1.0 - self.gone])
        yield from self.worths.steps(np.arange(len(self.f)), masks, self.f)

    def results(self) -> list[Figures]:
        """What the contributions of the removed foretold against what happened."""
        predicted, change = self.players.scores @ self.gone.T, self.f[:, :1] - self.f[:, 1:]
        found = [_foretold(*pair) for pair in zip(predicted, change, strict=True)]
        said = {"perturbation": REMOVAL, "reference": self.reference}
        return [Figures(each.figures, said | each.details) for each in found]


class Noised:
    """Gaussian noise is taken away from the inputs: K draws, and the item itself."""

    def __init__(self, subject: Subject) -> None:
        self.subject, request = subject, subject.request
        self.count, scale = subject.parameters["n_samples"], spreads(request)
        level = subject.parameters["noise_level"]
        self.noise = [
            self._draw(request.seed, k, {name: level * s for name, s in scale.items()}) for k in range(self.count)
        ]
        taken = [{name: -noise for name, noise in each.items()} for each in self.noise]
        options = {"output": request.explained.output, "space": request.explained.space}
        program = compile_program(request.model, "masked_forward", **options)
        still = {name: np.zeros(x.shape) for name, x in request.features.items() if x.dtype.kind == "f"}
        self.ends = Ends(nearby(request, [still, *taken]), program, None)

    def _draw(self, seed: int, k: int, scale: Arrays) -> Arrays:
        """Noise [N, item...] that the dtype of the input can hold: the same draw for every item, times its scale."""
        random = np.random.default_rng([seed, DRAWS, k])
        found = {}
        for name, deviation in scale.items():
            array = self.subject.request.inputs[name]
            there = (array - deviation * random.standard_normal(array.shape[1:])).astype(array.dtype)
            found[name] = array.astype(np.float64) - there.astype(np.float64)
        return found

    @property
    def evaluations(self) -> np.ndarray:
        """[N] evaluations of each item."""
        return np.full(self.subject.request.items, self.count + 1)

    def steps(self) -> Iterator[Step]:
        """f at the item and beside it."""
        yield from self.ends.steps()

    def results(self) -> list[Figures]:
        """What the slopes foretold against what happened."""
        items = self.subject.request.items
        f = self.ends.values()[0].reshape(1 + self.count, items).T
        values = self.subject.outcome.values
        products = [
            sum((values[name] * noise).reshape(items, -1).sum(axis=1) for name, noise in each.items() if name in values)
            for each in self.noise
        ]
        predicted, change = np.stack(products, axis=1), f[:, :1] - f[:, 1:]
        found = [_foretold(*pair) for pair in zip(predicted, change, strict=True)]
        return [Figures(each.figures, {"perturbation": NOISE, **each.details}) for each in found]


def _plan(subject: Subject) -> CheckPlan:
    chosen = perturbation_of(subject.method, subject.parameters["perturbation"])
    return Noised(subject) if chosen == NOISE else Removed(subject)


INFIDELITY = Check(
    "infidelity",
    "Mean square of what the attribution foretells for random perturbations less what they do.",
    "Yeh et al. 2019, arXiv:1901.09392",
    "(n_samples + 1) F, per row of the reference where elements are removed",
    ("infidelity", "infidelity_normalised"),
    (
        Parameter("n_samples", 10, {"type": "integer", "minimum": 1, "maximum": 4096}, "perturbations"),
        Parameter(
            "perturbation",
            None,
            {"enum": [None, NOISE, REMOVAL]},
            "Gaussian noise, or random elements removed; default: noise for gradients, removal for contributions",
        ),
        Parameter("noise_level", 0.1, {"type": "number", "minimum": 0}, "deviation of the noise, in spreads"),
        REFERENCE,
    ),
    _plan,
    _refuse,
    "compare it between methods on one model and item: it has the square of the units of f",
)
