"""Traces: what is asked becomes spans that say which and how long, and never what was sent."""

from __future__ import annotations

import http.server
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests
from flask.testing import FlaskClient
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from engine import RunFailed
from server import Config
from server.traces import Traces, open_traces, wanted

ROOT = Path(__file__).parents[2]
ROW = {"petal": 1.515625, "sepal": -0.503125, "colour": "w"}
SECRETS = ("1.515625", "0.503125", "petal", "colour")
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ADAPTIVE = {"rule": "adaptive", "tolerance": 1e-7, "max_evals": 200}
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.fixture
def spans(client: FlaskClient) -> Iterator[InMemorySpanExporter]:
    """Where the spans of `client` go."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    client.application.extensions["glasshouse"].traces = Traces(provider)
    yield exporter
    provider.shutdown()


def tree(spans: InMemorySpanExporter) -> tuple[ReadableSpan, list[ReadableSpan]]:
    """The one span without a parent here, and those below it in the order of their start; all of one trace."""
    found = spans.get_finished_spans()
    ids = {span.context.span_id for span in found}
    (root,) = (span for span in found if span.parent is None or span.parent.span_id not in ids)
    below = sorted((span for span in found if span is not root), key=lambda span: span.start_time or 0)
    assert {span.context.trace_id for span in found} == {root.context.trace_id}
    assert all(span.parent is not None and span.parent.span_id == root.context.span_id for span in below)
    assert all((root.start_time or 0) <= (span.start_time or 0) for span in below)
    assert all((span.end_time or 0) <= (root.end_time or 0) for span in below)
    return root, below


def leaked(spans: InMemorySpanExporter) -> list[str]:
    """What was sent and stands in a span nevertheless."""
    text = "\n".join(span.to_json() for span in spans.get_finished_spans())
    return [secret for secret in SECRETS if secret in text]


def explain(client: FlaskClient, **headers: str) -> Any:
    content = {"instances": [ROW], "method": "integrated_gradients", "parameters": ADAPTIVE}
    return client.post("/v1/models/flowers:explain", json=content, headers=headers)


def test_a_prediction_is_a_trace(client: FlaskClient, spans: InMemorySpanExporter) -> None:
    sent = {"X-Request-Id": "r-1"}
    answer = client.post("/v1/models/flowers:predict", json={"instances": [ROW]}, headers=sent)
    root, below = tree(spans)
    assert root.name == "POST /v1/models/<name>:predict"
    assert [span.name for span in below] == ["decode", "predict", "record", "encode"]
    assert dict(root.attributes or {}) == {
        "http.request.method": "POST",
        "http.route": "/v1/models/<name>:predict",
        "http.response.status_code": 200,
        "glasshouse.request_id": "r-1",
        "glasshouse.model": "flowers",
        "glasshouse.version": 1,
        "glasshouse.decision_id": answer.headers["Glasshouse-Decision"],
    }
    assert leaked(spans) == []


def test_every_chunk_of_an_explanation_has_its_span(client: FlaskClient, spans: InMemorySpanExporter) -> None:
    service = client.application.extensions["glasshouse"]
    before = service.engine.statistics().lanes["explain"].queue_seconds
    assert explain(client).status_code == 200
    runs = sum(service.engine.statistics().lanes["explain"].queue_seconds.counts) - sum(before.counts)
    root, below = tree(spans)
    names = [span.name for span in below]
    assert names == ["decode", "predict", *["explain chunk"] * (runs - 1), "record", "encode"]
    assert runs > 2
    assert (root.attributes or {})["glasshouse.method"] == "integrated_gradients"
    assert set(below[2].attributes or {}) == {f"glasshouse.{n}" for n in ("program", "batch_items", "queue_seconds")}
    assert leaked(spans) == []


def test_what_was_sent_is_noticed_in_a_span(client: FlaskClient, spans: InMemorySpanExporter) -> None:
    traces = client.application.extensions["glasshouse"].traces
    trace = traces.begin("POST", "/x", "r", {})
    trace.say(value=ROW["petal"])
    trace.end(200, None)
    assert leaked(spans) == ["1.515625"]


def test_a_stream_is_one_trace(client: FlaskClient, spans: InMemorySpanExporter) -> None:
    with explain(client, Accept="application/x-ndjson") as answer:
        assert answer.get_data()
    root, below = tree(spans)
    assert [span.name for span in below][-1] == "record"
    assert (root.attributes or {})["glasshouse.decision_id"]


def test_a_trace_is_taken_up_and_told(client: FlaskClient, spans: InMemorySpanExporter) -> None:
    answer = client.get("/v2/health/live", headers={"traceparent": PARENT, "tracestate": "a=b"})
    root, _ = tree(spans)
    _, trace_id, parent_id, _ = PARENT.split("-")
    assert root.parent is not None
    assert (f"{root.context.trace_id:032x}", f"{root.parent.span_id:016x}") == (trace_id, parent_id)
    assert answer.headers["traceresponse"] == f"00-{trace_id}-{root.context.span_id:016x}-01"
    assert root.context.trace_state.get("a") == "b"


def test_a_trace_that_is_no_trace_begins_a_new_one(client: FlaskClient, spans: InMemorySpanExporter) -> None:
    answer = client.get("/v2/health/live", headers={"traceparent": "00-nonsense"})
    root, _ = tree(spans)
    assert root.parent is None
    assert answer.headers["traceresponse"].split("-")[1] == f"{root.context.trace_id:032x}"


def test_failures_say_their_type_and_no_more(
    client: FlaskClient, spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RunFailed(f"petal is {ROW['petal']}")

    monkeypatch.setattr(client.application.extensions["glasshouse"].engine, "run", fail)
    assert client.post("/v1/models/flowers:predict", json={"instances": [ROW]}).status_code == 500
    root, below = tree(spans)
    assert [span.name for span in below] == ["decode", "predict"]
    for span in (root, below[-1]):
        assert (span.attributes or {})["error.type"] == "RunFailed"
        assert not span.status.is_ok
    assert leaked(spans) == []


def test_a_clients_mistake_is_not_the_servers(client: FlaskClient, spans: InMemorySpanExporter) -> None:
    client.get("/nowhere/petal")
    root, _ = tree(spans)
    assert root.name == "GET"
    assert (root.attributes or {})["error.type"] == "NotFound"
    assert root.status.is_ok
    assert leaked(spans) == []


@pytest.mark.parametrize(
    ("environment", "asked"),
    [
        ({}, False),
        ({ENDPOINT: ""}, False),
        ({ENDPOINT: "http://collector:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        ({ENDPOINT: "http://collector:4318", "OTEL_SDK_DISABLED": "true"}, False),
        ({ENDPOINT: "http://collector:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_traces_are_made_where_the_environment_asks(environment: dict[str, str], asked: bool) -> None:
    assert wanted(environment) is asked


@pytest.mark.parametrize("lacking", ["extra", "protocol"])
def test_what_cannot_be_done_is_said(
    lacking: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    environment = {ENDPOINT: "http://127.0.0.1:1"}
    if lacking == "extra":
        monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    else:
        environment["OTEL_EXPORTER_OTLP_PROTOCOL"] = "grpc"
    logger = logging.getLogger("glasshouse")
    monkeypatch.setattr(logger, "propagate", True)
    with caplog.at_level("WARNING", logger="glasshouse"):
        assert open_traces(environment) is None
    (record,) = caplog.records
    assert lacking in record.__dict__["reason"]


QUIET = """
import sys, pathlib
from server import Config, create_app, open_service
service = open_service(Config(store=pathlib.Path(sys.argv[1]), audit="off", threads=1))
client = create_app(service.config, service).test_client()
assert client.get("/v2/models").status_code == 200
before = [name for name in sys.modules if name.startswith("prometheus_client")]
assert client.get("/metrics").status_code == 200
service.close()
print(before + [name for name in sys.modules if name.startswith("opentelemetry")])
"""


def test_nothing_is_imported_that_nobody_asked_for(store_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GLASSHOUSE_", "OTEL_"))}
    program = [sys.executable, "-c", QUIET, str(store_path)]
    run = subprocess.run(program, cwd=ROOT, env=kept, capture_output=True, text=True, check=False)
    assert run.stdout.strip() == "[]", run.stderr


class Collector(http.server.ThreadingHTTPServer):
    """Receives traces as OTLP over HTTP."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Receiver)
        self.received: list[tuple[str, ExportTraceServiceRequest]] = []

    def spans(self) -> dict[str, Any]:
        """Spans by name."""
        parts = (part for _, message in self.received for part in message.resource_spans)
        return {span.name: span for part in parts for scope in part.scope_spans for span in scope.spans}


