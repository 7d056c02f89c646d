"""OpenTelemetry traces, for those who asked for them.

They are made only with the ``otel`` extra installed and an endpoint named by the standard variables
(``OTEL_EXPORTER_OTLP_ENDPOINT`` or ``OTEL_EXPORTER_OTLP_TRACES_ENDPOINT``); otherwise nothing of it is imported. A
trace takes up the ``traceparent`` that came with a request and tells its own in ``traceresponse``. Its spans say which
model, version and method, and which request and decision; never a value of an input, nor an error's message, which may
quote one.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from http import HTTPStatus
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .logs import log
from .stages import Stage
from .version import VERSION

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROTOCOL = "http/protobuf"
RESPONSE_HEADER = "traceresponse"
PREFIX = "glasshouse."


def wanted(environment: Mapping[str, str]) -> bool:
    """Whether the standard variables ask for traces to be sent."""
    disabled = environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    exporter = environment.get("OTEL_TRACES_EXPORTER", "").strip() or "otlp"
    return any(environment.get(name) for name in ENDPOINTS) and not disabled and exporter == "otlp"


def open_traces(environment: Mapping[str, str] | None = None) -> Traces | None:
    """Traces sent to where the environment says; None where it says nothing, or cannot be followed (a log line)."""
    environment = os.environ if environment is None else environment
    if not wanted(environment):
        return None
    protocol = next((environment[name] for name in PROTOCOLS if environment.get(name)), PROTOCOL)
    if protocol != PROTOCOL:
        log().warning("traces are not sent", extra={"reason": f"protocol: got {protocol!r}, expected {PROTOCOL!r}"})
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        reason = f"an endpoint is set, but the otel extra is not installed (no {error.name})"
        log().warning("traces are not sent", extra={"reason": reason})
        return None
    named = environment.get("OTEL_SERVICE_NAME") or "service.name=" in environment.get("OTEL_RESOURCE_ATTRIBUTES", "")
    own = {"service.version": VERSION, **({} if named else {"service.name": "glasshouse"})}
    provider = TracerProvider(resource=Resource.create(own))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    # What goes wrong while sending is told among our own log lines.
    logger = logging.getLogger("opentelemetry")
    logger.handlers[:], logger.propagate = log().handlers, False
    return Traces(provider)


class Traces:
    """Begins a trace, or takes one up, for each request. ``provider`` says where spans go."""

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer = provider.get_tracer("glasshouse", VERSION)
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, method: str, route: str | None, request_id: str, carried: Mapping[str, str]) -> RequestTrace:
        """The trace of a request that came now; ``route`` is the pattern that its path matched, ``carried`` its headers
        that take up another trace."""
        from opentelemetry.trace import SpanKind

        attributes = {"http.request.method": method, f"{PREFIX}request_id": request_id}
        if route is not None:
            attributes["http.route"] = route
        span = self._tracer.start_span(
            f"{method} {route}" if route else method,
            context=self._propagator.extract(dict(carried)),
            kind=SpanKind.SERVER,
            attributes=attributes,
        )
        return RequestTrace(self._tracer, span)

    def close(self) -> None:
        """Sends what is left."""
        self._provider.shutdown()


class RequestTrace:
    """A `stages.Trace` as spans: one for the request, and below it one for each stage."""

    def __init__(self, tracer: Tracer, span: Span) -> None:
        from opentelemetry.trace import set_span_in_context

        self._tracer, self._span = tracer, span
        self._context = set_span_in_context(span)

    def stage(self, name: str, seconds: dict[str, float]) -> Stage:
        """See `Trace.stage`."""
        return _SpanStage(name, seconds, self)

    def child(self, name: str, start_ns: int | None = None) -> Span:
        """A span below that of the request."""
        return self._tracer.start_span(name, context=self._context, start_time=start_ns)

    def say(self, **attributes: Any) -> None:
        """See `Trace.say`."""
        _say(self._span, attributes)

    def passed(self, name: str, seconds: float) -> None:
        """See `Trace.passed`."""
        now = time.time_ns()
        self.child(name, now - int(seconds * 1e9)).end(now)

    def end(self, status: int, error: str | None) -> None:
        """See `Trace.end`."""
        self._span.set_attribute("http.response.status_code", status)
        if error is not None:
            _fail(self._span, error, ours=status >= HTTPStatus.INTERNAL_SERVER_ERROR)
        self._span.end()

    @property
    def headers(self) -> Mapping[str, str]:
        """See `Trace.headers`."""
        of = self._span.get_span_context()
        return {RESPONSE_HEADER: f"00-{of.trace_id:032x}-{of.span_id:016x}-{int(of.trace_flags):02x}"}


class _SpanStage(Stage):
    __slots__ = ("_span", "_trace")

    def __init__(self, name: str, seconds: dict[str, float], trace: RequestTrace) -> None:
        super().__init__(name, seconds)
        self._trace = trace

    def __enter__(self) -> Stage:
        self._span = self._trace.child(self._name)
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        if kind is not None:
            _fail(self._span, kind.__name__, ours=True)
        self._span.end()

    def say(self, **attributes: Any) -> None:
        """See `Stage.say`."""
        _say(self._span, attributes)


def _say(span: Span, attributes: Mapping[str, Any]) -> None:
    for name, value in attributes.items():
        if value is not None:
            span.set_attribute(f"{PREFIX}{name}", value)


def _fail(span: Span, error: str, *, ours: bool) -> None:
    """A failure by its type alone; by the conventions for HTTP a client's mistake is not the server's error."""
    from opentelemetry.trace import StatusCode

    span.set_attribute("error.type", error)
    if ours:
        span.set_status(StatusCode.ERROR)
