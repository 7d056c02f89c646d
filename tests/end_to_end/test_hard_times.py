"""Servers that are stopped, killed, started on nothing or on damage, and asked nonsense."""

from __future__ import annotations

import base64
import os
import shutil
import signal
import socket
import sqlite3
import struct
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from audit import AuditLog, open_database
from model_store import Role, Store

EXPLAIN = "/v1/models/tumour:explain"


@pytest.fixture
def row(house: Any) -> dict[str, Any]:
    found: dict[str, Any] = house.examples("tumour")[0]["instance"]
    return found


@pytest.fixture
def own_store(house: Any, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(house.store, tmp_path / "store"))


def flip_one_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)


def blob_of(store: Path, name: str, role: Role = "model") -> Path:
    digest = Store(store, create=False).resolve(name).manifest.files[role].digest
    (found,) = (path for path in (store / "blobs").rglob("*") if path.is_file() and path.name.endswith(digest[2:]))
    return found


def test_a_decision_outlives_the_server_that_answered(start: Any, house: Any, row: dict[str, Any]) -> None:
    """Killed the moment the answer is here, with no chance to write anything more."""
    server = start(house.store)
    answer = server.ask(EXPLAIN, {"instances": [row]})
    server.kill()
    with sqlite3.connect(server.database) as database:
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)
    database.close()
    engine = open_database(server.database)
    decision = AuditLog(engine).get(answer["decisions"][0])
    assert decision.entry["explanation"]["explained_value"] == answer["explanations"][0]["explained_value"]
    assert decision.outputs["probabilities"].ravel().tolist() == answer["predictions"][0]
    engine.dispose()
    again = start(house.store, "--database", str(server.database))
    assert again.get(f"/v1/decisions/{answer['decisions'][0]}")["entry"] == decision.entry


def test_sigterm_answers_what_it_has_begun_and_leaves_nothing(start: Any, house: Any, row: dict[str, Any]) -> None:
    server = start(house.store)
    family = psutil.Process(server.process.pid).children(recursive=True)
    assert family
    came: list[requests.Response] = []
    body = {"instances": [row] * 4}
    asking = [threading.Thread(target=lambda: came.append(server.post(EXPLAIN, body))) for _ in range(4)]
    for thread in asking:
        thread.start()
    wait_for(lambda: connections(server.port) >= 4)
    time.sleep(0.1)
    assert server.stop() == 0
    for thread in asking:
        thread.join(60)
    assert [answer.status_code for answer in came] == [200] * 4
    assert not any(process.is_running() for process in family)
    assert "Traceback" not in server.log()
    with pytest.raises(requests.ConnectionError):
        requests.get(server.address, timeout=5)


def connections(port: int) -> int:
    """How many clients hold a connection to the port."""
    here = psutil.Process(os.getpid()).net_connections("tcp")
    return sum(bool(each.raddr) and each.raddr.port == port and each.status == "ESTABLISHED" for each in here)


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, "it did not come to that"
        time.sleep(0.02)


def test_waiting_ends_when_it_is_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 100.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    with pytest.raises(AssertionError, match="did not come"):
        wait_for(lambda: False)


def test_a_worker_that_dies_is_replaced(start: Any, house: Any, row: dict[str, Any]) -> None:
    server = start(house.store)
    for worker in psutil.Process(server.process.pid).children(recursive=True):
        worker.send_signal(signal.SIGKILL)
        worker.wait(30)

    def answers() -> bool:
        try:
            return bool(server.post(EXPLAIN, {"instances": [row]}).status_code == 200)
        except requests.ConnectionError:
            return False

    wait_for(answers)
    assert server.stop() == 0


def test_a_worker_that_is_killed_again_and_again_never_ends_the_server(
    start: Any, house: Any, row: dict[str, Any]
) -> None:
    """Within five seconds, while others ask; a worker that lives answers as ever."""
    server = start(house.store, "--workers", "2", "--engine", "inside", "--audit", "off")
    parent, body, stop = psutil.Process(server.process.pid), {"instances": [row]}, threading.Event()
    right, wrong, answered = server.ask("/v1/models/tumour:predict", body)["predictions"], [], [0]

    def ask() -> None:
        while not stop.is_set():
            try:
                answer = server.post("/v1/models/tumour:predict", body)
            except requests.ConnectionError:
                continue
            if answer.status_code == 200 and answer.json()["predictions"] == right:
                answered[0] += 1
            elif answer.status_code != 503:
                wrong.append(answer.text)

    asking = [threading.Thread(target=ask) for _ in range(3)]
    for thread in asking:
        thread.start()
    for _ in range(4):
        for victim in parent.children():
            victim.kill()
            victim.wait(30)
        wait_for(lambda: len(parent.children()) >= 2)
    before = answered[0]
    wait_for(lambda: answered[0] > before + 20)
    stop.set()
    for thread in asking:
        thread.join(60)
    assert wrong == []
    assert server.process.poll() is None
    assert server.stop() == 0


def test_an_empty_store_is_served_and_says_so(start: Any, tmp_path: Path) -> None:
    Store(tmp_path / "empty", create=True)
    server = start(tmp_path / "empty")
    assert server.get("/v1/models") == {"models": []}
    assert server.says("no model"), server.log()
    missing = server.post("/v1/models/tumour:predict", {"instances": [[1]]})
    assert missing.status_code == 404
    assert "tumour" in missing.json()["error"]
    assert requests.get(server.address, timeout=10).status_code == 200