class _Receiver(http.server.BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append((self.path, ExportTraceServiceRequest.FromString(body)))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def served(port: int) -> bool:
    with suppress(requests.ConnectionError):
        return requests.get(f"http://127.0.0.1:{port}/v2/health/ready", timeout=10).ok
    return False


def test_a_server_sends_its_traces_and_the_last_ones_when_it_stops(
    collector: Collector, store_path: Path, tmp_path: Path
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GLASSHOUSE_", "OTEL_"))}
    late = {"OTEL_BSP_SCHEDULE_DELAY": "600000", ENDPOINT: f"http://127.0.0.1:{collector.server_address[1]}"}
    flags = ["--store", str(store_path), "--database", str(tmp_path / "d.sqlite"), "--port", str(port)]
    with (tmp_path / "log.txt").open("wb") as log:
        command = [sys.executable, "-m", "cli", "serve", "--threads", "1", *flags]
        process = subprocess.Popen(command, cwd=ROOT, env={**kept, **late}, stdout=log, stderr=log)
    try:
        wait(lambda: served(port))
        address = f"http://127.0.0.1:{port}/v1/models/flowers:predict"
        answer = requests.post(address, json={"instances": [ROW]}, headers={"traceparent": PARENT}, timeout=30)
        assert answer.ok
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    wait(lambda: "encode" in collector.spans())
    found = collector.spans()
    root = found["POST /v1/models/<name>:predict"]
    assert root.trace_id.hex() == PARENT.split("-")[1] == answer.headers["traceresponse"].split("-")[1]
    assert {"decode", "predict", "record", "encode"} <= {n for n, s in found.items() if s.trace_id == root.trace_id}
    path, message = collector.received[0]
    assert path == "/v1/traces"
    named = {entry.key: entry.value.string_value for entry in message.resource_spans[0].resource.attributes}
    assert named["service.name"] == "glasshouse"
    assert not [secret for secret in SECRETS if secret in str([message for _, message in collector.received])]


def wait(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.1)


def test_an_app_without_traces_tells_none(open_client: Callable[[Config], FlaskClient], config: Config) -> None:
    answer = open_client(config).get("/v2/health/live", headers={"traceparent": PARENT})
    assert "traceresponse" not in answer.headers
