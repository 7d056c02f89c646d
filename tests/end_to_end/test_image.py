"""The container image: built from this checkout, run read-only as non-root; predicts, explains, records."""

import contextlib
import http.server
import io
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from model_store import ExplanationDefaults, Feature, InputSpec, Manifest, OutputSpec, Store

pytestmark = [pytest.mark.image, pytest.mark.timeout(1500)]
ROOT = Path(__file__).parents[2]
TAG = "localhost/glasshouse-test"
HARDENED = ["--rm", "--network", "host", "--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges"]
FEATURES = ["income", "debt", "age"]
PROBE = """
import importlib.util, json, os
def writable(path):
    try:
        open(path, "w").close()
    except OSError:
        return False
    return True
absent = ["torch", "shap", "captum", "lightning", "sklearn", "skl2onnx", "onnxscript", "pip", "tests"]
print(json.dumps({
    "uid": os.getuid(),
    "present": [name for name in absent if importlib.util.find_spec(name)],
    "writable": [path for path in ["/x", "/store/x", "/opt/glasshouse/x", "/data/x", "/tmp/x"] if writable(path)],
}))
"""


class Tool:
    """Docker, or the program of IMAGE_TOOL, which takes `build TAG` and `run TAG OPTIONS -- ARGUMENTS`."""

    def __init__(self) -> None:
        self.program = os.environ.get("IMAGE_TOOL", "")
        docker = shutil.which("docker")
        works = (
            docker and subprocess.run([docker, "info"], capture_output=True, check=False, timeout=60).returncode == 0
        )
        if not self.program and not works:
            pytest.skip("no working docker, and IMAGE_TOOL names no other program")

    def build(self) -> None:
        command = [self.program, "build", TAG] if self.program else ["docker", "build", "-t", TAG, "."]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=1200)
        assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-4000:]

    def run_command(self, options: list[str], arguments: list[str]) -> list[str]:
        options = [*options, "--tmpfs", "/tmp", "--tmpfs", "/data:rw,mode=1777"]
        if self.program:
            return [self.program, "run", TAG, *options, "--", *arguments]
        return ["docker", "run", *HARDENED, *options, TAG, *arguments]

    def python(self, store: Path, script: str, *options: str) -> subprocess.CompletedProcess[str]:
        flags = ["-v", f"{store}:/store:ro", "--entrypoint", "python", *options]
        command = self.run_command(flags, ["-c", script])
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture(scope="module")
def weights() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(7)
    shapes = {"w1": (3, 8), "b1": (8,), "w2": (8, 2), "b2": (2,)}
    return {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def background() -> np.ndarray:
    return np.random.default_rng(8).normal(size=(5, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, weights: dict[str, np.ndarray], background: np.ndarray) -> Path:
    nodes = [
        helper.make_node("Gemm", ["row", "w1", "b1"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("Gemm", ["active", "w2", "b2"], ["logits"]),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", size]) for n, size in (("row", 3), ("logits", 2))]
    constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "loan", ends[:1], ends[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    rows = io.BytesIO()
    np.savez(rows, row=background)
    manifest = Manifest(
        name="loan",
        inputs=[InputSpec(name="row", kind="tabular", dtype="float32", shape=["N", 3], batch_axis=0)],
        outputs=[
            OutputSpec(
                name="logits", kind="logits", dtype="float32", shape=["N", 2], batch_axis=0, class_names=["no", "yes"]
            )
        ],
        features=[Feature(name=name, input="row", index=index) for index, name in enumerate(FEATURES)],
        explanation=ExplanationDefaults(method="exact_shap", methods=["exact_shap", "saliency"]),
    )
    root = tmp_path_factory.mktemp("image") / "store"
    Store(root).publish(manifest, {"model": model.SerializeToString(), "background": rows.getvalue()})
    for path in [root, *root.rglob("*")]:
        path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
    return root


@pytest.fixture(scope="module")
def image() -> Tool:
    tool = Tool()
    tool.build()
    return tool


class Collector:
    """Takes traces by OTLP over HTTP; ``came`` is the path and the body of each message."""

    def __init__(self) -> None:
        self.came: list[tuple[str, bytes]] = []
        came = self.came

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # its name in the library
                came.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    taken = Collector()
    yield taken
    taken.server.shutdown()
    taken.server.server_close()


@pytest.fixture(scope="module")
def address(image: Tool, store: Path, collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    flags = [
        "--name",
        f"glasshouse-{secrets.token_hex(4)}",
        "-v",
        f"{store}:/store:ro",
        "-e",
        f"GLASSHOUSE_PORT={port}",
        "-e",
        f"OTEL_EXPORTER_OTLP_ENDPOINT={collector.address}",
        "-e",
        "OTEL_BSP_SCHEDULE_DELAY=200",
    ]
    log = tmp_path_factory.mktemp("log") / "server.log"
    with log.open("wb") as output:
        server = subprocess.Popen(image.run_command(flags, []), cwd=ROOT, stdout=output, stderr=output)
    try:
        wait_until_ready(f"http://127.0.0.1:{port}", server, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(60)
        server.kill()
        server.wait()


def wait_until_ready(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        assert server.poll() is None, log.read_text(errors="replace")[-4000:]
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/v2/health/ready", timeout=5):
            return
        time.sleep(0.2)
    raise AssertionError(f"not ready: {log.read_text(errors='replace')[-4000:]}")


def ask(url: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def logits(weights: dict[str, np.ndarray], rows: np.ndarray) -> np.ndarray:
    hidden = np.maximum(rows.astype(np.float64) @ weights["w1"] + weights["b1"], 0)
    return hidden @ weights["w2"] + weights["b2"]


def test_it_holds_no_framework_and_writes_nowhere_else(image: Tool, store: Path) -> None:
    run = image.python(store, PROBE)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout.splitlines()[-1]) == {"uid": 10001, "present": [], "writable": ["/data/x", "/tmp/x"]}


def test_it_predicts(address: str, weights: dict[str, np.ndarray]) -> None:
    row = np.array([[0.5, -1.25, 2.0]], np.float32)
    instance = dict(zip(FEATURES, row[0].tolist(), strict=True))
    answer = ask(f"{address}/v1/models/loan:predict", {"instances": [instance]})
    np.testing.assert_allclose(answer["predictions"], logits(weights, row), rtol=1e-5, atol=1e-5)


def test_it_explains_and_records(address: str, weights: dict[str, np.ndarray], background: np.ndarray) -> None:
    row = np.array([[0.5, -1.25, 2.0]], np.float32)
    answer = ask(f"{address}/v1/models/loan:explain", {"instances": row.tolist(), "method": "exact_shap", "target": 1})
    (explanation,) = answer["explanations"]
    shap_values = [part["attribution"] for part in explanation["attributions"]]
    base_value = logits(weights, background)[:, 1].mean()
    np.testing.assert_allclose(explanation["base_value"], base_value, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(sum(shap_values) + base_value, logits(weights, row)[0, 1], rtol=1e-5, atol=1e-5)
    decision = ask(f"{address}/v1/decisions/{answer['decisions'][0]}")
    np.testing.assert_array_equal(np.ravel(decision["inputs"]["row"]["data"]), row[0])


def test_its_traces_are_sent_where_the_environment_says(address: str, collector: Collector) -> None:
    ask(f"{address}/v1/models/loan:predict", {"instances": [[0.5, -1.25, 2.0]]})
    until = time.monotonic() + 60
    while not any(b"v1/models" in body for _, body in collector.came) and time.monotonic() < until:
        time.sleep(0.1)
    assert {path for path, _ in collector.came} == {"/v1/traces"}
    assert any(b"v1/models" in body and b"glasshouse" in body for _, body in collector.came)


def test_bad_input_is_refused_by_name(address: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        ask(f"{address}/v1/models/loan:predict", {"instances": [{"income": 1, "debt": 2}]})
    assert caught.value.code in range(400, 500)
    assert "age" in json.load(caught.value)["error"]
    caught.value.close()


def test_its_health_check_tells_ready_from_not(image: Tool, store: Path, address: str) -> None:
    found = re.search(r"HEALTHCHECK[^\[]*(\[.*\])", (ROOT / "Dockerfile").read_text())
    assert found is not None
    program, flag, script = json.loads(found[1])
    assert (program, flag) == ("python", "-c")
    port = address.rpartition(":")[2]
    assert image.python(store, script, "-e", f"GLASSHOUSE_PORT={port}").returncode == 0
    assert image.python(store, script, "-e", "GLASSHOUSE_PORT=9").returncode != 0
