"""Runs whose inputs go to a device through buffers that are kept.

From ordinary memory a GPU is fed through a buffer of its driver, piece by piece; from page-locked memory it reads by
itself. Locking pages is slow, so the buffers are kept: as many for each shape as runs of it were under way at a time,
and no more than `KEPT_BYTES` of a session. They are another reason for runs of few shapes (`buckets.py`).

ONNX Runtime's Python API (1.31) allocates page-locked memory in two ways. `OrtValue.ortvalue_from_shape_and_type` takes
the `OrtMemoryInfo` of an `OrtEpDevice`, of which there is none unless the CUDA provider is registered a second time, as
a library. `InferenceSession.create_ortvalue_from_shape_and_type` asks the session's own allocators, among them the one
that the provider makes for page-locked memory, but its public form names no kind of memory; so it is asked one level
below, with the `OrtDevice` of that allocator. Where that is refused, ordinary memory takes its place, and a line in the
log says so once.

Outputs are computed on the device and copied once, into new arrays: no answer shares memory with the next run.
"""

from __future__ import annotations

import ctypes
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .foreign import in_short
from .protocol import Array
from .providers import Device

if TYPE_CHECKING:
    import onnxruntime

log = logging.getLogger("glasshouse.engine")

KEPT_BYTES = 64 << 20
Shapes = tuple[tuple[str, tuple[int, ...]], ...]
Allocate = Callable[[tuple[int, ...], "np.dtype[Any]"], "onnxruntime.OrtValue"]


class Way(Protocol):
    """How arrays get through a session of the runtime: as `InferenceSession.run` takes and returns them."""

    def run(self, outputs: Sequence[str], feeds: Mapping[str, Array], options: onnxruntime.RunOptions) -> list[Array]:
        """The named outputs, as arrays that nothing else writes to. Raises whatever the runtime raises."""


class HostArray:
    """Memory of this machine that a device is fed from, as the runtime's value and as an array over the same bytes (at
    least one)."""

    def __init__(self, value: onnxruntime.OrtValue, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.value = value
        size = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        memory = memoryview((ctypes.c_byte * size).from_address(value.data_ptr()))
        self.array: Array = np.frombuffer(memory, dtype).reshape(shape)


class Binding:
    """A `Way` by I/O binding. Safe to call from many threads."""

    def __init__(self, session: onnxruntime.InferenceSession, device: Device) -> None:
        self._session, self._device = session, device
        self.page_locked, self._allocate = host_memory(session, device)
        self._lock = threading.Lock()
        self._kept: OrderedDict[Shapes, list[_Buffers]] = OrderedDict()
        self._bytes = 0

    def run(self, outputs: Sequence[str], feeds: Mapping[str, Array], options: onnxruntime.RunOptions) -> list[Array]:
        """See `Way.run`. Arrays without elements have no address, and go the ordinary way."""
        if not all(array.size for array in feeds.values()):
            return list(self._session.run(list(outputs), dict(feeds), options))
        shapes = tuple((name, array.shape) for name, array in feeds.items())
        buffers = self._take(shapes) or _Buffers(self._session, self._device, self._allocate, feeds)
        results = buffers.run(outputs, feeds, options)
        self._keep(shapes, buffers)
        return results

    @property
    def kept_bytes(self) -> int:
        """How much memory is kept for the next runs."""
        return self._bytes

    def _take(self, shapes: Shapes) -> _Buffers | None:
        with self._lock:
            free = self._kept.get(shapes)
            if not free:
                return None
            buffers = free.pop()
            if not free:
                del self._kept[shapes]
            self._bytes -= buffers.bytes
            return buffers

    def _keep(self, shapes: Shapes, buffers: _Buffers) -> None:
        """For the next run of these shapes; what was not used for longest makes room for it."""
        if buffers.bytes > KEPT_BYTES:
            return
        with self._lock:
            self._kept.setdefault(shapes, []).append(buffers)
            self._kept.move_to_end(shapes)
            self._bytes += buffers.bytes
            while self._bytes > KEPT_BYTES:
                oldest, free = next(iter(self._kept.items()))
                self._bytes -= free.pop().bytes
                if not free:
                    del self._kept[oldest]


class _Buffers:
    """The inputs of one run, and the binding that hands them over. Used by one run at a time."""

    def __init__(
        self, session: onnxruntime.InferenceSession, device: Device, allocate: Allocate, feeds: Mapping[str, Array]
    ) -> None:
        self._session, self._device = session, device
        self._binding = session.io_binding()
        self._inputs = {
            name: HostArray(allocate(array.shape, array.dtype), array.shape, array.dtype)
            for name, array in feeds.items()
        }
        self.bytes = sum(held.array.nbytes for held in self._inputs.values())

    def run(self, outputs: Sequence[str], feeds: Mapping[str, Array], options: onnxruntime.RunOptions) -> list[Array]:
        binding = self._binding
        for name, held in self._inputs.items():
            np.copyto(held.array, feeds[name])
            binding.bind_ortvalue_input(name, held.value)  # where it is needed on the device, this copies it there
        for name in outputs:
            binding.bind_output(name, self._device.kind, self._device.index)
        binding.synchronize_inputs()
        self._session.run_with_iobinding(binding, options)
        binding.synchronize_outputs()
        results: list[Array] = binding.copy_outputs_to_cpu()
        binding.clear_binding_inputs()
        binding.clear_binding_outputs()
        return results


def host_memory(session: onnxruntime.InferenceSession, device: Device) -> tuple[bool, Allocate]:
    """Whether memory of this machine that feeds a session's device is page-locked, and how it is allocated."""
    if device.kind == "cpu":
        return False, _pageable

    def page_locked(shape: tuple[int, ...], dtype: np.dtype[Any]) -> onnxruntime.OrtValue:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as core

        kind, vendor = onnxruntime.OrtDeviceMemoryType.HOST_ACCESSIBLE, onnxruntime.OrtDeviceVendorId.NVIDIA
        place = core.OrtDevice(core.OrtDevice.cuda(), int(kind), int(vendor), device.index)
        raw = session._sess.create_ortvalue_from_shape_and_type(shape, dtype, place)
        return onnxruntime.OrtValue(raw, session=session._sess)

    try:
        page_locked((1,), np.dtype(np.float32))
    except Exception as error:
        _say_pageable(in_short(error))
        return False, _pageable
    return True, page_locked


def _pageable(shape: tuple[int, ...], dtype: np.dtype[Any]) -> onnxruntime.OrtValue:
    import onnxruntime

    return onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, dtype)


@cache
def _say_pageable(why: str) -> None:
    log.warning("inputs of the GPU are not page-locked: %s", why)
