"""The edge to the client library: samples as the text that Prometheus reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from engine import Histogram

from .samples import Labels, Samples, Value
from .table import METRICS, Metric

if TYPE_CHECKING:
    from prometheus_client import metrics_core


def exposition(samples: Samples, accept: str) -> tuple[bytes, str]:
    """The text and its media type, as the client's ``Accept`` wants it. Families without samples are left out."""
    from prometheus_client import CollectorRegistry
    from prometheus_client.exposition import choose_encoder

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(samples))
    encode, media_type = choose_encoder(accept)
    return encode(registry), media_type


class _Collector:
    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def collect(self) -> Iterator[metrics_core.Metric]:
        for name, by_labels in self._samples.items():
            family = _family(METRICS[name])
            for labels, value in sorted(by_labels.items()):
                _add(family, METRICS[name], labels, value)
            yield family


def _family(metric: Metric) -> metrics_core.Metric:
    from prometheus_client import metrics_core

    kinds = {
        "counter": metrics_core.CounterMetricFamily,
        "gauge": metrics_core.GaugeMetricFamily,
        "histogram": metrics_core.HistogramMetricFamily,
        "info": metrics_core.InfoMetricFamily,
    }
    family: metrics_core.Metric = kinds[metric.kind](metric.name, metric.help)
    return family


def _add(family: metrics_core.Metric, metric: Metric, labels: Labels, value: Value) -> None:
    named = dict(zip(metric.labels, labels, strict=True))
    if not isinstance(value, Histogram):
        family.add_sample(metric.shown, named, value)
        return
    count = 0
    for bound, more in zip((*value.bounds, float("inf")), value.counts, strict=True):
        count += more
        family.add_sample(f"{metric.name}_bucket", {**named, "le": _bound(bound)}, count)
    family.add_sample(f"{metric.name}_count", named, count)
    family.add_sample(f"{metric.name}_sum", named, value.total)


def _bound(bound: float) -> str:
    from prometheus_client.utils import floatToGoString

    text: str = floatToGoString(bound)  # type: ignore[no-untyped-call]  # has no types
    return text
