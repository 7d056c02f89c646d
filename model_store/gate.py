"""The gate: what a model file must pass before anything in this house reads it.

The parent counts the bytes and hashes them; everything else happens in a child process with limits on memory and time
(`gate_child.py`). The child tells its verdict; a child that dies, hangs or babbles is a refusal too. The order
inside: our own walk over the structure, onnx's checker, and the sizes of the constants a runtime would compute
while it loads.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from .beside import named, opened
from .errors import RefusedModel
from .limits import Limits
from .outside import DataFile

_MAX_ANSWER = 1 << 20
_DIED = "the process that looked at it died of it"
_CHILD = "import sys; sys.path.insert(0, sys.argv.pop(1)); from model_store.gate_child import main; main()"


@dataclass(frozen=True)
class GateReport:
    """What the gate saw in a file it lets pass. `parameters` counts the elements of all stored tensors."""

    digest: str
    size: int
    ir_version: int
    opsets: dict[str, int]
    nodes: int
    functions: int
    depth: int
    initializers: int
    parameters: int
    operators: dict[str, int]


def check_model(data: bytes, limits: Limits | None = None, data_files: Mapping[str, Path] | None = None) -> GateReport:
    """Let an ONNX file pass, or raise RefusedModel with the reason. Nothing in it is run, and no other file is read
    but `data_files`, those that hold the data of its tensors, by the names it has for them."""
    limits = limits or Limits()
    _check_size(data, limits)
    with contextlib.ExitStack() as stack:
        answer = _ask_child(data, limits, opened(data_files or {}, stack))
    report = {**answer["report"], "digest": hashlib.sha256(data).hexdigest(), "size": len(data)}
    try:
        return msgspec.convert(report, type=GateReport)
    except msgspec.ValidationError:
        raise RefusedModel(f"the model is refused: {_DIED}") from None


def data_beside(path: Path, data: bytes, limits: Limits | None = None) -> dict[str, Path]:
    """The data files of the ONNX file that was read from `path`, by the names it has for them: ordinary files of the
    same folder. None for most models. Raises RefusedModel."""
    if b"location" not in data:
        return {}
    limits = limits or Limits()
    _check_size(data, limits)
    answer = _ask_child(data, limits, {}, names=True)
    found = answer["names"] if isinstance(answer.get("names"), list) else []
    return named([str(name) for name in found], path.parent)


def _check_size(data: bytes, limits: Limits) -> None:
    if not data:
        raise RefusedModel("the model is refused: the file is empty")
    if len(data) > limits.max_bytes:
        raise RefusedModel(f"the model is refused: {len(data)} bytes, the limit is {limits.max_bytes}")


def _ask_child(data: bytes, limits: Limits, files: Mapping[str, DataFile], names: bool = False) -> dict[str, Any]:
    """What the child says of the file. Raises RefusedModel."""
    told = {
        "limits": {**dataclasses.asdict(limits), "domains": sorted(limits.domains)},
        "size": len(data),
        "files": {name: (file.handle, file.size) for name, file in files.items()},
        "names": names,
    }
    room = str(Path(__file__).resolve().parent.parent)
    # Not the parent's environment: the child needs no secret, and one thread's memory is all it may have.
    environment = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "PATH") if name in os.environ}
    environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"}
    child = subprocess.Popen(  # noqa: S603 -- our own interpreter and our own code, no shell; the file goes over stdin
        [sys.executable, "-I", "-c", _CHILD, room, json.dumps(told)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        cwd="/",
        pass_fds=[file.handle for file in files.values()],
        start_new_session=True,
    )
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        _kill(child)

    timer = threading.Timer(limits.wall_seconds, expire)
    timer.start()
    feeder = threading.Thread(target=_feed, args=[child, data], daemon=True)
    feeder.start()
    try:
        assert child.stdout is not None  # noqa: S101 -- asked for as a pipe above
        said = child.stdout.read(_MAX_ANSWER + 1)
    finally:
        timer.cancel()
        _kill(child)
        feeder.join()
        if child.stdout is not None:
            child.stdout.close()
    answer = _answer(said, child.returncode, expired.is_set(), limits)
    if "refused" in answer:
        raise RefusedModel(f"the model is refused: {answer['refused']}")
    return answer


def _answer(said: bytes, status: int, timed_out: bool, limits: Limits) -> dict[str, Any]:
    try:
        answer = json.loads(said) if len(said) <= _MAX_ANSWER else None
    except ValueError:
        answer = None
    kinds = {"refused": str, "report": dict, "names": list}
    if isinstance(answer, dict) and any(isinstance(answer.get(word), kind) for word, kind in kinds.items()):
        return answer
    if timed_out:
        return {"refused": f"looking at it took more than {limits.wall_seconds:g} s"}
    if status == -signal.SIGXCPU:
        return {"refused": f"looking at it took more than {limits.cpu_seconds} s of computing"}
    return {"refused": _DIED}


def _feed(child: subprocess.Popen[bytes], data: bytes) -> None:
    """Write the file; a child that died before it read all is no error here."""
    assert child.stdin is not None  # noqa: S101 -- asked for as a pipe
    with contextlib.suppress(BrokenPipeError):
        child.stdin.write(data)
    with contextlib.suppress(BrokenPipeError):
        child.stdin.close()


def _kill(child: subprocess.Popen[bytes]) -> None:
    """End the child's whole session, and wait for the child."""
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
    child.wait()
