"""The real thing: Granian in its own process, spoken to by tritonclient, by curl's words and by raw sockets."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import requests

from server import Config, ConfigError, check, serving

ROOT = Path(__file__).resolve().parents[2]
ROW = {"petal": 1.5, "sepal": -0.5, "colour": "w"}
PROGRAM = "import sys, server; server.serve(server.load_config(sys.argv[1], {}))"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Running:
    """A server process: its address, what it printed, and its log."""

    def __init__(self, folder: Path, store: Path, **settings: Any) -> None:
        self.port = free_port()
        self.folder = folder
        values = {
            "port": self.port,
            "store": str(store),
            "database": str(folder / "decisions.sqlite"),
            "threads": 1,
            **settings,
        }
        file = folder / "glasshouse.toml"
        file.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items()))
        self.log = folder / "log.txt"
        self.errors = self.log.open("wb")
        environment = {key: value for key, value in os.environ.items() if not key.startswith("GLASSHOUSE_")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(file)],
            cwd=ROOT,
            env={**environment, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )
        self.banner = self._read_banner()

    def _read_banner(self) -> str:
        assert self.process.stdout is not None
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if "image/png" in line:
                break
        return "".join(lines)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.errors.close()
        return status

    def log_lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@pytest.fixture(scope="module")
def running(store_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    server = Running(tmp_path_factory.mktemp("running"), store_path, max_wait_ms=100)
    yield server
    if server.process.poll() is None:
        server.stop()


def test_tritonclient_reads_metadata_and_infers_with_its_defaults(running: Running, models: ModuleType) -> None:
    http = pytest.importorskip("tritonclient.http")
    client = http.InferenceServerClient(f"127.0.0.1:{running.port}")
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("flowers")
    assert client.get_server_metadata()["name"] == "glasshouse"
    metadata = client.get_model_metadata("flowers")
    assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]
    assert client.get_model_config("flowers")["max_batch_size"] > 0
    array = np.array([[1.5, -0.5, 1], [0.25, 2, 2]], dtype=np.float32)
    tensor = http.InferInput("x", [2, 3], "FP32")
    tensor.set_data_from_numpy(array)
    for outputs in (
        None,
        [http.InferRequestedOutput("logits")],
        [http.InferRequestedOutput("logits", binary_data=False)],
    ):
        result = client.infer("flowers", [tensor], outputs=outputs, request_id="r1")
        np.testing.assert_allclose(result.as_numpy("logits"), models.tabular_logits(array), rtol=1e-5)
        assert result.get_response()["id"] == "r1"
        assert result.get_response()["parameters"]["decision_id"]
    tensor.set_data_from_numpy(array, binary_data=False)
    np.testing.assert_allclose(
        client.infer("flowers", [tensor]).as_numpy("logits"), models.tabular_logits(array), rtol=1e-5
    )
    assert client.get_inference_statistics("flowers")["model_stats"][0]["inference_count"] >= 8
    with pytest.raises(http.InferenceServerException if hasattr(http, "InferenceServerException") else Exception):
        client.infer("nothing", [tensor])
    client.close()


def test_the_printed_commands_work_when_pasted(running: Running, tmp_path: Path) -> None:
    commands = [line for line in running.banner.splitlines() if line.startswith("curl ")]
    assert len(commands) == 3
    assert f"{running.address}/" in running.banner
    curl = shutil.which("curl")
    if curl is None:
        if os.environ.get("GLASSHOUSE_REQUIRE_ALL") == "1":
            pytest.fail("curl is not installed, and GLASSHOUSE_REQUIRE_ALL=1 asks for every test")
        pytest.skip("curl is not installed")
    outputs = [
        subprocess.run(["/bin/sh", "-c", command], cwd=tmp_path, capture_output=True, check=True).stdout
        for command in commands
    ]
    assert json.loads(outputs[0])["labels"] == ["lily"]
    assert json.loads(outputs[1])["explanations"][0]["method"] == "exact_shap"
    picture = tmp_path / shlex.split(commands[2])[shlex.split(commands[2]).index("-o") + 1]
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_sixteen_in_parallel_share_runs_and_equal_the_solo_answer(running: Running) -> None:
    address = f"{running.address}/v1/models/flowers:explain"
    rows = [[index / 4, 1 - index / 8, "rwb"[index % 3]] for index in range(16)]
    bodies = [{"instances": [row], "method": "integrated_gradients"} for row in rows]
    alone = requests.post(address, json=bodies[5], timeout=60).json()["explanations"][0]
    answers: list[dict[str, Any]] = [{}] * 16
    barrier = threading.Barrier(16)

    def ask(index: int) -> None:
        barrier.wait()
        response = requests.post(address, json=bodies[index], timeout=60)
        answers[index] = response.json()["explanations"][0]

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(answer["runs"]["shared_with_max"] for answer in answers) >= 1
    one, many = ([entry["attribution"] for entry in answer["attributions"]] for answer in (alone, answers[5]))
    np.testing.assert_allclose(many, one, rtol=0, atol=1e-6 * np.abs(one).max())


def raw(port: int, request: bytes, half: bool = False) -> bytes:
    """What the server answers to these very bytes."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(request)
        if half:
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
        return answer


