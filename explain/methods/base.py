"""What a method is: a name, what it needs, its parameters, and a function that fills in a plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..errors import InvalidParameter, MethodUnavailable
from ..plans import Plan, SplitPlan
from ..request import Arrays, Request

States = Literal["contribution", "slope", "squared slope", "importance"]


@dataclass(frozen=True)
class Parameter:
    """A parameter of a method, as JSON Schema says it."""

    name: str
    default: Any
    schema: Mapping[str, Any]
    help: str

    def check(self, value: Any) -> Any:
        """The value, if it is allowed; raises InvalidParameter naming what came and what was expected."""
        if isinstance(value, (np.generic, np.ndarray)):
            value = value.tolist()  # plain Python, as JSON and records have it
        if "enum" in self.schema:
            if value not in self.schema["enum"]:
                raise self._refuse(value, "one of " + ", ".join(map(repr, self.schema["enum"])))
            return value
        wanted = self.schema.get("type")
        names = [wanted] if isinstance(wanted, str) else list(wanted or ())
        if names and not any(_is(value, name) for name in names):
            raise self._refuse(value, f"a value of type {' or '.join(names)}")
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            return value
        low, high = self.schema.get("minimum"), self.schema.get("maximum")
        if not ((low is None or value >= low) and (high is None or value <= high)):
            raise self._refuse(value, f"{low} to {high}" if high is not None else f"at least {low}")
        return value

    def _refuse(self, value: Any, expected: str) -> InvalidParameter:
        return InvalidParameter(f"parameter {self.name!r}: came {value!r}, expected {expected}")


def _is(value: Any, kind: str) -> bool:
    """Whether a value is of a JSON Schema type."""
    kinds: dict[str, tuple[type, ...]] = {
        "integer": (int,),
        "number": (int, float),
        "boolean": (bool,),
        "string": (str,),
        "array": (list, tuple),
        "null": (type(None),),
    }
    return isinstance(value, kinds[kind]) and not (kind in ("integer", "number") and isinstance(value, bool))


@dataclass(frozen=True)
class Method:
    """An explanation method.

    `needs` names what it cannot do without: "gradient", "baseline", "background", "reference" (a background, or else a
    baseline), "spatial", "chords" (slopes between two points), "numbers" (no codes among the inputs that matter),
    "masks" (that groups can be removed, one by one or as they were declared), "trees" (the explained value is a sum
    over trees), "affine" (it is affine in the encoded inputs). `source` is the paper.
    `passes` says in words what it costs in forward passes (F) of one item. `caution` says why a method should not be
    relied on, where that is known. `states` says what a value is: a "contribution" in units of the explained output, a
    "slope" per unit of input, a "squared slope", or an "importance" without units.
    """

    name: str
    summary: str
    source: str
    needs: frozenset[str]
    passes: str
    settings: tuple[Parameter, ...]
    plan: Callable[[Request], Plan]
    caution: str | None = None
    states: States = "contribution"

    @property
    def removes(self) -> bool:
        """Whether it puts something in the place of elements, so that a removal can say what."""
        return bool(self.needs & {"masks", "reference"})

    @property
    def parameters(self) -> dict[str, Any]:
        """JSON Schema of the parameters."""
        return schema_of(self.settings)

    def resolve(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """All parameters, defaulted ones included; raises InvalidParameter."""
        return resolved(self.name, self.settings, given)


def schema_of(settings: tuple[Parameter, ...]) -> dict[str, Any]:
    """JSON Schema of an object of these parameters."""
    properties = {p.name: {**p.schema, "default": p.default, "description": p.help} for p in settings}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def resolved(owner: str, settings: tuple[Parameter, ...], given: Mapping[str, Any]) -> dict[str, Any]:
    """All parameters of `owner`, defaulted ones included; raises InvalidParameter."""
    known = {parameter.name: parameter for parameter in settings}
    unknown = sorted(set(given) - set(known))
    if unknown:
        expected = ", ".join(known) or "none"
        raise InvalidParameter(f"parameter {unknown[0]!r} of {owner} is unknown; expected {expected}")
    return {name: p.check(given[name]) if name in given else p.default for name, p in known.items()}


MASKS = 1 << 26  # numbers that the masks of one request may hold: half a gigabyte

TOLERANCE = Parameter(
    "tolerance",
    0.0,
    {"type": "number", "minimum": 0},
    "stop when every error is this small, as a share of max |attribution|",
)
BUDGET = Parameter(
    "budget_ms",
    None,
    {"type": ["number", "null"], "minimum": 0},
    "stop after so many milliseconds, at the best so far",
)


def bounded(method: str, coalitions: int, groups: int) -> None:
    """Refuse coalitions whose masks would not fit in memory; raises MethodUnavailable."""
    if coalitions * groups > MASKS:
        raise MethodUnavailable(
            f"method {method} would need {coalitions} masks of {groups} groups, which is more than fits; "
            "take fewer groups, such as patches or superpixels"
        )


def by_group(request: Request) -> Callable[[np.ndarray], Arrays]:
    """Takes values [N, G] to arrays by input, or under "groups" where groups were declared; 0 where none belongs."""
    groups = request.groups

    def part(phi: np.ndarray) -> Arrays:
        if groups.names is not None:
            return {"groups": phi}
        return {name: phi[:, index] for name, index in groups.index.items() if (index >= 0).any()}  # held ones: none

    return part


def plan_of(method: Method, request: Request) -> Plan:
    """The method's plan; where items have groups in different numbers, one for each number.

    What a method draws depends on how many groups there are, and how many an item has is its own matter.
    """
    if "masks" not in method.needs or not request.groups.per_item:
        return method.plan(request)
    counts = request.groups.counts(request.items)
    if np.ptp(counts) == 0:
        return method.plan(request)
    parts = [(np.flatnonzero(counts == count), int(count)) for count in np.unique(counts)]
    return SplitPlan(request, [(items, method.plan(request.part(items, count))) for items, count in parts])
