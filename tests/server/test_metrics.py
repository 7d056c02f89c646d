"""GET /metrics says what was asked and done: every figure is counted here a second time, from the requests sent."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from engine import DeadlineExceeded, QueueFull
from server import Config, metrics_page
from server.metrics import METRICS

ROW = {"petal": 1.5, "sepal": -0.5, "colour": "w"}
TENSOR = {"name": "x", "datatype": "FP32", "shape": [2, 3], "data": [1.5, -0.5, 1, 0.25, 2, 2]}
LINES = {"Accept": "application/x-ndjson"}


class Scrape:
    """The families of an exposition, as the client library's own parser reads them."""

    def __init__(self, text: str) -> None:
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self.samples = [sample for family in self.families.values() for sample in family.samples]

    def __call__(self, name: str, **labels: str) -> float:
        """The sum of the samples of this name that have these labels."""
        return sum(s.value for s in self.samples if s.name == name and labels.items() <= s.labels.items())

    def values(self, label: str) -> set[str]:
        return {sample.labels[label] for sample in self.samples if label in sample.labels}


def scrape(client: FlaskClient) -> Scrape:
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.mimetype == "text/plain"
    return Scrape(answer.get_data(as_text=True))


def predict(client: FlaskClient, model: str = "flowers", **more: Any) -> Any:
    return client.post(f"/v1/models/{model}:predict", json={"instances": [ROW], **more})


def explain(client: FlaskClient, rows: int = 1, **more: Any) -> Any:
    content = {"instances": [ROW] * rows, "method": "integrated_gradients", **more}
    return client.post("/v1/models/flowers:explain", json=content)


def test_requests_are_counted_by_route_model_and_status(client: FlaskClient) -> None:
    for _ in range(3):
        assert predict(client).status_code == 200
    assert client.post("/v2/models/flowers/infer", json={"inputs": [TENSOR]}).status_code == 200
    assert predict(client, nonsense=1).status_code == 400
    assert client.get("/v2/health/live").status_code == 200
    found = scrape(client)
    assert found("glasshouse_requests_total", route="v1.predict", model="flowers", status="200") == 3
    assert found("glasshouse_requests_total", route="v2.infer", model="flowers", status="200") == 1
    assert found("glasshouse_requests_total", route="v1.predict", model="flowers", status="400") == 1
    assert found("glasshouse_requests_total", route="health.live", model="") == 1
    assert found("glasshouse_requests_total") == 6
    assert found("glasshouse_request_errors_total", route="v1.predict", reason="BadRequest") == 1
    assert found("glasshouse_request_errors_total") == 1
    assert found("glasshouse_request_seconds_count", route="v1.predict") == 4
    assert found("glasshouse_requests_in_flight") == 1, "the scrape itself"
    assert found("glasshouse_request_wait_seconds_count") == 6
    assert found("glasshouse_rows_total", operation="predict", model="flowers") == 3 + 2


def test_names_that_clients_make_up_make_no_labels(client: FlaskClient) -> None:
    predict(client)
    scrape(client)
    before = scrape(client)
    for made_up in ("absent", "tumour2", "no%2Fsuch", "x" * 500):
        assert predict(client, made_up).status_code == 404
        assert client.get(f"/v2/models/{made_up}").status_code == 404
        assert client.get(f"/{made_up}").status_code == 404
    found = scrape(client)
    assert found.values("model") == before.values("model") == {"", "flowers", "patch", "price", "broken", "single"}
    assert found.values("route") - before.values("route") == {"metadata.model", "none"}
    assert found("glasshouse_requests_total", model="", status="404") == 12
    assert found.values("reason") == {"UnknownModel", "NotFound"}


def test_stages_of_predict_and_explain_are_apart(client: FlaskClient) -> None:
    predict(client)
    predict(client)
    explain(client)
    found = scrape(client)
    for stage in ("decode", "queue", "run", "record", "encode"):
        labels = {"model": "flowers", "stage": stage}
        assert found("glasshouse_stage_seconds_count", operation="predict", **labels) == 2
        assert found("glasshouse_stage_seconds_count", operation="explain", **labels) == 1
    parts = found("glasshouse_stage_seconds_sum", operation="predict")
    assert 0 < parts <= found("glasshouse_request_seconds_sum", route="v1.predict")