def test_a_store_that_is_not_there_is_one_clear_line(run_command: Any, tmp_path: Path) -> None:
    run = run_command("serve", "--store", tmp_path / "nowhere", "--database", tmp_path / "d.sqlite", check=False)
    assert run.returncode == 5
    assert run.stderr.count("\n") == 1
    assert str(tmp_path / "nowhere") in run.stderr


def test_a_port_in_use_is_one_clear_line(run_command: Any, house: Any, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        flags = ["--store", house.store, "--database", tmp_path / "d.sqlite", "--port", str(port)]
        run = run_command("serve", *flags, check=False)
    assert run.returncode == 2
    assert run.stderr.count("\n") == 1
    assert f"port {port}" in run.stderr
    assert "in use" in run.stderr


def test_a_flipped_bit_is_refused_by_name_and_the_others_are_served(
    start: Any, own_store: Path, row: dict[str, Any], house: Any, run_command: Any
) -> None:
    damaged = blob_of(own_store, "digits")
    flip_one_bit(damaged)
    server = start(own_store, until="/v2/health/live")
    ready = requests.get(server.address + "/v2/health/ready", timeout=10)
    assert ready.status_code == 503
    assert "digits" in ready.json()["error"]
    picture = base64.b64decode(house.examples("digits")[0]["instance"]["b64"])
    for verb in ("predict", "explain"):
        refused = server.post(f"/v1/models/digits:{verb}", picture)
        assert refused.status_code == 503
        assert list(refused.json()) == ["error"]
    assert server.ask(EXPLAIN, {"instances": [row]})["labels"] == ["malignant"]
    states = {entry["name"]: entry["state"] for entry in server.post("/v2/repository/index", {}).json()}
    assert states == {"digits": "UNAVAILABLE", "tumour": "READY", "diabetes": "READY"}
    assert f"{damaged.parent.name}/{damaged.name}" in server.log()
    verified = run_command("models", "verify", "--store", own_store, check=False)
    assert verified.returncode == 1
    assert damaged.name in verified.stdout


def test_a_damaged_background_is_refused_and_predictions_go_on(
    start: Any, own_store: Path, row: dict[str, Any]
) -> None:
    flip_one_bit(blob_of(own_store, "tumour", "background"))
    server = start(own_store)
    refused = server.post(EXPLAIN, {"instances": [row], "method": "exact_shap"})
    assert refused.status_code == 503
    assert server.ask("/v1/models/tumour:predict", {"instances": [row]})["labels"] == ["malignant"]
    assert server.ask(EXPLAIN, {"instances": [row], "method": "saliency"})["explanations"]


NAN = b'{"instances": [[NaN]]}'
JSON = {"Content_Type": "application/json"}


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bomb(side: int = 100_000) -> bytes:
    """A few dozen bytes that say they are ten thousand million pixels."""
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bytes(64))), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "named"),
    [
        ("tumour:predict", {"instances": [[1.0] * 29]}, {}, 400, "30"),
        ("tumour:predict", {"instances": [{"mean_radius": 1}]}, {}, 400, "mean_texture"),
        ("tumour:predict", {"instances": ["row"]}, {}, 400, "row"),
        ("tumour:predict", NAN, JSON, 400, "NaN"),
        ("tumour:predict", b"\x00", {"Content_Type": "application/x"}, 415, "application/x"),
        ("digits:predict", b"no picture at all", {}, 400, "PNG"),
        ("digits:predict", bomb(), {}, 413, "16777216"),
        ("nothing:predict", {"instances": [[1]]}, {}, 404, "nothing"),
        ("tumour/versions/9:predict", {"instances": [[1.0] * 30]}, {}, 404, "9"),
        ("tumour:explain", {"instances": [[1.0] * 30], "method": "magic"}, {}, 400, "magic"),
        ("tumour:explain", {"instances": [[1.0] * 30], "target": 2}, {}, 400, "target"),
        ("tumour:explain", {"instances": [[1.0] * 30], "target": "healthy"}, {}, 400, "healthy"),
        ("tumour:explain", {"instances": [[1.0] * 30], "method": "grad_cam"}, {}, 422, "grad_cam"),
        ("tumour:explain", {"instances": [[1.0] * 30] * 65}, {}, 413, "64"),
        ("tumour:explain", {"instances": [[1.0] * 30] * 2}, {"Accept": "image/png"}, 406, "one row"),
        ("tumour:explain", {"instances": [[1.0] * 30], "seed": -1}, {}, 400, "seed"),
        ("tumour:explain", {"instances": [[1.0] * 30], "parameters": {"steps": 3}}, {}, 400, "steps"),
    ],
    ids=range(17),
)
def test_nonsense_is_refused_by_name_and_the_next_request_answered(
    path: str, body: Any, headers: dict[str, str], status: int, named: str, server: Any, row: dict[str, Any]
) -> None:
    refused = server.post(f"/v1/models/{path}", body, **headers)
    assert refused.status_code == status, refused.text
    assert list(refused.json()) == ["error"]
    assert named in refused.json()["error"]
    assert server.ask("/v1/models/tumour:predict", {"instances": [row]})["labels"] == ["malignant"]


def test_an_unknown_feature_is_named(server: Any, row: dict[str, Any]) -> None:
    refused = server.post("/v1/models/tumour:predict", {"instances": [row | {"mean_raduis": 1}]})
    assert refused.status_code == 400
    assert "mean_raduis" in refused.json()["error"]
