"""A version with a float16 variant: what is run is the file the settings say, and everything names that file."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from onnx import TensorProto, helper

import engine
from model_store import Store, UnknownBlob
from server import Config, ConfigError, load_config
from server.engines import precision_of

ROW = [1.25, -0.75, "w"]
Open = Callable[[Config], FlaskClient]


def in_halves(models: ModuleType) -> bytes:
    """`flowers` with its two products in float16."""
    cast = helper.make_node
    nodes = [
        cast("Cast", ["x"], ["xh"], to=TensorProto.FLOAT16),
        cast("Gemm", ["xh", "w", "b"], ["h"]),
        cast("Relu", ["h"], ["r"]),
        cast("Gemm", ["r", "v", "c"], ["lh"]),
        cast("Cast", ["lh"], ["logits"], to=TensorProto.FLOAT),
    ]
    weights = {"w": models.HIDDEN_W[:3], "b": models.HIDDEN_B, "v": models.OUT_W, "c": models.OUT_B}
    halves = {name: array.astype(np.float16) for name, array in weights.items()}
    ends = [models.value("x", ["N", 3])], [models.value("logits", ["N", 3])]
    return bytes(models.serialize(nodes, *ends, halves))


def half_logits(models: ModuleType, rows: np.ndarray) -> np.ndarray:
    """What the variant answers where products are added up in more than half precision."""
    w, b, v, c = (
        a.astype(np.float16).astype(np.float64)
        for a in (models.HIDDEN_W[:3], models.HIDDEN_B, models.OUT_W, models.OUT_B)
    )
    return np.asarray(np.maximum(rows @ w + b, 0) @ v + c)


@pytest.fixture
def store(own_store: Path, models: ModuleType) -> Store:
    """Its second version of `flowers` has a variant."""
    store = Store(own_store)
    first = store.resolve("flowers")
    rest = {role: first.file(role) for role in ("model", "background", "examples")}
    store.publish(models.flowers(), {**rest, "model_float16": in_halves(models)})
    return store


@pytest.fixture
def served(store: Store, config: Config, open_client: Open) -> Callable[[str], FlaskClient]:
    """A server with a precision."""
    return lambda precision: open_client(dataclasses.replace(config, store=store.root, precision=precision))


@pytest.mark.parametrize("precision", ["float16", "float32", "auto"])
def test_predictions_explanations_and_records_are_of_the_file_that_is_run(
    precision: str, served: Callable[[str], FlaskClient], store: Store, models: ModuleType
) -> None:
    """On a processor `auto` runs the model's own file."""
    half = precision == "float16"
    own = models.tabular_model()
    digest = hashlib.sha256(in_halves(models) if half else own).hexdigest()
    said = "float16" if half else "float32"
    client, rows = served(precision), np.array([[1.25, -0.75, 1.0]])
    expected = half_logits(models, rows) if half else models.tabular_logits(rows.astype(np.float32))
    answer = client.post("/v1/models/flowers:explain", json={"instances": [ROW]}).get_json()
    assert answer["model_digest"] == digest
    np.testing.assert_allclose(answer["predictions"], expected, rtol=1e-5)
    (explanation,) = answer["explanations"]
    assert explanation["quality"]["completeness_gap_relative"] < 1e-5
    assert abs(explanation["quality"]["forward_gap"]) < 2e-3
    record = client.get(f"/v1/decisions/{answer['decisions'][0]}").get_json()["entry"]
    assert (record["model"]["model_digest"], record["runtime"]["precision"]) == (digest, said)
    assert record["model"]["digest"] == store.resolve("flowers").digest == answer["manifest_digest"]
    told = client.get("/v2/models/flowers").get_json()["parameters"]
    assert (told["model_digest"], told["precision"]) == (digest, said)
    assert client.get("/v2/models/flowers/stats").get_json()["model_stats"][0]["inference_count"] > 0
    ready = client.post("/v2/repository/index").get_json()
    assert {"name": "flowers", "version": "2", "state": "READY", "reason": ""} in ready


def test_explanations_are_compiled_from_the_variant(served: Callable[[str], FlaskClient], models: ModuleType) -> None:
    """The gradient of a logit where the ReLUs stand as they do, by numpy, with weights that are halves."""
    client, rows = served("float16"), np.array([[1.25, -0.75, 1.0]])
    body = {"instances": [ROW], "method": "saliency", "target": 1, "parameters": {"absolute": False}}
    answer = client.post("/v1/models/flowers:explain", json=body).get_json()
    w, b, v = (a.astype(np.float16).astype(np.float64) for a in (models.HIDDEN_W[:3], models.HIDDEN_B, models.OUT_W))
    gradient = w @ (v[:, 1] * (rows[0] @ w + b > 0))
    found = [entry["attribution"] for entry in answer["explanations"][0]["attributions"]]
    np.testing.assert_allclose(found, gradient, rtol=1e-6)
    plain = models.HIDDEN_W[:3] @ (models.OUT_W[:, 1] * (rows[0] @ w + b > 0))
    assert np.abs(np.array(found) / plain - 1).max() > 1e-4


