"""The edge to ONNX Runtime: whatever is run goes through `Session.run`.

Bytes of a graph come in, a `Session` goes out: it knows the type of every input and output and runs named arrays.
Foreign exceptions become `LoadFailed` and `RunFailed` here and nowhere else. Beside this file the runtime is imported
only by those that it stands on: `providers.py` (devices and their options), `weights.py` (constants held once),
`binding.py` and `graphs.py` (other ways of arrays through a session, on a GPU).
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from .binding import Binding, Way
from .errors import InvalidSettings, LoadFailed, OutOfMemory, RunFailed
from .foreign import in_short, lacks_memory
from .graphs import RECORDED, Graphs, InOneThread, only_items_vary
from .protocol import Array, Artifact, Knobs
from .providers import PROVIDERS, Device, available, check_devices, device_of, options_of
from .weights import FOLDED, UNPACKED, SharedWeights, mapped_bytes

if TYPE_CHECKING:
    import onnxruntime

log = logging.getLogger("glasshouse.engine")

RUNTIME = "onnxruntime"
_FOLDER = "session.model_external_initializers_file_folder_path"
_UNPACKED = {
    "session.disable_prepacking": "1",
    "optimization.constant_folding_max_output_size_in_bytes": str(FOLDED),
}
_SEVERITY_ERROR, _SEVERITY_FATAL = 3, 4

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
        self,
        digest: str,
        session: onnxruntime.InferenceSession,
        threads: int = 1,
        held: Sequence[object] = (),
        way: Way | None = None,
    ) -> None:
        """`threads` is how many a run takes; `held` is what the session reads from outside and must not outlive; `way`
        is how arrays get through it, if not by its own `run`."""
        self.digest, self.threads, self._held = digest, threads, held
        self.inputs = {value.name: _tensor_type("input", value) for value in session.get_inputs()}
        self.outputs = {value.name: _tensor_type("output", value) for value in session.get_outputs()}
        self.providers: tuple[str, ...] = tuple(session.get_providers())
        self._run = (way or session).run
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
            results: list[Array] = self._run(list(outputs), dict(feeds), options)
        except Exception as error:
            failure = OutOfMemory if lacks_memory(error) else RunFailed
            raise failure(f"the run of {self.digest[:12]} failed: {in_short(error)}") from error
        return results


class Stop:
    """Ends the runs that it is handed to, between two nodes of the graph."""

    def __init__(self) -> None:
        self.options = _run_options()

    def now(self) -> None:
        """From now on; such a run raises `RunFailed`."""
        self.options.terminate = True


class Runtime:
    """How sessions are made: devices in order of preference, threads per run, and on a GPU most of its memory (MiB, 0:
    no limit), whether it computes in TF32, whether inputs go through buffers of our own (`on`, `off`, `auto`: on a GPU)
    and whether runs are recorded as CUDA graphs."""

    def __init__(
        self,
        providers: Sequence[str],
        threads: int | None,
        arena_mib: int = 0,
        *,
        tf32: bool = False,
        io_binding: str = "auto",
        cuda_graphs: bool = False,
    ) -> None:
        check_devices(providers)
        if threads is not None and threads < 1:
            raise InvalidSettings(f"threads: came {threads}, expected 1 or more")
        import onnxruntime

        # What is served here concerns nobody elsewhere.
        onnxruntime.disable_telemetry_events()
        self.threads = threads or len(os.sched_getaffinity(0))
        self.version: str = onnxruntime.__version__
        device = device_of(providers)
        options = {name: options_of(name, device, arena_mib, tf32) for name in PROVIDERS.values()}
        self.providers = available(providers, options)
        self._options_of = {name: options[name] for name in self.providers}
        on_gpu = self.providers[0] == PROVIDERS["cuda"]
        self.device = device if on_gpu else Device()
        self.weights = SharedWeights()
        self._bound = self.decides(io_binding)
        # Of a GPU that records, one thread runs everything, and a session is made while nothing is recorded: graphs.py.
        self._thread = ThreadPoolExecutor(1, "engine-graphs") if cuda_graphs and on_gpu else None
        self._alone = threading.Lock()

    def decides(self, setting: str) -> bool:
        """What `on`, `off` or `auto` means here: auto is on where models run on a GPU."""
        return setting == "on" or (setting == "auto" and self.providers[0] != PROVIDERS["cpu"])

    def open(self, artifact: Artifact) -> Session:
        """A session of the artifact. Raises `LoadFailed`, naming the digest and the cause."""
        if self._thread is None:
            return self._open(artifact)
        with self._alone:
            return self._open(artifact)

    def close(self) -> None:
        """End the thread that runs sessions, if there is one."""
        if self._thread is not None:
            self._thread.shutdown()

    def _open(self, artifact: Artifact) -> Session:
        name, threads = artifact.digest[:12], self.threads_of(artifact)
        payload, options = artifact.serialize(), self._options(threads)
        held = self._lent(artifact, payload, options)
        make = partial(self._made, name, payload, options)
        recording = None if self._thread is None else self._recording(artifact, payload, options)
        raw = make() if recording is None else recording
        way = self._way(raw)
        if recording is not None:
            way = Graphs(name, recording, self.device, lambda: self._way(make()), self._alone)
        session = Session(artifact.digest, raw, threads, held, InOneThread(way, self._thread) if self._thread else way)
        _check_names(artifact, session)
        if session.providers[0] != self.providers[0]:
            log.warning("%s runs on %s, not on %s", name, session.providers[0], self.providers[0])
        return session

    def _way(self, session: onnxruntime.InferenceSession) -> Way:
        """How arrays get through a session that records nothing."""
        on_device = session.get_providers()[0] == self.providers[0]
        return Binding(session, self.device) if self._bound and on_device and not _has_text(session) else session

    def _recording(
        self, artifact: Artifact, payload: bytes, options: onnxruntime.SessionOptions
    ) -> onnxruntime.InferenceSession | None:
        """A session that records CUDA graphs; None where there cannot be one."""
        import onnxruntime

        if set(artifact.inputs.values()) != {"item"}:
            return None
        providers = [(name, given | RECORDED.get(name, {})) for name, given in self._options_of.items()]
        try:
            made = onnxruntime.InferenceSession(payload, options, providers=providers, enable_fallback=0)
        except Exception as error:
            log.warning("%s runs without CUDA graphs: %s", artifact.digest[:12], in_short(error))
            return None
        return made if only_items_vary(made) and not _has_text(made) else None

    def _made(self, name: str, payload: bytes, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
        """The runtime's session; where the device refuses it, on the processor. (The runtime's own way to fall back
        prints to the console, and would move a session while it runs.)"""
        import onnxruntime

        providers = list(self._options_of.items())
        while True:
            try:
                return onnxruntime.InferenceSession(payload, options, providers=providers, enable_fallback=0)
            except Exception as error:
                if len(providers) == 1:
                    raise LoadFailed(f"the runtime refused {name}: {in_short(error)}") from error
                log.warning("%s cannot be run on %s: %s", name, providers.pop(0)[0], in_short(error))

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

    def threads_of(self, artifact: Artifact) -> int:
        """How many threads a run of it takes."""
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


def _has_text(session: onnxruntime.InferenceSession) -> bool:
    """Whether an input or output is text, which is never on a device."""
    return any(value.type == "tensor(string)" for value in (*session.get_inputs(), *session.get_outputs()))


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