def test_no_record_no_time_of_it(open_client: Callable[[Config], FlaskClient], store_path: Path) -> None:
    client = open_client(Config(store=store_path, audit="off", threads=1))
    predict(client)
    assert scrape(client).values("stage") == {"decode", "queue", "run", "encode"}


def test_explanations_are_counted_by_row(client: FlaskClient) -> None:
    answers = [
        explain(client, rows=2, parameters={"n_steps": 7}),
        explain(client, parameters={"rule": "adaptive", "tolerance": 1e-9, "max_evals": 50}),
        explain(client, method="saliency"),
    ]
    told = [entry["quality"] for answer in answers for entry in answer.get_json()["explanations"]]
    found = scrape(client)
    assert found("glasshouse_explanations_total", method="integrated_gradients", stopped="finished") == 2
    assert found("glasshouse_explanations_total", stopped=told[2]["stopped_by"]) == 1
    assert found("glasshouse_explanations_total", method="saliency") == 1
    name = "glasshouse_explanation_evaluations"
    assert found(f"{name}_sum") == sum(quality["evaluations"] for quality in told)
    assert found(f"{name}_bucket", method="integrated_gradients", le="10.0") == sum(
        quality["evaluations"] <= 10 for quality in told[:3]
    )
    gaps = [abs(quality["completeness_gap_relative"]) for quality in told[:3]]
    assert found("glasshouse_explanation_completeness_gap_ratio_sum") == pytest.approx(sum(gaps))
    assert found("glasshouse_explanation_completeness_gap_ratio_count", method="saliency") == 0
    assert found("glasshouse_explanation_forward_gap_count") == 4


def test_a_stream_counts_when_it_ends(client: FlaskClient) -> None:
    content = {"instances": [ROW], "method": "integrated_gradients", "parameters": {"rule": "adaptive"}}
    answer = client.post("/v1/models/flowers:explain", json=content, headers=LINES, buffered=False)
    assert scrape(client)("glasshouse_requests_in_flight") == 2
    assert answer.get_data()
    answer.close()
    found = scrape(client)
    assert found("glasshouse_requests_in_flight") == 1
    assert found("glasshouse_requests_total", route="v1.explain") == 1
    assert found("glasshouse_explanations_total") == 1


