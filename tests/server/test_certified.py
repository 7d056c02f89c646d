"""Certificates over HTTP: shown, quoted in answers and records, and required where the operator says so."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from model_store import Store
from server import Config

ROW = {"instances": [[1.0, 2.0, 0.5]]}
Open = Callable[[Config], FlaskClient]


@pytest.fixture
def store(own_store: Path) -> Store:
    return Store(own_store)


@pytest.fixture
def own(config: Config, own_store: Path) -> Config:
    return dataclasses.replace(config, store=own_store)


def certificate(store: Store, **changes: Any) -> str:
    """A certificate of `price`, kept; its digest."""
    judged = {"passed": True, "judge": {"worst": 0.0}, "judged_by": {"name": "predictions", "version": "1"}}
    unjudged = {"passed": None, "judge": "not judged: no reason", "judged_by": None}
    found = {
        "schema_version": 2,
        "model": store.resolve("price").model_digest,
        "passed": True,
        "failures": [],
        "methods": {"integrated_gradients": judged, "saliency": unjudged},
        **changes,
    }
    return str(store.set_certificate("price", 1, json.dumps(found).encode()).certificate_digest)


def test_the_certificate_is_shown_as_the_bytes_its_digest_is_of(store: Store, own: Config, open_client: Open) -> None:
    digest = certificate(store)
    client = open_client(own)
    for address in ("/v2/models/price/certificate", "/v2/models/price/versions/1/certificate"):
        answer = client.get(address)
        assert answer.mimetype == "application/json"
        assert hashlib.sha256(answer.get_data()).hexdigest() == digest
    parameters = client.get("/v2/models/price").get_json()["parameters"]
    assert parameters["certificate_digest"] == digest


def test_without_one_it_is_not_found(own: Config, open_client: Open, error_of: Callable[..., str]) -> None:
    client = open_client(own)
    answer = client.get("/v2/models/price/certificate")
    assert answer.status_code == 404
    assert error_of(answer) == "model price version 1 has no certificate; glasshouse verify makes one"
    assert "certificate_digest" not in client.get("/v2/models/price").get_json()["parameters"]
    entry = client.get("/v2/models/price/explainers").get_json()["explainers"][0]
    assert entry["certificate"] == {"passed": None, "judge": "not judged", "digest": None}


def test_explainers_tell_what_it_says_of_each(store: Store, own: Config, open_client: Open) -> None:
    digest = certificate(store)
    entries = open_client(own).get("/v2/models/price/explainers").get_json()["explainers"]
    told = {entry["name"]: entry["certificate"] for entry in entries}
    assert told["integrated_gradients"] == {"passed": True, "judge": "predictions", "digest": digest}
    assert told["saliency"] == {"passed": None, "judge": "not judged: no reason", "digest": digest}
    assert told["input_x_gradient"]["judge"] == "not judged: the certificate does not name it"


def test_answers_and_records_quote_the_one_of_the_moment(store: Store, own: Config, open_client: Open) -> None:
    first, client = certificate(store), open_client(own)
    v1 = client.post("/v1/models/price:explain", json=ROW).get_json()
    second = certificate(store, created="later")
    tensor = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1.0, 2.0, 0.5]}
    v2 = client.post("/v2/models/price/explain", json={"inputs": [tensor]}).get_json()
    assert (v1["certificate_digest"], v2["explanation"]["certificate_digest"]) == (first, second)
    for decision, digest in ((v1["decisions"][0], first), (v2["explanation"]["decisions"][0], second)):
        entry = client.get(f"/v1/decisions/{decision}").get_json()
        assert _found(entry, "certificate_digest") == digest


def _found(entry: Any, name: str) -> Any:
    """The member of this name, wherever in the record it stands."""
    if isinstance(entry, dict):
        return entry[name] if name in entry else next((f for f in (_found(e, name) for e in entry.values()) if f), None)
    return None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"passed": False, "failures": ["exact_shap: wrong by 2"]}, "failed: exact_shap: wrong by 2"),
        ({"model": "0" * 64}, "is of another file"),
        ({"passed": None}, "it does not say that it passed"),
        (None, "it has no certificate"),
    ],
)
def test_where_one_is_required_no_other_model_is_served(
    changes: dict[str, Any] | None,
    said: str,
    store: Store,
    own: Config,
    open_client: Open,
    error_of: Callable[..., str],
) -> None:
    if changes is not None:
        certificate(store, **changes)
    client = open_client(dataclasses.replace(own, require_certificate=True))
    for action in ("predict", "explain"):
        answer = client.post(f"/v1/models/price:{action}", json=ROW)
        assert answer.status_code == 409
        message = error_of(answer)
        assert message.startswith("model price version 1 is not served: ")
        assert said in message
    index = {entry["name"]: entry for entry in client.post("/v2/repository/index").get_json()}
    assert index["price"]["state"] == "UNAVAILABLE"
    assert said in index["price"]["reason"]


def test_one_that_passed_is_served_at_once(store: Store, own: Config, open_client: Open) -> None:
    client = open_client(dataclasses.replace(own, require_certificate=True))
    assert client.post("/v1/models/price:predict", json=ROW).status_code == 409
    certificate(store)
    assert client.post("/v1/models/price:predict", json=ROW).status_code == 200
    certificate(store, passed=False)
    assert client.post("/v1/models/price:predict", json=ROW).status_code == 409


def test_a_damaged_certificate_says_so(
    store: Store, own: Config, own_store: Path, open_client: Open, error_of: Callable[..., str]
) -> None:
    digest = certificate(store)
    client = open_client(own)
    place = own_store / "blobs" / "sha256" / digest[:2] / digest[2:]
    place.write_bytes(b"{}")
    answer = client.get("/v2/models/price/certificate")
    assert answer.status_code == 503
    assert f"its certificate {digest} is damaged" in error_of(answer)
    place.unlink()
    assert "is not in the store" in error_of(client.get("/v2/models/price/certificate"))
    store.set_certificate("price", 1, b"no JSON")
    assert "is no JSON" in error_of(client.get("/v2/models/price/explainers"))
    assert client.post("/v1/models/price:explain", json=ROW).status_code == 200, "answers only quote its digest"