def test_versions_without_a_variant_are_run_from_their_own_file(
    served: Callable[[str], FlaskClient], store: Store
) -> None:
    client = served("float16")
    for address in ("/v2/models/price", "/v2/models/flowers/versions/1"):
        told = client.get(address).get_json()["parameters"]
        assert "precision" not in told
        version = store.resolve(address.split("/")[3], 1)
        assert told["model_digest"] == version.model_digest
    answer = client.post("/v1/models/price:predict", json={"instances": [[1.0, 2.0, 3.0]]}).get_json()
    record = client.get(f"/v1/decisions/{answer['decisions'][0]}").get_json()["entry"]
    assert "precision" not in record["runtime"]


def test_a_record_is_drawn_with_the_file_that_answered(
    served: Callable[[str], FlaskClient], models: ModuleType
) -> None:
    """Whatever the server runs by now."""
    answer = served("float16").post("/v1/models/flowers:explain", json={"instances": [ROW]}).get_json()
    picture = served("float32").get(f"/v1/decisions/{answer['decisions'][0]}", headers={"Accept": "image/svg+xml"})
    assert picture.status_code == 200
    assert hashlib.sha256(in_halves(models)).hexdigest()[:12] in picture.get_data(as_text=True)


def test_a_damaged_variant_is_named(
    store: Store, config: Config, open_client: Open, models: ModuleType, error_of: Any
) -> None:
    digest = hashlib.sha256(in_halves(models)).hexdigest()
    (store.root / "blobs" / "sha256" / digest[:2] / digest[2:]).write_bytes(b"junk")
    with pytest.raises(Exception, match="corrupt"):
        store.get_blob(digest)
    client = open_client(dataclasses.replace(config, store=store.root, precision="float16"))
    said = error_of(client.post("/v1/models/flowers:predict", json={"instances": [ROW]}))
    assert f"model flowers version 2: its model_float16 file {digest} is damaged" in said
    client = open_client(dataclasses.replace(config, store=store.root, precision="float32"))
    assert client.post("/v1/models/flowers:predict", json={"instances": [ROW]}).status_code == 200


def test_a_required_certificate_must_be_of_the_variant_too(
    store: Store, config: Config, open_client: Open, models: ModuleType, error_of: Any
) -> None:
    own, half = store.resolve("flowers").model_digest, hashlib.sha256(in_halves(models)).hexdigest()
    strict = dataclasses.replace(config, store=store.root, precision="float16", require_certificate=True)
    for variant, code in ((None, 409), ({"model": own}, 409), ({"model": half, "passed": True}, 200)):
        found = {"schema_version": 2, "model": own, "passed": True, "methods": {}, "float16": variant}
        store.set_certificate("flowers", 2, json.dumps(found).encode())
        answer = open_client(strict).post("/v1/models/flowers:predict", json={"instances": [ROW]})
        assert answer.status_code == code, answer.get_data()
        if code == 200:
            told = open_client(strict).get("/v2/models/flowers/explainers").get_json()["explainers"][0]["certificate"]
            assert told["model_digest"] == own  # the methods were judged on the model's own file
        assert code == 200 or "is of another file" in error_of(answer)


@pytest.mark.parametrize(
    ("precision", "devices", "provider", "expected"),
    [
        ("auto", ("cpu",), "CPUExecutionProvider", "float32"),
        ("auto", ("cuda:0",), "CUDAExecutionProvider", "float16"),
        ("auto", ("cuda:0",), "CPUExecutionProvider", "float32"),
        ("float32", ("cuda:0",), "CUDAExecutionProvider", "float32"),
        ("float16", ("cpu",), "CPUExecutionProvider", "float16"),
    ],
)
def test_auto_goes_by_what_the_engine_really_has(
    precision: str, devices: tuple[str, ...], provider: str, expected: str
) -> None:
    info = engine.EngineInfo("onnxruntime", "1", (provider,), 1)
    runner: Any = SimpleNamespace(info=lambda: info)
    assert precision_of(Config(precision=precision, devices=devices), runner) == expected


def test_other_words_are_refused() -> None:
    with pytest.raises(ConfigError, match="precision from flag --precision: got 'half', expected one of auto, float32"):
        load_config(environment={}, flags={"precision": "half"})


def test_there_is_no_such_file_without_a_variant(own_store: Path) -> None:
    with pytest.raises(UnknownBlob):
        Store(own_store).resolve("flowers").file("model_float16")
