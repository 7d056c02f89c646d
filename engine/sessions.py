"""The edge to ONNX Runtime: the only file that imports it.

Bytes of a graph come in, a `Session` goes out: it knows the type of every input and output and runs named arrays.
Foreign exceptions become `LoadFailed` and `RunFailed` here and nowhere else.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import InvalidSettings, LoadFailed, OutOfMemory, RunFailed
from .protocol import Array, Artifact, Knobs
from .weights import FOLDED, UNPACKED, SharedWeights, mapped_bytes

if TYPE_CHECKING:
    import onnxruntime

log = logging.getLogger("glasshouse.engine")

RUNTIME = "onnxruntime"
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
EXPECTED = "cpu, cuda, cuda:1"
_DEVICE = re.compile(r"cpu|cuda(:\d{1,3})?")
_FOLDER = "session.model_external_initializers_file_folder_path"
_UNPACKED = {
    "session.disable_prepacking": "1",
    "optimization.constant_folding_max_output_size_in_bytes": str(FOLDED),
}
_SEVERITY_ERROR, _SEVERITY_FATAL = 3, 4
_NOISE = re.compile(r"\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ")
_MESSAGE_LENGTH = 500
_NO_MEMORY = re.compile(r"failed to allocate memory|bad_alloc|bad allocation|out of memory", re.IGNORECASE)

_NUMPY_NAMES = {"float": "float32", "double": "float64", "string": "object"}
_SAME_NAMES = ("float16", "bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))
_DTYPES: dict[str, np.dtype[Any]] = {
    f"tensor({name})": np.dtype(numpy_name)
    for name, numpy_name in {**_NUMPY_NAMES, **{name: name for name in _SAME_NAMES}}.items()
}


@dataclass(frozen=True)
class TensorType:
    """An input or output as the graph declares it; a dimension is a number, or a name (or None) where it is free."""

    dtype: np.dtype[Any]
    shape: tuple[int | str | None, ...]

    def __str__(self) -> str:
        """For messages: `float32 [N, 30]`."""
        name = "string" if self.dtype == np.object_ else self.dtype.name
        return f"{name} [{', '.join('?' if size is None else str(size) for size in self.shape)}]"


class Session:
    """One artifact, ready to run. Safe to call from many threads."""

    def __init__(
        self, digest: str, session: onnxruntime.InferenceSession, threads: int = 1, held: Sequence[object] = ()
    ) -> None:
        """`threads` is how many a run takes; `held` is what the session reads from outside and must not outlive."""
        self.digest, self.threads, self._held = digest, threads, held
        self.inputs = {value.name: _tensor_type("input", value) for value in session.get_inputs()}
        self.outputs = {value.name: _tensor_type("output", value) for value in session.get_outputs()}
        self.providers: tuple[str, ...] = tuple(session.get_providers())
        self._session = session
        self._run_options = _run_options()

    @property
    def on_processor(self) -> bool:
        """Whether it runs on the CPU."""
        return self.providers[0] == PROVIDERS["cpu"]

    def run(self, outputs: Sequence[str], feeds: Mapping[str, Array], stop: Stop | None = None) -> list[Array]:
        """The named outputs, in the order asked for. Raises `RunFailed` whatever the runtime's reason; `OutOfMemory` if
        it was that."""
        options = self._run_options if stop is None else stop.options
        try:
            results: list[Array] = self._session.run(list(outputs), dict(feeds), options)
        except Exception as error:
            failure = OutOfMemory if isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)) else RunFailed
            raise failure(f"the run of {self.digest[:12]} failed: {_message(error)}") from error
        return results


class Stop:
    """Ends the runs that it is handed to, between two nodes of the graph."""

    def __init__(self) -> None:
        self.options = _run_options()

    def now(self) -> None:
        """From now on; such a run raises `RunFailed`."""
        self.options.terminate = True


class Runtime:
    """How sessions are made: devices in order of preference, threads per run, memory of a GPU (MiB, 0: no limit)."""

    def __init__(self, providers: Sequence[str], threads: int | None, arena_mib: int = 0) -> None:
        if not providers:
            raise InvalidSettings(f"providers: came none, expected at least one of {EXPECTED}")
        for name in providers:
            if not _DEVICE.fullmatch(name):
                raise InvalidSettings(f"providers: came {name!r}, expected some of {EXPECTED}")
        if threads is not None and threads < 1:
            raise InvalidSettings(f"threads: came {threads}, expected 1 or more")
        import onnxruntime

        # What is served here concerns nobody elsewhere.
        onnxruntime.disable_telemetry_events()
        self.threads = threads or len(os.sched_getaffinity(0))
        self.version: str = onnxruntime.__version__
        self.providers = _available(providers)
        self._options_of = {name: _provider_options(name, providers, arena_mib) for name in self.providers}
        self.weights = SharedWeights()

    def decides(self, setting: str) -> bool:
        """What `on`, `off` or `auto` means here: auto is on where models run on a GPU."""
        return setting == "on" or (setting == "auto" and self.providers[0] != PROVIDERS["cpu"])

    def open(self, artifact: Artifact) -> Session:
        """A session of the artifact. Raises `LoadFailed`, naming the digest and the cause."""
        import onnxruntime

        threads = self._threads_of(artifact)
        payload, options = artifact.serialize(), self._options(threads)
        held = self._lent(artifact, payload, options)
        try:
            raw = onnxruntime.InferenceSession(payload, options, providers=list(self._options_of.items()))
        except Exception as error:
            raise LoadFailed(f"the runtime refused {artifact.digest[:12]}: {_message(error)}") from error
        session = Session(artifact.digest, raw, threads, held)
        _check_names(artifact, session)
        if session.providers[0] != self.providers[0]:
            log.warning("%s runs on %s, not on %s", artifact.digest[:12], session.providers[0], self.providers[0])
        return session

    def _lent(self, artifact: Artifact, payload: bytes, options: onnxruntime.SessionOptions) -> Sequence[object]:
        """What the session is to read from outside of itself. Sessions of a GPU copy the data files to it."""
        import onnxruntime

        folder: str | None = getattr(artifact, "data_folder", None)
        if folder is not None:
            options.add_session_config_entry(_FOLDER, folder)
        find = getattr(artifact, "constants", None) if self.providers[0] == PROVIDERS["cpu"] else None
        constants: Mapping[str, Array] = find(payload) if find else {}
        if mapped_bytes(constants) >= UNPACKED:
            # One level more changes the layout of kernels, and so copies them.
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
            for entry, value in _UNPACKED.items():
                options.add_session_config_entry(entry, value)
        return self.weights.lend(options, constants)

    def _threads_of(self, artifact: Artifact) -> int:
        knobs: Knobs | None = getattr(artifact, "knobs", None)
        return min(self.threads, (knobs and knobs.threads) or self.threads)

    def _options(self, threads: int) -> onnxruntime.SessionOptions:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.use_deterministic_compute = True
        options.log_severity_level = _SEVERITY_ERROR
        # Idle threads that spin would take the cores from the HTTP side.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return options


def _run_options() -> onnxruntime.RunOptions:
    """A failing run raises; its message, which may quote values of the input, must not go to the log as well."""
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.log_severity_level = _SEVERITY_FATAL
    return options


def _available(wanted: Sequence[str]) -> tuple[str, ...]:
    """The runtime's names of the wanted devices that this machine has, the processor last."""
    import onnxruntime

    kinds = list(dict.fromkeys([*(name.partition(":")[0] for name in wanted), "cpu"]))
    if "cuda" in kinds:
        try:
            onnxruntime.preload_dlls()
        except Exception as error:
            log.warning("CUDA libraries could not be loaded: %s", _message(error))
    present = set(onnxruntime.get_available_providers())
    chosen: list[str] = []
    for name in kinds:
        if PROVIDERS[name] in present:
            chosen.append(PROVIDERS[name])
        else:
            log.warning(
                "%s is not available (ONNX Runtime here has %s): falling back to the next provider",
                PROVIDERS[name],
                ", ".join(sorted(present)),
            )
    return tuple(chosen)


