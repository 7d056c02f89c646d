"""A flipped bit in any file of a model: a sentence that names model, version and digest, and the others are served."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from flask.testing import FlaskClient

import model_store
from server import Config

ErrorOf = Callable[[Any], str]
Open = Callable[[Config], FlaskClient]
GOOD = {"instances": [{"petal": 1.5, "sepal": -0.5, "colour": "w"}]}


def flip(root: Path, digest: str) -> str:
    """Turns one bit of a blob over; the digest of what is there now."""
    path = root / "blobs" / "sha256" / digest[:2] / digest[2:]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def damaged(own_store: Path, config: Config, open_client: Open) -> Callable[[str], tuple[FlaskClient, str, str]]:
    def damage(role: str) -> tuple[FlaskClient, str, str]:
        """A server over a store with one damaged file, the file's digest, and that of what it holds now."""
        version = model_store.Store(own_store).resolve("flowers")
        files = {name: file.digest for name, file in version.manifest.files.items()}
        digest = (files | {"manifest": version.digest})[role]
        came = flip(own_store, digest)
        return open_client(dataclasses.replace(config, store=own_store)), digest, came

    return damage


def test_a_damaged_model_is_named_wherever_it_is_asked_for(damaged: Any, error_of: ErrorOf) -> None:
    client, digest, came = damaged("model")
    said = f"model flowers version 1: its model file {digest} is damaged: its bytes have the digest {came}"
    assert error_of(client.get("/v2/health/ready")) == f"not ready: {said}"
    assert error_of(client.get("/v2/models/flowers/ready")) == said
    for verb in ("predict", "explain"):
        assert error_of(client.post(f"/v1/models/flowers:{verb}", json=GOOD)) == said
    index = {entry["name"]: entry for entry in client.post("/v2/repository/index").get_json()}
    assert index["flowers"] == {"name": "flowers", "version": "1", "state": "UNAVAILABLE", "reason": said}
    assert index["price"]["state"] == "READY"
    assert client.post("/v1/models/price:predict", json={"instances": [[1, 2, 3]]}).status_code == 200


def test_a_damaged_manifest_is_named_and_hides_no_other_version(
    damaged: Any, models: ModuleType, own_store: Path, error_of: ErrorOf
) -> None:
    client, digest, came = damaged("manifest")
    said = "models/flowers/versions/1 is corrupt: "
    said += f"its manifest (digest {digest}) is damaged: its bytes have the digest {came}"
    assert error_of(client.get("/v2/health/ready")) == f"not ready: {said}"
    assert error_of(client.post("/v1/models/flowers:predict", json=GOOD)) == said
    model_store.Store(own_store).publish(models.flowers(), {"model": models.tabular_model()})
    assert client.post("/v1/models/flowers:predict", json=GOOD).status_code == 200
    assert client.get("/v2/models/flowers").get_json()["versions"] == ["1", "2"]
    states = {
        (entry["name"], entry["version"]): entry["state"] for entry in client.post("/v2/repository/index").get_json()
    }
    assert (states["flowers", "1"], states["flowers", "2"]) == ("UNAVAILABLE", "READY")


def test_a_damaged_background_is_named_and_predictions_go_on(damaged: Any, error_of: ErrorOf) -> None:
    client, digest, came = damaged("background")
    response = client.post("/v1/models/flowers:explain", json=GOOD)
    assert response.status_code == 503
    expected = f"model flowers version 1: its background file {digest} is damaged: its bytes have the digest {came}"
    assert error_of(response) == expected
    assert client.post("/v1/models/flowers:predict", json=GOOD).status_code == 200


def test_damaged_examples_are_named(damaged: Any, error_of: ErrorOf) -> None:
    client, digest, _ = damaged("examples")
    assert f"model flowers version 1: its examples file {digest} is damaged" in error_of(client.get("/v2/health/ready"))
    assert next(e for e in client.get("/console/models").get_json() if e["name"] == "flowers")["example"] is None


def test_a_missing_file_is_named(own_store: Path, config: Config, open_client: Open, error_of: ErrorOf) -> None:
    digest = model_store.Store(own_store).resolve("flowers").model_digest
    (own_store / "blobs" / "sha256" / digest[:2] / digest[2:]).unlink()
    client = open_client(dataclasses.replace(config, store=own_store))
    said = f"model flowers version 1: its model file {digest} is not in the store"
    assert error_of(client.post("/v1/models/flowers:predict", json=GOOD)) == said


def test_a_required_model_that_does_not_exist_is_named(config: Config, open_client: Open, error_of: ErrorOf) -> None:
    client = open_client(dataclasses.replace(config, required_models=("tulips", "price")))
    assert error_of(client.get("/v2/health/ready")) == "not ready: model 'tulips' is not in the store"
