"""What is answered without Flask's context is answered as by Flask: status, headers, body, record and figures."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from werkzeug.test import Client, TestResponse

from server import Config, direct
from server.gateway import BODY, HELD, Call
from server.pool import MustWait, step_aside, without_waiting
from server.routes.incoming import EXTENSION

ROWS = {"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1.5, -0.5, 1.0]}
BAD = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [-1.0, 1.0]}
RAW = np.array([1.5, -0.5, 1.0], dtype="<f4").tobytes()
FLOWERS, ROWS_OF = "/v2/models/flowers/infer", "/v1/models/flowers:predict"
NAMED = {"colour": "r", "sepal": 0, "petal": -1}
FORM = b'--b\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n{}\r\n--b--\r\n'
BY_FLASK = ("escaped", "a form")
SAME = 2  # what is said of no number and of no rows
ASKED: dict[str, tuple[str, bytes, dict[str, str]]] = {
    "json": (FLOWERS, json.dumps({"inputs": [ROWS], "id": "mine"}).encode(), {"X-Request-Id": "mine"}),
    "a version": ("/v2/models/flowers/versions/1/infer", json.dumps({"inputs": [ROWS]}).encode(), {}),
    "raw": (FLOWERS, RAW, {"Inference-Header-Content-Length": "0"}),
    "no number": ("/v2/models/broken/infer", json.dumps({"inputs": [BAD]}).encode(), {}),
    "no model": ("/v2/models/roses/infer", json.dumps({"inputs": [ROWS]}).encode(), {}),
    "no version": ("/v2/models/flowers/versions/77/infer", json.dumps({"inputs": [ROWS]}).encode(), {}),
    "no json": (FLOWERS, b'{"inputs": [', {}),
    "no body": (FLOWERS, b"", {}),
    "wrong shape": (FLOWERS, json.dumps({"inputs": [{**ROWS, "shape": [1, 2]}]}).encode(), {}),
    "explain": (FLOWERS, json.dumps({"inputs": [ROWS], "explain": {"method": "saliency"}}).encode(), {}),
    "query": (FLOWERS + "?top=1&top=2", json.dumps({"inputs": [ROWS]}).encode(), {}),
    "compressed": (FLOWERS, b"\x1f\x8b", {"Content-Encoding": "gzip"}),
    "no time": (FLOWERS, json.dumps({"inputs": [ROWS]}).encode(), {"Glasshouse-Timeout-Ms": "soon"}),
    "rows": (ROWS_OF, json.dumps({"instances": [[1.5, -0.5, "g"], [0, 1, "r"]]}).encode(), {"X-Request-Id": "mine"}),
    "rows by feature": (ROWS_OF, json.dumps({"inputs": [NAMED]}).encode(), {}),
    "rows of a version": ("/v1/models/flowers/versions/1:predict", b'{"instances": [[1, 0, "b"]]}', {}),
    "rows of no version": ("/v1/models/flowers/versions/x:predict", b'{"instances": [[1, 0, "b"]]}', {}),
    "rows without a number": ("/v1/models/broken:predict", b'{"instances": [[-1, 1]]}', {}),
    "rows and options": (ROWS_OF, b'{"instances": [[1, 0, "b"]], "method": "saliency"}', {}),
    "rows and a query": (ROWS_OF + "?method=saliency", b'{"instances": [[1, 0, "b"]]}', {}),
    "no rows": (ROWS_OF, b"{}", {}),
    "no picture": (ROWS_OF, b"\x89PNG", {"Content-Type": "image/PNG; x=y"}),
    "another type": (ROWS_OF, b"x", {"Content-Type": "text/csv"}),
    "a form": (ROWS_OF, FORM, {"Content-Type": "multipart/form-data; boundary=b"}),
    "escaped": ("/v2/models/fl%C3%B6wers/infer", json.dumps({"inputs": [ROWS]}).encode(), {}),
}
ULID = re.compile(rb"[0-9A-Z]{26}")
SECONDS = re.compile(rb'"\w+_seconds":[0-9.e-]+,?')


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that were asked for without Flask."""
    found: list[str] = []

    def noted(answer: Any) -> Any:
        def note(environ: Any, followed: Any, body: Any, name: str, version: str | None, *, held: bool) -> Any:
            found.append(name)
            return answer(environ, followed, body, name, version, held=held)

        return note

    watched = tuple(each._replace(begin=noted(each.begin)) for each in direct.ADDRESSES)
    monkeypatch.setattr(direct, "ADDRESSES", watched)
    return found


def ask(client: Client, asked: tuple[str, bytes, dict[str, str]], *, directly: bool) -> TestResponse:
    """As the front hands a request over, its body read; or as another server would."""
    path, body, headers = asked
    own = {BODY: body} if directly else {}
    return client.post(path, data=body, headers={"X-Request-Id": "same", **headers}, environ_overrides=own)


