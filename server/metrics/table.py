"""Every metric the server exports: one table that the exposition and ``docs/metrics.md`` both read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram", "info"]
SECONDS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
EVALUATIONS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0, 100_000.0)
GAPS = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)


@dataclass(frozen=True)
class Metric:
    """A family of time series.

    ``name`` is without the endings of the format (``_total``, ``_bucket``, ``_info``); ``least`` says that of a gauge
    the least over all workers counts, not the sum; ``sometimes`` that and why the family may be absent.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    least: bool = False
    sometimes: str = ""

    @property
    def shown(self) -> str:
        """The name a query uses, but for the endings of histograms."""
        return self.name + {"counter": "_total", "info": "_info"}.get(self.kind, "")


_REQUESTS = (
    Metric("glasshouse_requests", "counter", "HTTP requests answered.", ("route", "model", "status")),
    Metric(
        "glasshouse_request_errors", "counter", "Requests that failed, by error type.", ("route", "model", "reason")
    ),
    Metric("glasshouse_request_seconds", "histogram", "From a request's head to its answer's end.", ("route", "model")),
    Metric(
        "glasshouse_request_wait_seconds",
        "histogram",
        "From a request's head to the thread that answers it: its body's way, and the wait for a thread.",
    ),
    Metric("glasshouse_requests_in_flight", "gauge", "HTTP requests being answered."),
    Metric(
        "glasshouse_stage_seconds",
        "histogram",
        "Where the time of an answered request went: decode (rows by the manifest), queue and run (all its runs, "
        "those of the explanation included; not of answers from the cache), record (the decision), encode (the wire "
        "format; not of streams).",
        ("operation", "model", "stage"),
    ),
    Metric("glasshouse_rows", "counter", "Rows answered.", ("operation", "model")),
)
_EXPLANATIONS = (
    Metric(
        "glasshouse_explanations",
        "counter",
        "Rows explained, by what ended the work: tolerance, max_evals, budget_ms, or finished.",
        ("model", "method", "stopped"),
    ),
    Metric(
        "glasshouse_explanation_evaluations",
        "histogram",
        "Evaluations of the model for a row, as its answer says.",
        ("model", "method"),
    ),
    Metric(
        "glasshouse_explanation_completeness_gap_ratio",
        "histogram",
        "Relative completeness gap of a row, of methods that promise a sum.",
        ("model", "method"),
    ),
    Metric(
        "glasshouse_explanation_forward_gap",
        "histogram",
        "Difference between the program's forward value and the served model's own, in the explained units.",
        ("model", "method"),
    ),
)
_ENGINE = (
    Metric("glasshouse_engine_queued_items", "gauge", "Items that wait for a run.", ("lane",)),
    Metric("glasshouse_engine_queued_requests", "gauge", "Requests and chunks that wait for a run.", ("lane",)),
    Metric("glasshouse_engine_runs_in_progress", "gauge", "Runs under way."),
    Metric("glasshouse_engine_batch_items", "histogram", "Items of a run.", ("lane",)),
    Metric("glasshouse_engine_queue_seconds", "histogram", "How long requests and chunks waited.", ("lane",)),
    Metric("glasshouse_engine_run_seconds", "histogram", "How long runs took, in the runtime alone.", ("lane",)),
    Metric("glasshouse_engine_rejected", "counter", "Refused because the queue was full.", ("lane",)),
    Metric("glasshouse_engine_expired", "counter", "Given up because their deadline passed.", ("lane",)),
    Metric("glasshouse_engine_cancelled", "counter", "Called off before they were done.", ("lane",)),
    Metric("glasshouse_engine_sessions", "gauge", "Sessions kept ready."),
    Metric(
        "glasshouse_engine_device_memory_bytes",
        "gauge",
        "Memory in use on a device.",
        ("device",),
        sometimes="where the runtime does not say",
    ),
)
_SERVER = (
    Metric("glasshouse_result_cache_hits", "counter", "Explanations answered from the cache."),
    Metric("glasshouse_result_cache_misses", "counter", "Explanations looked for there in vain."),
    Metric("glasshouse_result_cache_entries", "gauge", "Explanations kept."),
    Metric("glasshouse_result_cache_bytes", "gauge", "Memory of the explanations kept."),
    Metric("glasshouse_model", "info", "A version in service.", ("model", "version", "digest")),
    Metric(
        "glasshouse_build",
        "info",
        "What serves: version of Glasshouse, of Python, of the runtime, and its providers.",
        ("version", "python", "runtime", "runtime_version", "providers"),
    ),
    Metric("glasshouse_workers", "gauge", "Worker processes that the figures are of."),
)
_NO_PROC = "where there is no /proc"
_PROCESS = (
    Metric("process_virtual_memory_bytes", "gauge", "Virtual memory size.", sometimes=_NO_PROC),
    Metric("process_resident_memory_bytes", "gauge", "Resident memory size.", sometimes=_NO_PROC),
    Metric("process_start_time_seconds", "gauge", "Start since the epoch.", least=True, sometimes=_NO_PROC),
    Metric("process_cpu_seconds", "counter", "User and system time.", sometimes=_NO_PROC),
    Metric("process_open_fds", "gauge", "Open file descriptors.", sometimes=_NO_PROC),
    Metric("process_max_fds", "gauge", "Most file descriptors that may be open.", sometimes=_NO_PROC),
)
METRICS: dict[str, Metric] = {
    metric.name: metric for metric in (*_REQUESTS, *_EXPLANATIONS, *_ENGINE, *_SERVER, *_PROCESS)
}
PAGE = """# Metrics

`GET /metrics` answers in Prometheus' text format, or as OpenMetrics where `Accept` asks for it. Times are seconds,
sizes bytes. With several workers (and engine processes) a scrape is of all of them, whichever worker answers: counters
and histograms are sums that keep what ended workers had counted when they were last scraped, gauges are sums over
those that live (of `process_start_time_seconds` the least). Memory that workers share counts in each.

Labels are bounded. `model` is the name of a model of the store, empty for requests about no model or an unknown one;
`route` is one of the server's routes, such as `v2.infer` (`none` for an unknown address, `front` where a request was
refused before its address was looked at); `reason` is an error's type; `lane` is `predict` or `explain`; `operation`
likewise. A request that is still streaming is counted when it ends.

`deploy/grafana.json` is a dashboard of these figures.

## Traces

With the `otel` extra installed (in the container image it is) and `OTEL_EXPORTER_OTLP_ENDPOINT` set, every request is a
trace, sent by OTLP over HTTP; the other [standard
variables](https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/) mean what they mean
everywhere. A `traceparent` that comes with a request is taken up; the answer tells its own in `traceresponse`. Below
the request stand `decode`, `predict`, each `explain chunk`, `record` and `encode`. Attributes say route and status, and
as `glasshouse.*` the model, its version, the method, the ids of request and decision; never a value of an input.
Without the extra or the endpoint nothing of it is imported.

## The figures
"""


def metrics_page() -> str:
    """The whole of ``docs/metrics.md``."""
    rows = ["| metric | type | labels | what |", "| --- | --- | --- | --- |"]
    for metric in METRICS.values():
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        absent = f" Absent {metric.sometimes}." if metric.sometimes else ""
        rows.append(f"| `{metric.shown}` | {metric.kind} | {labels} | {metric.help}{absent} |")
    return PAGE + "\n" + "\n".join(rows) + "\n"
