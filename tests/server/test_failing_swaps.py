"""A version that cannot come into service leaves the old one there, and its cause is named."""

from __future__ import annotations

import dataclasses
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from flask.testing import FlaskClient

import engine
import model_store
from model_store import Store
from server import Config, Service, create_app, open_service
from server.errors import ModelUnusable
from server.messages import PredictRequest, Rows

ASK = PredictRequest("price", None, Rows([[1.0, 0.0, 0.0]]))
Break = Callable[["Broken"], str]


@pytest.fixture
def store(own_store: Path) -> Store:
    return Store(own_store)


@pytest.fixture
def own(own_store: Path, config: Config) -> Config:
    return dataclasses.replace(config, store=own_store, audit="off", required_models=("price",))


@pytest.fixture
def service(own: Config) -> Iterator[Service]:
    opened = open_service(own)
    yield opened
    opened.close()


class Broken:
    """A store, a way to publish ``price`` anew, and a way to have the engine fail on what was published."""

    def __init__(self, store: Store, models: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store, self.models, self.monkeypatch = store, models, monkeypatch
        self.spoiled: dict[str, Callable[[], None]] = {}
        real = engine.InProcessEngine.load

        def load(runner: Any, artifact: Any) -> None:
            self.spoiled.get(artifact.digest, lambda: None)()
            real(runner, artifact)

        monkeypatch.setattr(engine.InProcessEngine, "load", load)

    def publish(self, model: bytes | None = None, **files: bytes) -> model_store.ModelVersion:
        content = self.models.tabular_price(10) if model is None else model
        return self.store.publish(self.models.price(), {"model": content, **files})

    def damage(self, digest: str) -> None:
        (self.store.root / "blobs" / "sha256" / digest[:2] / digest[2:]).write_bytes(b"other bytes")

    def unpublished(self, spoil: Callable[[model_store.ModelVersion], None], **files: bytes) -> None:
        """Publishes a version that is spoiled before any reader sees it."""
        hidden = self.store.publish(self.models.price(), {"model": self.models.tabular_price(10), **files})
        spoil(hidden)


@pytest.fixture
def broken(store: Store, models: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Broken:
    return Broken(store, models, monkeypatch)


def no_model(broken: Broken) -> str:
    broken.publish(b"this is no model")
    return "the runtime refused its model file"


def newer_opset(broken: Broken) -> str:
    import onnx

    model = onnx.load_model_from_string(broken.models.tabular_price(10))
    model.opset_import[0].version = 99
    broken.publish(model.SerializeToString())
    return "the runtime refused its model file"


def damaged_file(broken: Broken) -> str:
    broken.unpublished(lambda version: broken.damage(version.model_digest))
    return "is damaged: its bytes have the digest"


def lost_file(broken: Broken) -> str:
    digest = broken.publish(broken.models.tabular_price(7)).model_digest
    (broken.store.root / "blobs" / "sha256" / digest[:2] / digest[2:]).unlink()
    return "is not in the store"


def bad_example(broken: Broken) -> str:
    broken.publish(examples=json.dumps([{"instance": [1, 2]}]).encode())
    return "2 values, expected 3"


def no_memory(broken: Broken) -> str:
    def spoil() -> None:
        raise MemoryError

    model = broken.models.tabular_price(11)
    broken.spoiled[model_digest(model)] = spoil
    broken.publish(model)
    return "there is no memory to load it"


def surprise(broken: Broken) -> str:
    def spoil() -> None:
        raise ZeroDivisionError

    model = broken.models.tabular_price(12)
    broken.spoiled[model_digest(model)] = spoil
    broken.publish(model)
    return "loading it failed (ZeroDivisionError)"


def model_digest(model: bytes) -> str:
    import hashlib

    return hashlib.sha256(model).hexdigest()


CAUSES: list[Break] = [no_model, newer_opset, damaged_file, lost_file, bad_example, no_memory, surprise]


def entry(service: Service, number: int) -> dict[str, str]:
    return next(e for e in service.models.index() if (e["name"], e["version"]) == ("price", str(number)))


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.__name__)
def test_the_old_version_goes_on_and_the_cause_is_named(
    cause: Break, broken: Broken, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    answers: list[int] = []
    ended, publishing = threading.Event(), threading.Lock()  # nobody looks at a version that is yet to be spoiled

    def ask() -> None:
        while not ended.is_set():
            with publishing:
                answers.append(service.predict(ASK).version.version)

    thread = threading.Thread(target=ask)
    thread.start()
    said = ""
    caplog.set_level(logging.ERROR, "glasshouse")
    caplog.handler.setFormatter(logging.Formatter("%(message)s"))
    logging.getLogger("glasshouse").addHandler(caplog.handler)
    try:
        for _ in range(15):
            with publishing:
                said = cause(broken)
            with pytest.raises((ModelUnusable, model_store.StoreError)) as caught:
                service.models.load("price")
            assert said in str(caught.value)
    finally:
        ended.set()
        thread.join()
        logging.getLogger("glasshouse").removeHandler(caplog.handler)
    assert set(answers) == {1}
    state = entry(service, 16)
    assert (state["state"], said in state["reason"]) == ("UNAVAILABLE", True)
    assert entry(service, 1) == {"name": "price", "version": "1", "state": "READY", "reason": ""}
    assert any(record.message == "model not loaded" and said in record.reason for record in caplog.records)  # type: ignore[attr-defined]
    assert service.models.missing() == {}, "something answers, so the server is ready"
    broken.publish(broken.models.tabular_price(3))
    service.models.load("price")
    assert service.predict(ASK).outputs["price"][0, 0] == 6
    assert entry(service, 17)["state"] == "READY"


def test_a_damaged_manifest_leaves_the_old_version_too(broken: Broken, service: Service) -> None:
    broken.unpublished(lambda version: broken.damage(version.digest))
    assert [service.predict(ASK).version.version for _ in range(3)] == [1, 1, 1]
    assert "its manifest" in entry(service, 2)["reason"]
    assert service.models.version("price", None).version == 1
    broken.publish(broken.models.tabular_price(3))
    service.models.load("price")
    assert service.predict(ASK).version.version == 3


def give_up(service: Service) -> None:
    """Lets the time pass that a load may take."""
    service.models._in_service._limit = 0.05
    time.sleep(0.06)
    service.models.look()


def test_a_load_that_hangs_is_given_up_and_counts_if_it_ends_after_all(broken: Broken, own: Config) -> None:
    service = open_service(own)
    go_on = threading.Event()
    model = broken.models.tabular_price(13)
    broken.spoiled[model_digest(model)] = lambda: (go_on.wait(30), None)[1]
    broken.publish(model)
    assert service.predict(ASK).version.version == 1
    assert entry(service, 2)["state"] == "LOADING"
    give_up(service)
    assert service.predict(ASK).version.version == 1
    assert "has not ended within 0.05 s" in entry(service, 2)["reason"]
    go_on.set()
    end = time.monotonic() + 30
    while service.predict(ASK).version.version == 1:
        assert time.monotonic() < end
    assert service.predict(ASK).outputs["price"][0, 0] == 26
    service.close()


def test_a_hanging_load_is_passed_over_when_the_store_moves_on_or_on_request(broken: Broken, own: Config) -> None:
    service = open_service(own)
    go_on = threading.Event()
    model = broken.models.tabular_price(13)
    broken.spoiled[model_digest(model)] = lambda: (go_on.wait(30), None)[1]
    broken.publish(model)
    service.predict(ASK)
    give_up(service)
    broken.spoiled.clear()
    service.models.load("price")
    assert service.predict(ASK).version.version == 2, "tried again on request"
    broken.store.set_alias("price", "default", 1)
    service.models.load("price")
    go_on.set()
    assert service.predict(ASK).version.version == 1, "what hung ends, and is not wanted any more"
    service.close()


def test_the_first_load_is_waited_for_until_the_deadline(broken: Broken, own: Config) -> None:
    service = open_service(dataclasses.replace(own, required_models=("flowers",)))
    go_on = threading.Event()
    digest = broken.store.resolve("price").model_digest
    broken.spoiled[digest] = lambda: (go_on.wait(30), None)[1]
    with pytest.raises(engine.DeadlineExceeded, match="while model price was being loaded"):
        service.predict(dataclasses.replace(ASK, timeout_seconds=0.02))
    answers: list[float] = []
    waiting = [
        threading.Thread(target=lambda: answers.append(service.predict(ASK).outputs["price"][0, 0])) for _ in range(3)
    ]
    for thread in waiting:
        thread.start()
    go_on.set()
    for thread in waiting:
        thread.join()
    assert answers == [2.0] * 3
    service.close()


def test_a_certificate_that_is_required_keeps_a_version_out_until_it_has_one(broken: Broken, own: Config) -> None:
    def certify(number: int, passed: bool = True) -> None:
        found = {"model": broken.store.resolve("price", number).model_digest, "passed": passed}
        broken.store.set_certificate("price", number, json.dumps(found).encode())

    certify(1)
    service = open_service(dataclasses.replace(own, require_certificate=True))
    broken.publish()
    with pytest.raises(ModelUnusable, match="version 2 is not served: it has no certificate"):
        service.models.load("price")
    assert service.predict(ASK).version.version == 1
    assert "it has no certificate" in entry(service, 2)["reason"]
    certify(2)
    service.models.load("price")
    assert service.predict(ASK).version.version == 2
    service.close()


@pytest.fixture
def client(own: Config, service: Service) -> FlaskClient:
    return create_app(own, service).test_client()


def test_loading_and_unloading_over_http(broken: Broken, client: FlaskClient, error_of: Callable[[Any], str]) -> None:
    body = {"instances": [[1, 0, 0]]}
    assert client.post("/v2/repository/models/price/unload", json={"parameters": {"unload_dependents": False}}).json
    assert error_of(client.post("/v1/models/price:predict", json=body)).startswith("model price was taken out")
    assert client.get("/v2/models/price/ready").status_code == 503
    assert client.get("/v2/models/price").status_code == 200, "it can still be read about"
    broken.publish(b"this is no model")
    answer = client.post("/v2/repository/models/price/load")
    assert answer.status_code == 503
    assert error_of(answer).startswith("model price version 2: the runtime refused its model file")
    broken.publish()
    assert client.post("/v2/repository/models/price/load", json={}).json == {"name": "price", "load": True}
    assert client.post("/v1/models/price:predict", json=body).json["model_version"] == "3"
    assert {"model_repository", "model_repository(unload_dependents)"} <= set(client.get("/v2").json["extensions"])


@pytest.mark.parametrize("verb", ["load", "unload"])
@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"parameters": {"config": "{}"}}, "parameters.config"),
        ({"parameters": {"file:1/model.onnx": "AAAA"}}, "parameters.file:1/model.onnx"),
        ({"parameters": []}, "parameters: got"),
        ({"model": 1}, "member 'model'"),
        ([], "body: got"),
    ],
)
def test_what_else_a_request_to_load_brings_is_refused_by_name(
    verb: str, body: Any, said: str, client: FlaskClient, error_of: Callable[[Any], str]
) -> None:
    answer = client.post(f"/v2/repository/models/price/{verb}", json=body)
    assert answer.status_code == 400
    assert error_of(answer).startswith(said)
    assert client.post("/v1/models/price:predict", json={"instances": [[1, 0, 0]]}).status_code == 200


@pytest.mark.parametrize("verb", ["load", "unload"])
def test_a_model_that_is_not_there_is_not_found(verb: str, client: FlaskClient) -> None:
    for name in ("tulips", "..", "%2e%2e%2fetc"):
        assert client.post(f"/v2/repository/models/{name}/{verb}").status_code == 404
