"""Which devices there are, and how ONNX Runtime is set up for them.

The options of a GPU, and why (https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html):

- `arena_extend_strategy` kSameAsRequested: the arena grows by what is asked for, not to the next power of two, so that
  several models fit beside one another. `gpu_mem_limit` bounds it.
- `cudnn_conv_algo_search` HEURISTIC: the runtime's default (EXHAUSTIVE) times every algorithm for each new shape. That
  takes long at the first run and a workspace for each candidate, and the winner of a race may be another one in the
  next process, which then answers other last digits: what was recorded could not be repeated.
- `use_tf32` off: TF32 keeps 10 bits of a float32's mantissa, an error of 1e-3, and explanations add up to 1e-4.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .errors import InvalidSettings
from .foreign import in_short

log = logging.getLogger("glasshouse.engine")

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
EXPECTED = "cpu, cuda, cuda:1"
_DEVICE = re.compile(r"cpu|cuda(:\d{1,3})?")
# y = -x as an ONNX model: what can be run on a device where anything can.
_TRIAL = bytes.fromhex(
    "08093a340a0b0a017812017922034e65671201675a100a0178120b0a09080112050a0312016e"
    "62100a0179120b0a09080112050a0312016e42040a001012"
)


@dataclass(frozen=True)
class Device:
    """Where the arrays of a session are while it runs: `cpu`, or `cuda` and the number of the GPU."""

    kind: str = "cpu"
    index: int = 0


def check_devices(wanted: Sequence[str]) -> None:
    """Raises `InvalidSettings` unless these are devices, at least one."""
    if not wanted:
        raise InvalidSettings(f"providers: came none, expected at least one of {EXPECTED}")
    for name in wanted:
        if not _DEVICE.fullmatch(name):
            raise InvalidSettings(f"providers: came {name!r}, expected some of {EXPECTED}")


def device_of(wanted: Sequence[str]) -> Device:
    """The first GPU that is wanted; the processor if there is none."""
    name = next((name for name in wanted if name.startswith("cuda")), "cpu")
    kind, _, index = name.partition(":")
    return Device(kind, int(index or 0))


def options_of(provider: str, device: Device, arena_mib: int = 0, tf32: bool = False) -> dict[str, str]:
    """How a provider is set up: which device, at most how much of its memory (MiB, 0: no limit), how exactly."""
    if provider != PROVIDERS["cuda"]:
        return {}
    options = {
        "device_id": str(device.index),
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
        "use_tf32": str(int(tf32)),
    }
    return options | ({"gpu_mem_limit": str(arena_mib << 20)} if arena_mib else {})


def available(wanted: Sequence[str], options: Mapping[str, Mapping[str, str]]) -> tuple[str, ...]:
    """The runtime's names of the wanted kinds of devices that can be used here, the processor last; what cannot be is
    said in one line of the log. `options` are those of each provider."""
    import onnxruntime

    kinds = list(dict.fromkeys([*(name.partition(":")[0] for name in wanted), "cpu"]))
    missing = _load_libraries() if "cuda" in kinds else ""
    present = set(onnxruntime.get_available_providers())
    chosen: list[str] = []
    for name in (PROVIDERS[kind] for kind in kinds):
        if name not in present:
            why = f"is not available (ONNX Runtime here has {', '.join(sorted(present))})"
        else:
            why = "" if name == PROVIDERS["cpu"] else out_of_order(name, options[name])
        if why:
            log.warning("%s %s: falling back to the next provider", name, f"{why} ({missing})" if missing else why)
        else:
            chosen.append(name)
    return tuple(chosen)


def out_of_order(provider: str, options: Mapping[str, str]) -> str:
    """Why a provider that is installed runs nothing (no card, a driver or a library missing); empty where it works."""
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(_TRIAL, providers=[(provider, dict(options))], enable_fallback=0)
    except Exception as error:
        return f"does not work: {in_short(error)}"
    if session.get_providers()[0] != provider:
        return "does not work: a library, a driver or its device is missing"
    return ""


def _load_libraries() -> str:
    """Has the runtime load CUDA's libraries from where they were installed beside it; what it says (to the console, if
    it were let) of those that are not there."""
    import onnxruntime

    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            onnxruntime.preload_dlls()
    except Exception as error:
        print(error, file=said)
    return " ".join(said.getvalue().split())