def test_a_body_cut_short_is_refused_and_the_server_lives(running: Running) -> None:
    body = json.dumps({"instances": [ROW]}).encode()
    head = (
        b"POST /v1/models/flowers:predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    )
    assert raw(running.port, head % len(body) + body).startswith(b"HTTP/1.1 200")
    # A complete JSON value, but fewer bytes than were announced.
    cut = raw(running.port, head % (len(body) + 10) + body, half=True)
    assert b" 200 " not in cut.split(b"\r\n")[0]
    assert b"predictions" not in cut
    assert requests.get(f"{running.address}/v2/health/live", timeout=30).status_code == 200


def test_chunked_bodies_are_read_whole_and_limited(running: Running) -> None:
    address = f"{running.address}/v1/models/flowers:predict"
    body = json.dumps({"instances": [ROW]}).encode()
    headers = {"Content-Type": "application/json"}
    chunks = (body[at : at + 7] for at in range(0, len(body), 7))
    assert requests.post(address, data=chunks, headers=headers, timeout=60).json()["labels"] == ["lily"]


def test_two_lengths_and_both_framings_are_refused(running: Running) -> None:
    body = b'{"instances":[[1,2,"w"]]}'
    head = b"POST /v1/models/flowers:predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    head += b"Content-Type: application/json\r\n"
    for lines in (
        b"Content-Length: 25\r\nContent-Length: 5\r\n",
        b"Content-Length : 25\r\n",
        b"Content-Length: +25\r\n",
        b"Content-Length: 25, 25, 6\r\n",
    ):
        answer = raw(running.port, head + lines + b"\r\n" + body, half=True)
        assert b" 200 " not in answer.split(b"\r\n")[0], lines
    assert requests.get(f"{running.address}/v2/health/live", timeout=30).status_code == 200


def test_logs_carry_ids_and_no_payloads(running: Running) -> None:
    marker = "secretcolour"
    response = requests.post(
        f"{running.address}/v1/models/flowers:predict",
        json={"instances": [{**ROW, "colour": marker}]},
        headers={"X-Request-Id": "log-1"},
        timeout=60,
    )
    assert response.status_code == 400
    good = requests.post(
        f"{running.address}/v1/models/flowers:predict",
        json={"instances": [ROW]},
        headers={"X-Request-Id": "log-2"},
        timeout=60,
    )
    requests.get(f"{running.address}/x%0d%0a%7B%22level%22:%22forged%22%7D", timeout=60)
    deadline = time.monotonic() + 30
    while not any(line.get("request_id") == "log-2" for line in running.log_lines()) and time.monotonic() < deadline:
        time.sleep(0.05)
    lines = {line.get("request_id"): line for line in running.log_lines()}
    assert (lines["log-1"]["status"], lines["log-2"]["status"]) == (400, 200)
    assert lines["log-2"]["decision"] == good.headers["Glasshouse-Decision"]
    assert marker not in running.log.read_text()
    assert not any(line["level"] == "forged" for line in running.log_lines())


def test_a_request_being_answered_survives_the_stop(store_path: Path, tmp_path: Path) -> None:
    server = Running(tmp_path, store_path)
    address = f"{server.address}/v1/models/flowers:explain"
    body = {"instances": [ROW] * 16, "method": "integrated_gradients", "parameters": {"n_steps": 2000}}
    answers: list[requests.Response] = []
    asking = threading.Thread(target=lambda: answers.append(requests.post(address, json=body, timeout=120)))
    asking.start()
    statistics = f"{server.address}/v2/models/stats"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        figures = requests.get(statistics, timeout=60).json()["model_stats"]
        if any(entry["name"] == "flowers" and entry["inference_count"] >= 16 for entry in figures):
            break
    assert server.stop() == 0
    asking.join()
    assert answers[0].status_code == 200
    assert len(answers[0].json()["explanations"]) == 16
    decisions = [line for line in server.log_lines() if line.get("decision")]
    assert decisions


def test_a_killed_server_leaves_nobody_on_the_port(store_path: Path, tmp_path: Path) -> None:
    server = Running(tmp_path, store_path)
    config = Config(port=server.port, store=store_path, database=tmp_path / "decisions.sqlite")
    with pytest.raises(ConfigError, match="in use"):
        check(config)
    server.process.kill()
    server.process.wait(60)
    # The worker inherited this pipe: it ends when the last process that could write to it has.
    assert server.process.stdout is not None
    server.process.stdout.read()
    server.process.stdout.close()
    server.errors.close()
    check(config)


def test_what_cannot_work_is_said_before_anything_listens(store_path: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        config = Config(port=taken.getsockname()[1], store=store_path, database=tmp_path / "d.sqlite")
        with pytest.raises(ConfigError, match=re.escape(f"port {config.port}")):
            check(config)
    check(Config(port=free_port(), store=store_path, database=tmp_path / "d.sqlite"))


def test_loopback_is_known() -> None:
    assert all(serving.is_loopback(host) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost"))
    assert not any(serving.is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "example"))
