"""The three example models, trained once for the whole run of the tests, and real server processes over their store."""

from __future__ import annotations

import fcntl
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import requests

import training
from model_store import ModelVersion, Store

if TYPE_CHECKING:
    from torch import nn

ROOT = Path(__file__).parents[2]
NAMES = ("tumour", "digits", "diabetes")


def environment() -> dict[str, str]:
    """That of the tests without our own variables: a folder of data or a setting of the user's changes nothing."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GLASSHOUSE_")}
    return {**kept, "OMP_NUM_THREADS": "1"}


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "cli", *map(str, arguments)]


def glasshouse(*arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    run = subprocess.run(
        command(*arguments), cwd=ROOT, env=environment(), capture_output=True, text=True, check=False, timeout=280
    )
    assert run.returncode == 0 or not check, f"{arguments}: {run.returncode}\n{run.stdout}\n{run.stderr}"
    return run


@dataclass(frozen=True)
class House:
    """A store with the example models, and the weights of the torch originals beside it."""

    root: Path

    @property
    def store(self) -> Path:
        return self.root / "store"

    def version(self, name: str) -> ModelVersion:
        return Store(self.store, create=False).resolve(name)

    def examples(self, name: str) -> list[dict[str, Any]]:
        """Real test rows with their labels."""
        found: list[dict[str, Any]] = json.loads(self.version(name).file("examples"))
        return found

    def background(self, name: str) -> np.ndarray:
        with np.load(io.BytesIO(self.version(name).file("background"))) as arrays:
            (only,) = (arrays[key] for key in arrays.files)
        return np.asarray(only)

    def build(self) -> None:
        for name in NAMES:
            glasshouse("train", name, "--store", self.store, "--out", self.root / name)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time; the others wait."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    """Built by the first worker that needs it, shared by all of one run, and only read."""
    base = tmp_path_factory.getbasetemp()
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "house"
    root.mkdir(exist_ok=True)
    found = House(root)
    with locked(root / "lock"):
        if not (root / "built").exists():
            found.build()
            (root / "built").touch()
    return found


@pytest.fixture(scope="session")
def network(house: House) -> Callable[[str], nn.Module]:
    """The torch original by name, giving logits or values: the recipe's network with the weights training left.

    In double precision: in single precision a judge takes the wrong side of a ReLU now and then, just as anybody does.
    """

    @cache
    def restored(name: str) -> nn.Module:
        import torch

        recipe = training.RECIPES[name]
        dataset = recipe.load(None)
        module = recipe.network(dataset.inputs, dataset.labels)
        module.load_state_dict(torch.load(house.root / name / "network.pt", weights_only=True))
        return module.double().eval()

    return restored


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Running:
    """`glasshouse serve` in a process group of its own."""

    def __init__(self, folder: Path, store: Path, *flags: str, until: str = "/v2/health/ready") -> None:
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.database = folder / "decisions.sqlite"
        self.log_path = folder / "log.txt"
        self.log_file = self.log_path.open("wb")
        settings = ["--store", str(store), "--database", str(self.database), "--port", str(self.port), "--threads", "1"]
        self.process = subprocess.Popen(
            command("serve", *settings, *flags),
            cwd=ROOT,
            env=environment(),
            stdout=self.log_file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            self._wait(until)
        except BaseException:
            self.kill()
            raise

    def _wait(self, path: str) -> None:
        until = time.monotonic() + 120
        while time.monotonic() < until:
            assert self.process.poll() is None, self.log()
            try:
                if requests.get(self.address + path, timeout=5).status_code == 200:
                    return
            except requests.ConnectionError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"not ready: {self.log()}")

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def says(self, text: str, seconds: float = 10) -> bool:
        """Whether the log has `text`, now or soon: the welcome is printed beside the first requests."""
        end = time.monotonic() + seconds
        while text not in self.log():
            if time.monotonic() > end:
                return False
            time.sleep(0.05)
        return True

    def post(self, path: str, body: Any, **headers: str) -> requests.Response:
        """POST of an object as JSON or of bytes as they are."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {"Content-Type": "image/png" if isinstance(body, bytes) else "application/json"} | named
        return requests.post(self.address + path, data=data, headers=sent, timeout=120)

    def ask(self, path: str, body: Any) -> Any:
        """The JSON of an answer that has to be a good one."""
        answer = self.post(path, body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def get(self, path: str) -> Any:
        answer = requests.get(self.address + path, timeout=60)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(60)
        self.log_file.close()
        return status

    def kill(self) -> None:
        """The server and all its workers, at once and without a word."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(60)
        self.log_file.close()


Start = Callable[..., Running]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts servers that a test may maltreat; what is left of them is killed."""
    begun: list[Running] = []

    def start_one(store: Path, *flags: str, **more: Any) -> Running:
        folder = tmp_path / f"server-{len(begun)}"
        folder.mkdir()
        begun.append(Running(folder, store, *flags, **more))
        return begun[-1]

    yield start_one
    for server in begun:
        server.kill()


@pytest.fixture(scope="session")
def server(house: House, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server over the example models, shared by the tests of a worker."""
    running = Running(tmp_path_factory.mktemp("server"), house.store)
    yield running
    running.kill()


@pytest.fixture(scope="session")
def clean() -> dict[str, str]:
    """The environment for processes of ours."""
    return environment()


@pytest.fixture(scope="session")
def run_command() -> Callable[..., subprocess.CompletedProcess[str]]:
    return glasshouse


@pytest.fixture(scope="session")
def arrays_of() -> Callable[[str, Sequence[dict[str, Any]]], np.ndarray]:
    """The rows of instances as the torch original takes them, decoded without the code that serves."""
    import base64

    from PIL import Image

    def decoded(name: str, instances: Sequence[dict[str, Any]]) -> np.ndarray:
        if name == "digits":
            pictures = [Image.open(io.BytesIO(base64.b64decode(row["b64"]))) for row in instances]
            return np.stack([np.asarray(picture, np.float32)[None] for picture in pictures])
        order = [feature.name for feature in sorted(training.RECIPES[name].features, key=lambda each: each.index)]
        return np.array([[row[feature] for feature in order] for row in instances], np.float32)

    return decoded