def _provider_options(provider: str, wanted: Sequence[str], arena_mib: int) -> dict[str, str]:
    """How a provider is set up: which device, and at most how much of its memory."""
    if provider != PROVIDERS["cuda"]:
        return {}
    device = next(name for name in wanted if name.startswith("cuda"))
    options = {"device_id": device.partition(":")[2] or "0", "arena_extend_strategy": "kSameAsRequested"}
    return options | ({"gpu_mem_limit": str(arena_mib << 20)} if arena_mib else {})


def _tensor_type(role: str, value: Any) -> TensorType:
    if value.type not in _DTYPES:
        raise LoadFailed(f"{role} {value.name!r} is {value.type}, which is not served; tensors of numbers and text are")
    return TensorType(_DTYPES[value.type], tuple(value.shape))


def _check_names(artifact: Artifact, session: Session) -> None:
    if set(artifact.inputs) != set(session.inputs):
        raise LoadFailed(
            f"{artifact.digest[:12]} is said to have the inputs {sorted(artifact.inputs)}, "
            f"but its graph has {sorted(session.inputs)}"
        )
    unknown = sorted(set(artifact.outputs) - set(session.outputs))
    if unknown or not artifact.outputs:
        raise LoadFailed(
            f"{artifact.digest[:12]} is said to have the outputs {sorted(artifact.outputs)}, "
            f"but its graph has {sorted(session.outputs)}"
        )


def _message(error: BaseException) -> str:
    """One line, without the runtime's prefix."""
    text = " ".join(_NOISE.sub("", str(error)).split()) or type(error).__name__
    return text if len(text) <= _MESSAGE_LENGTH else text[:_MESSAGE_LENGTH] + "…"
