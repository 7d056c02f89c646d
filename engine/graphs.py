"""Runs as CUDA graphs: the kernels of a run recorded once and launched as one, for models that are many small kernels.

A recording reads and writes fixed addresses, so there is one for each number of items, with inputs and outputs of its
own on the device, and only sessions of which everything but the number of items is fixed have any. What is recorded
belongs to the thread that recorded it, and while a thread records, no other may do anything with the device
(https://github.com/microsoft/onnxruntime/issues/18806). So where graphs are on, one thread runs all sessions, and
nothing is recorded while one is made. A model that cannot be recorded (a node on the processor, control flow) is run
without.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from .binding import Allocate, Binding, HostArray, Way, host_memory
from .foreign import in_short
from .protocol import Array
from .providers import PROVIDERS, Device

if TYPE_CHECKING:
    import onnxruntime

log = logging.getLogger("glasshouse.engine")

MOST = 16  # recordings of a session: there are fewer sizes of runs (buckets.py)
RUNS = 3  # the first two have the runtime allocate what the third, which it records, must find allocated
RECORDED = {PROVIDERS["cuda"]: {"enable_cuda_graph": "1"}}  # options of a provider that records, beside its others
GRAPH_ID, NONE = "gpu_graph_id", "-1"  # of a run, in its options; -1: neither record nor replay
Key = tuple[tuple[str, ...], int]


class InOneThread:
    """A `Way` through the thread that all runs on a device happen in."""

    def __init__(self, way: Way, thread: ThreadPoolExecutor) -> None:
        self._way, self._thread = way, thread

    def run(self, outputs: Sequence[str], feeds: Mapping[str, Array], options: onnxruntime.RunOptions) -> list[Array]:
        """See `Way.run`."""
        return self._thread.submit(self._way.run, outputs, feeds, options).result()


class Graphs:
    """A `Way` by recordings, made when a number of items is first met. One run at a time.

    `session` was made with CUDA graphs on, and every dimension of its inputs but the first is fixed. `without` makes a
    way through a session without them, for when a recording fails. `alone` is held by whoever needs the device alone.
    """

    def __init__(
        self,
        name: str,
        session: onnxruntime.InferenceSession,
        device: Device,
        without: Callable[[], Way],
        alone: threading.Lock,
    ) -> None:
        self._name, self._device, self._without, self._alone = name, device, without, alone
        self._session: onnxruntime.InferenceSession | None = session
        self._otherwise: Way | None = Binding(session, device)
        self._recorded: dict[Key, _Recorded] = {}

    def run(self, outputs: Sequence[str], feeds: Mapping[str, Array], options: onnxruntime.RunOptions) -> list[Array]:
        """See `Way.run`. A launch cannot be stopped half way; one that nobody wants is not begun."""
        if self._otherwise is None:
            self._otherwise = self._without()
        if self._session is None:
            return self._otherwise.run(outputs, feeds, options)
        key = (tuple(outputs), len(next(iter(feeds.values()))))
        if key in self._recorded and not options.terminate:
            return self._recorded[key].replay(feeds)
        uncaptured(options)
        results = self._otherwise.run(outputs, feeds, options)
        if len(self._recorded) < MOST and all(array.size for array in (*feeds.values(), *results)):
            self._record(self._session, key, feeds, results)
        return results

    def _record(
        self,
        session: onnxruntime.InferenceSession,
        key: Key,
        feeds: Mapping[str, Array],
        results: Sequence[Array],
    ) -> None:
        """Records a run that has just had these results, for the next ones; later, if a session is being made."""
        if not self._alone.acquire(blocking=False):
            return
        why = ""
        try:
            recorded = _Recorded(session, self._device, len(self._recorded) + 1, feeds)
            recorded.record(key[0], feeds, results)
            self._recorded[key] = recorded
        except Exception as error:
            why = in_short(error)
        finally:
            self._alone.release()
        if why:
            log.warning("%s runs without CUDA graphs: %s", self._name, why)
            self._session = self._otherwise = None  # freed before the next is made
            self._recorded.clear()


class _Recorded:
    """One recording: the buffers it reads and writes, and the options that call for it."""

    def __init__(
        self, session: onnxruntime.InferenceSession, device: Device, number: int, feeds: Mapping[str, Array]
    ) -> None:
        import onnxruntime

        self._session, self._device = session, device
        self._binding = session.io_binding()
        allocate: Allocate = host_memory(session, device)[1]
        self._host = {
            name: HostArray(allocate(array.shape, array.dtype), array.shape, array.dtype)
            for name, array in feeds.items()
        }
        self._inputs = {name: self._on_device(array) for name, array in feeds.items()}
        self._options = onnxruntime.RunOptions()
        self._options.log_severity_level = 4
        self._options.add_run_config_entry(GRAPH_ID, str(number))

    def record(self, outputs: Sequence[str], feeds: Mapping[str, Array], like: Sequence[Array]) -> None:
        """Runs it as often as the runtime must have run it before it can record it, so that it does so now."""
        for name, value in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        for name, array in zip(outputs, like, strict=True):
            self._binding.bind_ortvalue_output(name, self._on_device(array))
        for _ in range(RUNS):
            self.replay(feeds)

    def replay(self, feeds: Mapping[str, Array]) -> list[Array]:
        """The outputs for other feeds of the same shapes, copied from the device into new arrays."""
        for name, held in self._host.items():
            np.copyto(held.array, feeds[name])
            self._inputs[name].update_inplace(held.array)
        self._binding.synchronize_inputs()
        self._session.run_with_iobinding(self._binding, self._options)
        self._binding.synchronize_outputs()
        results: list[Array] = self._binding.copy_outputs_to_cpu()
        return results

    def _on_device(self, array: Array) -> onnxruntime.OrtValue:
        import onnxruntime

        device = self._device
        return onnxruntime.OrtValue.ortvalue_from_shape_and_type(array.shape, array.dtype, device.kind, device.index)


def only_items_vary(session: onnxruntime.InferenceSession) -> bool:
    """Whether of every input all dimensions but the first, the number of items, are fixed."""
    return all(isinstance(size, int) for value in session.get_inputs() for size in value.shape[1:])


def uncaptured(options: onnxruntime.RunOptions) -> None:
    """Runs with these options are neither recorded nor replayed."""
    try:
        options.get_run_config_entry(GRAPH_ID)
    except RuntimeError:
        options.add_run_config_entry(GRAPH_ID, NONE)