def test_what_the_engine_refuses_is_a_reason(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    service = client.application.extensions["glasshouse"]
    for error in (QueueFull("full"), DeadlineExceeded("late"), ZeroDivisionError()):
        with monkeypatch.context() as patch:
            patch.setattr(service.engine, "run", lambda *_, error=error, **__: throw(error))
            predict(client)
    found = scrape(client)
    assert found.values("reason") == {"QueueFull", "DeadlineExceeded", "ZeroDivisionError"}
    assert found("glasshouse_request_errors_total", model="flowers") == 3


def throw(error: Exception) -> None:
    raise error


def test_the_engines_figures_are_there(client: FlaskClient) -> None:
    service = client.application.extensions["glasshouse"]
    for _ in range(2):
        predict(client)
    explain(client)
    now, found = service.engine.statistics(), scrape(client)
    for lane in ("predict", "explain"):
        assert found("glasshouse_engine_batch_items_count", lane=lane) == sum(now.lanes[lane].batch_items.counts)
        assert found("glasshouse_engine_queue_seconds_sum", lane=lane) == now.lanes[lane].queue_seconds.total
    batches = found("glasshouse_engine_batch_items_count")
    assert batches == now.runs == found("glasshouse_engine_run_seconds_count")
    assert found("glasshouse_engine_batch_items_sum") == now.items
    assert found("glasshouse_engine_sessions") == len(now.sessions)
    assert found("glasshouse_engine_queued_items") == found("glasshouse_engine_rejected_total") == 0


def test_versions_in_service_and_what_serves(client: FlaskClient) -> None:
    found = scrape(client)
    service = client.application.extensions["glasshouse"]
    for version in service.models.offered():
        assert found("glasshouse_model_info", model=version.name, version=str(version.version)) == 1
    assert found("glasshouse_build_info", runtime="onnxruntime", runtime_version=service.engine.info().version) == 1
    assert found("glasshouse_workers") == 1
    assert found("process_resident_memory_bytes") > 1e6
    assert found("process_open_fds") > 3


def test_what_is_answered_again_is_no_further_explanation(client: FlaskClient) -> None:
    answers = [explain(client, rows=2).get_json()["explanations"][0] for _ in range(3)]
    assert [answer["cached"] for answer in answers] == [False, True, True]
    found = scrape(client)
    assert found("glasshouse_result_cache_hits_total") == 2
    assert found("glasshouse_result_cache_misses_total") == 1
    assert found("glasshouse_result_cache_entries") == 1
    assert found("glasshouse_result_cache_bytes") > 0
    assert found("glasshouse_rows_total", operation="explain") == 6
    assert found("glasshouse_explanations_total") == 2
    assert found("glasshouse_explanation_evaluations_count") == 2
    for stage, count in {"decode": 3, "run": 1, "record": 3}.items():
        assert found("glasshouse_stage_seconds_count", operation="explain", stage=stage) == count


def test_openmetrics_is_spoken_to_those_who_ask(client: FlaskClient) -> None:
    predict(client)
    answer = client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.mimetype == "application/openmetrics-text"
    families = {f.name: f for f in openmetrics.text_string_to_metric_families(answer.get_data(as_text=True))}
    assert families["glasshouse_requests"].type == "counter"
    assert families["glasshouse_model"].type == "info"


def undocumented(found: Mapping[str, Any], page: str) -> list[str]:
    """Differences between what is exported and the table in the docs: names, types, labels."""
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]*) \|", page, re.MULTILINE)
    said = {re.sub("_(total|info)$", "", name): (kind, set(re.findall(r"`(\w+)`", text))) for name, kind, text in rows}
    wrong = [name for name in found if name not in said]
    for name in found.keys() & said.keys():
        labels = set().union(*(sample.labels for sample in found[name].samples)) - {"le"}
        if said[name] != (found[name].type, labels):
            wrong.append(name)
    return sorted(wrong + [name for name in said if name not in found])


def everything(client: FlaskClient) -> Mapping[str, Any]:
    """The families of a server that has had something of everything."""
    explain(client)
    predict(client, nonsense=1)
    openmetrics_text = {"Accept": "application/openmetrics-text; version=1.0.0"}
    text = client.get("/metrics", headers=openmetrics_text).get_data(as_text=True)
    return {family.name: family for family in openmetrics.text_string_to_metric_families(text)}


def test_the_page_lists_what_is_exported(client: FlaskClient) -> None:
    assert undocumented(everything(client), metrics_page()) == ["glasshouse_engine_device_memory_bytes"]


def test_a_metric_that_the_page_lacks_is_noticed(client: FlaskClient) -> None:
    page = metrics_page()
    assert "glasshouse_rows" in undocumented(everything(client), page.replace("`glasshouse_rows_total`", "`rows`"))
    spoiled = page.replace("| `lane` | Items that wait", "| `model` | Items that wait")
    assert "glasshouse_engine_queued_items" in undocumented(everything(client), spoiled)


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_names_follow_the_conventions(metric: Any) -> None:
    assert re.fullmatch(r"(glasshouse|process)_[a-z_]+", metric.name)
    assert not metric.name.endswith(("_total", "_info", "_count", "_sum", "_bucket"))
    assert metric.help.endswith(".")


def queried(dashboard: Any) -> Iterator[str]:
    """Every metric name in the queries of a dashboard."""
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield from re.findall(r"\b((?:glasshouse|process)_\w+)", target["expr"])


def test_the_dashboard_asks_for_what_there_is() -> None:
    dashboard = json.loads((Path(__file__).parents[2] / "deploy" / "grafana.json").read_text())
    shown = set()
    for metric in METRICS.values():
        endings = ("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",)
        shown |= {metric.shown + ending for ending in endings}
    asked = set(queried(dashboard))
    assert asked
    assert asked <= shown
    assert set(queried({"panels": [{"targets": [{"expr": "rate(glasshouse_made_up_total[1m])"}]}]})) - shown
