"""Recorded decisions over HTTP: all rows of an answer, found by what the answer's header says."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from flask.testing import FlaskClient

from server import Config, machine

ErrorOf = Callable[[Any], str]
ROW = {"petal": 1.5, "sepal": -0.5, "colour": "w"}


def test_the_header_leads_to_all_rows(client: FlaskClient, error_of: ErrorOf) -> None:
    answer = client.post("/v1/models/flowers:predict", json={"instances": [ROW] * 3})
    shared = answer.headers["Glasshouse-Decision"]
    found = client.get(f"/v1/decisions/{shared}")
    assert found.get_json() == {"id": shared, "decisions": answer.get_json()["decisions"]}
    assert found.headers["Cache-Control"] == "no-store"
    for decision in found.get_json()["decisions"]:
        assert client.get(f"/v1/decisions/{decision}").get_json()["id"] == decision
    tensors = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 3], "data": [1.5, -0.5, 1] * 2}]}
    typed = client.post("/v2/models/flowers/infer", json=tensors).get_json()["parameters"]["decision_id"]
    assert client.get(f"/v1/decisions/{typed}").get_json()["decisions"] == [f"{typed}.0", f"{typed}.1"]


def test_an_unknown_one_is_named(client: FlaskClient, error_of: ErrorOf) -> None:
    for unknown in ("01JD0000000000000000000000", "x", "%25"):
        response = client.get(f"/v1/decisions/{unknown}")
        assert response.status_code == 404
        assert error_of(response).startswith("unknown decision")


def test_without_records_there_is_none(
    config: Config, open_client: Callable[[Config], FlaskClient], error_of: ErrorOf
) -> None:
    client = open_client(dataclasses.replace(config, audit="off"))
    response = client.get("/v1/decisions/01JD0000000000000000000000")
    assert response.status_code == 404
    assert "audit = off" in error_of(response)


def test_the_record_names_what_ran_the_model(config: Config, open_client: Callable[[Config], FlaskClient]) -> None:
    for image, recorded in (("", None), ("registry/glasshouse@sha256:ab", "registry/glasshouse@sha256:ab")):
        client = open_client(dataclasses.replace(config, image=image))
        (decision,) = client.post("/v1/models/flowers:predict", json={"instances": [ROW]}).get_json()["decisions"]
        runtime = client.get(f"/v1/decisions/{decision}").get_json()["entry"]["runtime"]
        assert runtime["image"] == recorded
        assert runtime["cpu"] == machine.cpu()
        assert runtime["server_version"] == client.get("/v2").get_json()["version"]
        assert runtime["engine"] == "onnxruntime"
        assert runtime["threads"] == 1
