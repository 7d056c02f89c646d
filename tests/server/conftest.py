"""A server over a store of small hand-made models, new for each test that changes anything."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from server import Config, Service, create_app, open_service


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"glasshouse_server_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def every_look_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests ask in the same millisecond in which they change a store."""
    monkeypatch.setattr("server.in_service.FRESH_NS", -1)


@pytest.fixture(scope="session")
def models() -> ModuleType:
    """The module of hand-made models."""
    return _load("models")


@pytest.fixture(scope="session")
def load_module() -> Callable[[str], ModuleType]:
    """A module that lies beside the tests, by name."""
    return _load


@pytest.fixture(scope="session")
def store_path(models: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that tests only read."""
    root = tmp_path_factory.mktemp("store")
    models.publish_all(root)
    return root


@pytest.fixture
def own_store(models: ModuleType, tmp_path: Path) -> Path:
    """A store that a test may change."""
    models.publish_all(tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def config(store_path: Path, tmp_path: Path) -> Config:
    return Config(store=store_path, database=tmp_path / "decisions.sqlite", threads=1)


@pytest.fixture
def open_client(request: pytest.FixtureRequest) -> Iterator[Callable[[Config], FlaskClient]]:
    """Opens servers; closes them at the end."""
    services: list[Service] = []

    def open_one(config: Config) -> FlaskClient:
        service = open_service(config)
        services.append(service)
        return create_app(config, service).test_client()

    yield open_one
    for service in services:
        service.close()


@pytest.fixture
def client(open_client: Callable[[Config], FlaskClient], config: Config) -> FlaskClient:
    return open_client(config)


def read(response: TestResponse) -> Any:
    """The JSON of an answer, read strictly: NaN is no JSON."""

    def refuse(token: str) -> Any:
        raise AssertionError(f"{token} in an answer")

    return json.loads(response.get_data(), parse_constant=refuse)


@pytest.fixture(scope="session")
def answer_of() -> Callable[[TestResponse], Any]:
    return read


@pytest.fixture(scope="session")
def error_of() -> Callable[[TestResponse], str]:
    """The message of a failed answer, after checking the one shape that every failure has."""
    return check_error


def check_error(response: TestResponse) -> str:
    assert response.status_code >= 400, response.get_data()
    assert response.mimetype == "application/json"
    content = read(response)
    assert set(content) == {"error"}
    message = content["error"]
    assert isinstance(message, str)
    assert message
    assert "\n" not in message
    for leak in ("Traceback", 'File "', "site-packages", "/tmp/", "0x"):
        assert leak not in message
    if response.status_code in (429, 503):
        assert int(response.headers["Retry-After"]) >= 1
    return message


@pytest.fixture
def through(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Any]], list[int]]:
    """From the call on every run goes through `step(run, feeds, outputs)`; gives the items of each run."""
    session = importlib.import_module("engine.sessions").Session
    original, sizes = session.run, list[int]()

    def begin(step: Callable[..., Any]) -> list[int]:
        def run(self: Any, outputs: Any, feeds: Mapping[str, Any], *more: Any) -> Any:
            sizes.append(len(next(iter(feeds.values()))))
            return step(lambda: original(self, outputs, feeds, *more), feeds, outputs)

        monkeypatch.setattr(session, "run", run)
        return sizes

    return begin
