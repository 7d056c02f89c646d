"""The picture of a recorded decision is the picture of its answer, byte for byte; what has none says why."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest
from flask.testing import FlaskClient

import model_store
from audit import AuditLog, open_database
from server import Config

ErrorOf = Callable[[Any], str]
ROW = {"petal": 1.5, "sepal": -0.5, "colour": "w"}
TENSOR = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1.5, -0.5, 1.0]}]}


def asked(models: ModuleType) -> list[tuple[str, dict[str, Any]]]:
    """Requests of every kind that can be drawn: address, and what is sent."""
    image = models.png(models.PIXELS)
    encoded = {"instances": [{"b64": base64.b64encode(image).decode()}]}
    nested = {"instances": [(models.PIXELS / 255.0).reshape(1, 4, 4).tolist()]}
    pixels = (models.PIXELS / 255).ravel().tolist()
    typed = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1, 4, 4], "data": pixels}]}
    return [
        ("/v1/models/flowers:explain", {"json": {"instances": [ROW]}}),
        ("/v1/models/flowers:explain", {"json": {"instances": [ROW], "method": "saliency", "target": "iris"}}),
        ("/v1/models/flowers:explain", {"json": {"instances": [ROW], "method": "kernel_shap", "seed": 3}}),
        ("/v1/models/flowers:explain", {"json": {"instances": [ROW], "target": {"class": 0, "versus": 1}}}),
        ("/v1/models/price:explain", {"json": {"instances": [[1, 2, 3]]}}),
        ("/v1/models/patch:explain", {"data": image, "content_type": "image/png"}),
        ("/v1/models/patch:explain?method=grad_cam", {"data": image, "content_type": "image/png"}),
        ("/v1/models/patch:explain", {"json": encoded}),
        ("/v1/models/patch:explain", {"json": nested}),
        ("/v2/models/patch/explain", {"json": typed}),
        ("/v2/models/flowers/explain", {"json": {**TENSOR, "explain": {"method": "integrated_gradients"}}}),
    ]


def test_the_recorded_picture_is_the_answered_one(client: FlaskClient, models: ModuleType) -> None:
    different = set()
    for address, sent in asked(models):
        for accept in ("image/png", "image/svg+xml"):
            answered = client.post(address, headers={"Accept": accept}, **sent)
            assert answered.status_code == 200, answered.get_data()
            decision = f"{answered.headers['Glasshouse-Decision']}.0"
            drawn = client.get(f"/v1/decisions/{decision}/picture", headers={"Accept": accept})
            assert (drawn.status_code, drawn.mimetype) == (200, accept), drawn.get_data()
            assert drawn.get_data() == answered.get_data(), (address, sent)
            assert "Glasshouse-Decision" not in drawn.headers
            different.add(drawn.get_data())
    assert len(different) >= 2 * (len(asked(models)) - 3)


def test_the_picture_of_any_row_is_drawn_and_nothing_is_recorded(client: FlaskClient, config: Config) -> None:
    rows = [ROW, {**ROW, "petal": 9}]
    ids = client.post("/v1/models/flowers:explain", json={"instances": rows}).get_json()["decisions"]
    pictures = [client.get(f"/v1/decisions/{each}/picture") for each in ids]
    assert [picture.mimetype for picture in pictures] == ["image/png"] * 2
    assert pictures[0].get_data() != pictures[1].get_data()
    database = open_database(config.database)
    assert AuditLog(database).count() == 2
    database.dispose()


def test_what_has_no_picture_says_why(client: FlaskClient, error_of: ErrorOf) -> None:
    def refused(decision: str, **headers: str) -> tuple[int, str]:
        response = client.get(f"/v1/decisions/{decision}/picture", headers=headers)
        return response.status_code, error_of(response)

    (predicted,) = client.post("/v1/models/flowers:predict", json={"instances": [ROW]}).get_json()["decisions"]
    assert refused(predicted) == (406, f"picture: decision {predicted} records a prediction without an explanation")
    plain = client.post("/v1/models/broken:explain", json={"instances": [[1, 4]], "target": 0}).get_json()
    status, said = refused(plain["decisions"][0])
    assert (status, "neither of an image nor of named features" in said) == (406, True)
    nan = client.post("/v1/models/broken:explain", json={"instances": [[-1, 4]], "target": 0})
    assert refused(f"{nan.headers['Glasshouse-Decision']}.0")[0] == 406
    assert refused("01JD0000000000000000000000.0")[0] == 404
    assert refused(predicted, Accept="text/html")[0] == 406


def test_an_explanation_that_is_no_number_is_not_drawn(client: FlaskClient, error_of: ErrorOf) -> None:
    """The root of 0 is finite and its slope is not."""
    response = client.post("/v1/models/broken:explain", json={"instances": [[0, 4]], "target": 0})
    assert response.status_code == 422
    decision = f"{response.headers['Glasshouse-Decision']}.0"
    refused = client.get(f"/v1/decisions/{decision}/picture")
    assert refused.status_code == 406
    assert "attribution of x: NaN or infinite" in error_of(refused)


def test_only_the_manifest_that_answered_gives_the_names(
    own_store: Path,
    config: Config,
    open_client: Callable[[Config], FlaskClient],
    models: ModuleType,
    error_of: ErrorOf,
    tmp_path: Path,
) -> None:
    """The same records over another store: a version of the same number is not that version."""
    first = open_client(dataclasses.replace(config, store=own_store))
    (decision,) = first.post("/v1/models/flowers:explain", json={"instances": [ROW]}).get_json()["decisions"]
    was = model_store.Store(own_store).resolve("flowers").digest
    model_store.Store(own_store).publish(models.flowers(), {"model": models.tabular_model()})
    assert first.get(f"/v1/decisions/{decision}/picture").status_code == 200
    empty = model_store.Store(tmp_path / "other")
    other = open_client(dataclasses.replace(config, store=empty.root))
    gone = other.get(f"/v1/decisions/{decision}/picture")
    assert (gone.status_code, error_of(gone)) == (404, "model 'flowers' is not in the store")
    described = msgspec.structs.replace(models.flowers(), description="another")
    now = empty.publish(described, {"model": models.tabular_model()}).digest
    refused = other.get(f"/v1/decisions/{decision}/picture")
    assert refused.status_code == 406
    assert was in error_of(refused)
    assert now in error_of(refused)


def test_without_records_there_is_no_picture(
    config: Config, open_client: Callable[[Config], FlaskClient], error_of: ErrorOf
) -> None:
    client = open_client(dataclasses.replace(config, audit="off"))
    response = client.get("/v1/decisions/01JD0000000000000000000000.0/picture")
    assert response.status_code == 404
    assert "audit = off" in error_of(response)


def test_bytes_are_compared(client: FlaskClient, models: ModuleType) -> None:
    """The comparison above sees another explanation."""
    image = {"data": models.png(models.PIXELS), "content_type": "image/png"}
    accept = {"Accept": "image/png"}
    one = client.post("/v1/models/patch:explain?target=0", headers=accept, **image)
    other = client.post("/v1/models/patch:explain?target=1", headers=accept, **image)
    with pytest.raises(AssertionError):
        assert one.get_data() == other.get_data()