class Holding:
    """An application as the front calls it: what is held is given later. `held`: how many answers were."""

    def __init__(self, application: Any) -> None:
        self.application, self.held = application, 0

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        """See PEP 3333."""
        call = Call(self.application, environ | {HELD: None})
        if call.until is not None:
            self.held += 1
            call.until.exception()
        status, headers, chunks = call.answer()
        start_response(f"{status} {HTTPStatus(status).phrase}", headers)
        return chunks


def seen(response: TestResponse) -> tuple[int, list[tuple[str, str]], bytes]:
    """All of an answer, without the decision that is each one's own."""
    decision = response.headers.get("Glasshouse-Decision", "")
    headers = [(name, "own" if value == decision else value) for name, value in response.headers.items()]
    return response.status_code, sorted(headers), SECONDS.sub(b"", ULID.sub(b"own", response.get_data()))


@pytest.mark.parametrize("case", ASKED)
def test_flask_answers_the_same(client: FlaskClient, answered: list[str], case: str) -> None:
    by_flask = ask(client, ASKED[case], directly=False)
    assert answered == []
    directly = ask(client, ASKED[case], directly=True)
    assert bool(answered) == (case not in BY_FLASK)
    assert seen(directly) == seen(by_flask)


@pytest.mark.parametrize("case", ASKED)
def test_a_held_answer_is_the_same(client: FlaskClient, answered: list[str], case: str) -> None:
    holding = Holding(client.application)
    held = ask(Client(holding), ASKED[case], directly=True)
    assert holding.held == (held.status_code == 200 or case in ("no number", "rows without a number"))
    assert bool(answered) == (case not in BY_FLASK)
    assert seen(held) == seen(ask(client, ASKED[case], directly=False))
    if "Glasshouse-Decision" in held.headers:
        assert client.get(f"/v1/decisions/{held.headers['Glasshouse-Decision']}.0").status_code == 200


def test_a_held_answer_that_is_not_committed_is_not_given(client: FlaskClient, config: Config) -> None:
    service = client.application.extensions[EXTENSION]
    with sqlite3.connect(config.database) as database:
        database.execute("ALTER TABLE decision RENAME TO away")
    holding = Holding(client.application)
    response = ask(Client(holding), ASKED["json"], directly=True)
    assert (holding.held, response.status_code) == (1, 503)
    assert "outputs" not in response.get_json()
    assert "Glasshouse-Decision" not in response.headers
    with sqlite3.connect(config.database) as database:
        database.execute("ALTER TABLE away RENAME TO decision")
    database.close()
    assert ask(Client(holding), ASKED["json"], directly=True).status_code == 200
    assert service.audit.count() == 1
    figures = client.get("/metrics").get_data(as_text=True)
    (errors,) = [line for line in figures.splitlines() if "CommitFailed" in line]
    assert errors.endswith(" 1.0")


def test_the_comparison_tells_answers_apart(client: FlaskClient) -> None:
    answers = [repr(seen(ask(client, asked, directly=True))) for asked in ASKED.values()]
    assert len(set(answers)) == len(ASKED) - SAME


def test_it_is_recorded_and_counted_the_same(client: FlaskClient, answered: list[str]) -> None:
    def counted() -> dict[str, str]:
        lines = client.get("/metrics").get_data(as_text=True).splitlines()
        wanted = ("glasshouse_requests_total", "glasshouse_request_errors_total", "glasshouse_requests_in_flight")
        return dict(line.rsplit(" ", 1) for line in lines if line.startswith(wanted) and "metrics" not in line)

    responses, figures = [], []
    for directly in (False, True):
        before = counted()
        responses.append(ask(client, ASKED["json"], directly=directly))
        ask(client, ASKED["no json"], directly=directly)
        figures.append({n: float(v) - float(before.get(n, 0)) for n, v in counted().items() if v != before.get(n)})
    assert len(answered) == 2
    assert figures[0] == figures[1]
    assert len(figures[0]) == 3, figures
    entries = [client.get(f"/v1/decisions/{r.headers['Glasshouse-Decision']}.0").get_json() for r in responses]
    assert entries[0]["entry"]["route"] == entries[1]["entry"]["route"] == "v2.infer"
    assert entries[0]["entry"]["outputs"] == entries[1]["entry"]["outputs"]


def test_what_would_wait_is_given_up_as_if_it_had_not_begun(
    open_client: Callable[[Config], FlaskClient], config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = open_client(config)
    waiting = tuple(each._replace(begin=lambda *_, **__: step_aside()) for each in direct.ADDRESSES)
    monkeypatch.setattr(direct, "ADDRESSES", waiting)
    with pytest.raises(MustWait), without_waiting():
        ask(client, ASKED["json"], directly=True)
    in_flight = [line for line in client.get("/metrics").get_data(as_text=True).splitlines() if "in_flight" in line]
    assert in_flight[-1].endswith(" 1.0")  # the one that asks
