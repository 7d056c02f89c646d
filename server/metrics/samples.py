"""Samples: for each metric, by label values, a number or a histogram; written as JSON between workers, and added up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any

from engine import Histogram

from .table import METRICS, Metric

Labels = tuple[str, ...]
Value = float | Histogram
Samples = Mapping[str, Mapping[Labels, Value]]
# What each process has counted, by a name that no two processes ever share.
Sources = Mapping[str, Samples]
LASTING = ("counter", "histogram")


def joined(live: Iterable[Samples], ended: Iterable[Samples] = ()) -> Samples:
    """The figures of all: of those that ended only what only grows."""
    live = list(live)
    found: dict[str, dict[Labels, Value]] = {}
    for metric in METRICS.values():
        parts = chain(live, ended) if metric.kind in LASTING else live
        total: dict[Labels, Value] = {}
        for samples in parts:
            for labels, value in samples.get(metric.name, {}).items():
                total[labels] = _added(metric, total[labels], value) if labels in total else value
        if total:
            found[metric.name] = total
    return found


def _added(metric: Metric, one: Value, other: Value) -> Value:
    if isinstance(one, Histogram) and isinstance(other, Histogram):
        if one.bounds != other.bounds:  # a worker of an older release, about to end
            return other
        counts = tuple(a + b for a, b in zip(one.counts, other.counts, strict=True))
        return Histogram(one.bounds, counts, one.total + other.total)
    if isinstance(one, Histogram) or isinstance(other, Histogram):
        return other
    if metric.kind == "info":
        return 1
    return min(one, other) if metric.least else one + other


def to_json(samples: Samples) -> dict[str, Any]:
    """JSON-able; `from_json` reads it."""
    return {
        name: [[list(labels), _value_to_json(value)] for labels, value in by_labels.items()]
        for name, by_labels in samples.items()
    }


def from_json(content: Mapping[str, Any]) -> Samples:
    """What `to_json` wrote."""
    return {
        name: {tuple(labels): _value_from_json(value) for labels, value in pairs} for name, pairs in content.items()
    }


def _value_to_json(value: Value) -> Any:
    return [value.bounds, value.counts, value.total] if isinstance(value, Histogram) else value


def _value_from_json(value: Any) -> Value:
    if isinstance(value, list):
        bounds, counts, total = value
        return Histogram(tuple(bounds), tuple(counts), total)
    return float(value)
