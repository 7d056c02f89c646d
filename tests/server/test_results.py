"""Explanations that are kept: the same question, bit for bit the same answer, and no run; anything else is another."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

import engine
from server import Config, Service, create_app, open_service, results
from server.errors import BadRequest
from server.messages import ExplainRequest, Rows
from server.results import Key

ROW = {"petal": 1.5, "sepal": -0.5, "colour": "w"}
V1, V2 = "/v1/models/flowers:explain", "/v2/models/flowers/explain"
TENSOR = {"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1.5, -0.5, 1.0]}
BASE = ExplainRequest("flowers", None, Rows([ROW]), method="kernel_shap")
# What makes another question of BASE: for each member of the key, changes of the request that must be seen in it.
ASKED: dict[str, list[dict[str, Any]]] = {
    "inputs": [{"payload": Rows([ROW, ROW])}, {"payload": Rows([{**ROW, "petal": 1.5000001}])}],
    "method": [{"method": "exact_shap"}, {"method": None}],
    "parameters": [{"parameters": {"n_samples": 6}}, {"parameters": {"tolerance": 0.5}}],
    "checks": [{"checks": ["infidelity"]}, {"checks": {"infidelity": {"n_samples": 3}}}],
    "target": [{"target": 1}, {"target": {"class": 1, "versus": 0}}, {"target": {"class": 0, "versus": 1}}],
    "space": [{"space": "output"}],
    "baseline": [{"method": "integrated_gradients", "baseline": given} for given in (1, 1.5, ROW)],
    "background": [{"background": "default"}, {"background": [ROW]}, {"background": {"name": "default", "size": 3}}],
    "groups": [{"groups": {"x": [0, 1, 1]}}, {"groups": [0, 0, 1]}, {"groups": "elements"}],
    "group_names": [{"groups": [0, 1, 1], "group_names": ["a", "b"]}, {"groups": [0, 1, 1], "group_names": ["a", "c"]}],
    "removal": [{"removal": {"constant": 0}}, {"removal": {"constant": 1.0}}, {"removal": "background"}],
    "seed": [{"seed": 1}],
}
MEMBERS = {"inputs": "payload"}  # of a request, where they are not called as in the key


@pytest.fixture
def service(config: Config) -> Iterator[Service]:
    opened = open_service(config)
    yield opened
    opened.close()


@pytest.fixture
def client(service: Service, config: Config) -> FlaskClient:
    return create_app(config, service).test_client()


def without(answer: Any, names: tuple[str, ...]) -> Any:
    """JSON without some members, at any depth."""
    if isinstance(answer, dict):
        return {name: without(value, names) for name, value in answer.items() if name not in names}
    return [without(value, names) for value in answer] if isinstance(answer, list) else answer


def difference(first: Any, second: Any) -> str | None:
    """Where two answers differ beside decisions, runs and being kept, every number to its last digit."""
    one, two = (
        json.dumps(without(answer, ("decisions", "decision_id", "runs", "cached"))) for answer in (first, second)
    )
    return None if one == two else f"{one} != {two}"


def test_a_difference_is_seen() -> None:
    assert difference({"a": [1.0], "cached": False}, {"a": [1.0], "cached": True}) is None
    assert difference({"a": [1.0]}, {"a": [1.0000000000000002]}) is not None


def explained(client: FlaskClient, path: str, body: Any, **headers: str) -> TestResponse:
    answer = client.post(path, json=body, headers=headers)
    assert answer.status_code == 200, answer.get_data()
    return answer


@pytest.mark.parametrize("method", ["saliency", "integrated_gradients", "kernel_shap", "exact_shap"])
def test_asked_again_it_is_the_same_to_the_bit_and_nothing_runs(
    client: FlaskClient, service: Service, method: str
) -> None:
    body = {"instances": [ROW, [0.25, 2, "b"]], "method": method, "checks": ["infidelity"]}
    first = explained(client, V1, body).get_json()
    before = service.engine.statistics()
    again = explained(client, V1, body).get_json()
    after = service.engine.statistics()
    assert (after.runs, after.items, after.artifacts) == (before.runs, before.items, before.artifacts)
    assert difference(first, again) is None
    assert [entry["cached"] for entry in (*first["explanations"], *again["explanations"])] == [False, False, True, True]
    assert again["runs"] == {"count": 0, "shared_with_max": 0, "batch_items_max": 0}
    assert not set(first["decisions"]) & set(again["decisions"])
    assert len(again["decisions"]) == 2


def test_v2_says_it_too_and_answers_the_same_bytes(client: FlaskClient, service: Service) -> None:
    body = {"inputs": [TENSOR], "parameters": {"binary_data_output": True}, "explain": {"method": "exact_shap"}}
    first, again = (explained(client, V2, body) for _ in range(2))
    said = []
    for answer in (first, again):
        length = int(answer.headers["Inference-Header-Content-Length"])
        said.append((json.loads(answer.data[:length]), answer.data[length:]))
    assert difference(said[0][0], said[1][0]) is None
    assert said[0][1] == said[1][1] != b""
    assert [head["explanation"]["cached"] for head, _ in said] == [False, True]
    assert first.headers["Glasshouse-Decision"] != again.headers["Glasshouse-Decision"]
    rows = explained(client, V1, {"instances": [ROW], "method": "exact_shap"}).get_json()
    assert rows["explanations"][0]["cached"], "the same row by another door is the same question"
    assert service.results.statistics().hits == 2


def test_a_stream_has_one_line(client: FlaskClient) -> None:
    body = {"instances": [ROW], "method": "integrated_gradients", "parameters": {"rule": "adaptive", "tolerance": 1e-7}}
    first, again = (explained(client, V1, body, Accept="application/x-ndjson").data.splitlines() for _ in range(2))
    assert len(first) > 1
    assert [json.loads(line)["explanations"][0]["cached"] for line in first] == [False] * len(first)
    (line,) = again
    assert not json.loads(line)["provisional"]
    assert json.loads(line)["explanations"][0]["cached"]
    assert difference(json.loads(first[-1]), json.loads(line)) is None


def test_its_record_is_whole_and_its_picture_the_same(client: FlaskClient, models: ModuleType) -> None:
    drawn = []
    for _ in range(2):
        image = models.png(models.PIXELS)
        answer = client.post(
            "/v1/models/patch:explain", data=image, content_type="image/png", headers={"Accept": "image/png"}
        )
        kept = client.get(f"/v1/decisions/{answer.headers['Glasshouse-Decision']}.0").get_json()
        picture = client.get(f"/v1/decisions/{answer.headers['Glasshouse-Decision']}.0/picture").data
        assert picture == answer.data
        drawn.append((picture, kept))
    (one, first), (two, again) = drawn
    assert one == two
    assert [kept["explanation"]["cached"] for kept in (first, again)] == [False, True]
    assert again["entry"]["runtime"]["runs"]["count"] == 0 < first["entry"]["runtime"]["runs"]["count"]
    for content in ("inputs", "outputs", "attributions"):
        assert first[content] == again[content]
    assert first["entry"]["received"] == again["entry"]["received"]
    assert first["entry"]["id"] != again["entry"]["id"]


@pytest.mark.parametrize(
    ("member", "change"), [(name, change) for name, changes in ASKED.items() for change in changes]
)
def test_another_question_is_run(service: Service, member: str, change: Mapping[str, Any]) -> None:
    service.explain(BASE)
    asked = dataclasses.replace(BASE, **change)
    name = MEMBERS.get(member, member)
    service.explain(dataclasses.replace(asked, **{name: getattr(BASE, name)}))  # the same but for this member
    assert not service.explain(asked).cached, member
    assert service.explain(asked).cached
    assert service.explain(BASE).cached


def test_the_defaults_written_out_are_the_same_question(service: Service) -> None:
    asked = ExplainRequest("flowers", None, Rows([ROW]))
    service.explain(asked)
    chosen = service.models.resolve("flowers", None).manifest.explanation.method
    assert service.explain(dataclasses.replace(asked, method=chosen, output="logits", version="1")).cached
    assert service.explain(dataclasses.replace(asked, payload=Rows([[1.5, -0.5, "w"]]), request_id="other")).cached
    assert service.explain(dataclasses.replace(asked, outputs=["logits"], timeout_seconds=30)).cached


def test_what_is_wrong_with_a_request_is_said_though_its_answer_is_kept(service: Service) -> None:
    service.explain(BASE)
    with pytest.raises(BadRequest, match="outputs: got 'nope'"):
        service.explain(dataclasses.replace(BASE, outputs=["nope"]))
    with pytest.raises(engine.DeadlineExceeded):
        service.explain(dataclasses.replace(BASE, timeout_seconds=1e-9))
    assert service.audit is not None
    assert service.audit.count() == 1


def test_another_manifest_is_another_question(own_store: Path, config: Config, models: ModuleType) -> None:
    service = open_service(dataclasses.replace(config, store=own_store))
    asked = ExplainRequest("price", None, Rows([[1, 2, 3]]))
    first = service.explain(asked)
    (spec,) = models.price().outputs
    renamed = msgspec.structs.replace(models.price(), outputs=[msgspec.structs.replace(spec, unit="USD")])
    service.models.store.publish(renamed, {"model": models.tabular_price()})
    service.models.load("price")
    second = service.explain(asked)
    assert first.version.model_digest == second.version.model_digest
    assert [(answer.version.version, answer.units, answer.cached) for answer in (first, second)] == [
        (1, "EUR", False),
        (2, "USD", False),
    ]
    again = [service.explain(dataclasses.replace(asked, version=number)) for number in ("1", "2")]
    assert [(answer.version.version, answer.units, answer.cached) for answer in again] == [
        (1, "EUR", True),
        (2, "USD", True),
    ]
    service.close()


def test_a_renewed_certificate_is_quoted_and_no_other_question(own_store: Path, config: Config) -> None:
    service = open_service(dataclasses.replace(config, store=own_store))
    asked = ExplainRequest("price", None, Rows([[1, 2, 3]]))
    assert service.explain(asked).version.certificate_digest is None
    store = service.models.store
    store.set_certificate("price", 1, b"{}")
    again = service.explain(asked)
    assert again.cached
    assert again.version.certificate_digest == store.resolve("price").certificate_digest is not None
    service.close()


def key(**changes: Any) -> Key:
    values: dict[str, Any] = {entry.name: None for entry in dataclasses.fields(Key)}
    return Key(**(values | changes))


def unseen(digest: Callable[[Key], str]) -> list[str]:
    """The members of the key whose change a digest does not see, whatever kind of change it is."""
    values = [None, 0, 1, 1.0, True, "1", [1], {"1": 1}, [[1]], {"a": [1.5]}, {"a": [1.5000000000000002]}]
    return [
        entry.name
        for entry in dataclasses.fields(Key)
        if len({digest(key(**{entry.name: value})) for value in values}) < len(values)
    ]


def test_every_member_of_the_key_is_seen() -> None:
    assert unseen(Key.digest) == []


@pytest.mark.parametrize("member", [entry.name for entry in dataclasses.fields(Key)])
def test_a_member_left_out_is_found(member: str) -> None:
    assert unseen(lambda asked: dataclasses.replace(asked, **{member: None}).digest()) == [member]


def test_the_runtime_the_server_and_its_precision_are_members(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.explain(BASE)
    info = service.engine.info()
    for changed in (
        dataclasses.replace(info, version="0"),
        dataclasses.replace(info, providers=("CUDAExecutionProvider",)),
        dataclasses.replace(info, runtime="another"),
        dataclasses.replace(info, threads=info.threads + 1),
    ):
        monkeypatch.setattr(service.engine, "info", lambda changed=changed: changed)
        assert not service.explain(BASE).cached
    monkeypatch.undo()
    for constant in ("VERSION", "PRECISION"):
        with monkeypatch.context() as patched:
            patched.setattr(results, constant, "another")
            assert not service.explain(BASE).cached
    assert service.explain(BASE).cached


def test_the_output_is_a_member_and_its_default_has_a_name(service: Service) -> None:
    asked = ExplainRequest("broken", None, Rows([[1, 4]]), method="saliency", target=0)
    assert not service.explain(asked).cached
    assert service.explain(dataclasses.replace(asked, output="root")).cached
    assert not service.explain(dataclasses.replace(asked, output="negative")).cached


def test_the_rows_of_a_run_are_a_member(service: Service, config: Config) -> None:
    """They are measured once for each model in use, and need not come out the same after it was loaded anew."""
    assert not service.explain(BASE).cached
    loaded = service.models.resolve("flowers", None)
    before = loaded.run_rows
    assert before is not None
    loaded._run_rows = 2 * before
    assert not service.explain(BASE).cached
    loaded._run_rows = before
    assert service.explain(BASE).cached


def test_every_member_is_asked_about_here() -> None:
    elsewhere = {"manifest", "model", "output", "run_rows", "runtime", "precision", "server"}
    assert set(ASKED) | elsewhere == {entry.name for entry in dataclasses.fields(Key)}


def test_rows_of_text_are_told_apart() -> None:
    """What is joined without care reads alike."""
    one, two = (np.array(texts, dtype=object) for texts in (["a\0b", "c"], ["a", "b\0c"]))
    assert "\0".join(one) == "\0".join(two)
    assert len({results._digest({"x": array}) for array in (one, two, one.reshape(1, 2))}) == 3
    zeros = [np.zeros(2, kind) for kind in ("<f4", "<f8", "<i4")]
    assert len({results._digest({"x": array}) for array in (*zeros, -zeros[0])}) == 4


def test_what_the_clock_cut_is_not_kept(service: Service) -> None:
    adaptive = {"rule": "adaptive", "tolerance": 1e-9, "budget_ms": 0}
    asked = dataclasses.replace(BASE, method="integrated_gradients", parameters=adaptive)
    for _ in range(2):
        answer = service.explain(asked)
        assert (answer.cached, answer.quality[0]["stopped_by"]) == (False, "budget_ms")
    assert service.results.statistics().entries == 0
    unhurried = dataclasses.replace(asked, parameters={**adaptive, "budget_ms": 90_000, "tolerance": 0.9})
    assert [service.explain(unhurried).cached for _ in range(2)] == [False, True]


def test_what_ran_out_of_time_or_was_left_is_not_kept(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    adaptive = {"rule": "adaptive", "tolerance": 1e-7}
    asked = dataclasses.replace(BASE, method="integrated_gradients", parameters=adaptive)
    answers = service.explanations(asked)
    assert next(answers).provisional
    answers.close()  # type: ignore[attr-defined]  # it is a generator
    original, count = service.engine.run, 0

    def run(*arguments: Any, **more: Any) -> Any:
        nonlocal count
        count += 1
        if count > 2:
            raise engine.DeadlineExceeded("the deadline passed")
        return original(*arguments, **more)

    monkeypatch.setattr(service.engine, "run", run)
    with pytest.raises(engine.DeadlineExceeded):
        service.explain(asked)
    assert service.results.statistics() == results.ResultStatistics(misses=2)
    monkeypatch.undo()
    assert not service.explain(asked).cached


def test_what_is_no_number_is_not_kept(client: FlaskClient, service: Service) -> None:
    for row in ([0, 4], [-1, 4]):
        for _ in range(2):
            body = {"instances": [row], "target": 0, "method": "saliency"}
            assert client.post("/v1/models/broken:explain", json=body).status_code == 422
    assert (service.results.statistics().hits, service.results.statistics().entries) == (0, 0)


def test_switched_off_nothing_is_kept_or_counted(config: Config) -> None:
    service = open_service(dataclasses.replace(config, cache_mib=0))
    assert [service.explain(BASE).cached for _ in range(2)] == [False, False]
    assert service.results.statistics() == results.ResultStatistics()
    service.close()
