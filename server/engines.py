"""Which engine a server has: one inside its only worker, or processes of its own, one for each device."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial

from engine import Engine, EngineProcesses, EngineSettings, InProcessEngine, Lane, Place, RemoteEngine
from model_store import Precision

from .config import Config
from .parent import end_with

MOST_THREADS, MOST_EXPLAINING = 256, 64  # requests that one engine process takes at a time; more wait in its socket


def start(config: Config) -> EngineProcesses | None:
    """The engine processes that the settings ask for, watched from here; None where the worker is its own engine.

    Raises:
        engine.LoadFailed: a process does not come up.
        engine.InvalidSettings: a device that is none.
    """
    if _inside(config):
        return None
    requests = config.workers * config.request_threads
    threads: dict[Lane, int] = {
        "predict": min(requests, MOST_THREADS),
        "explain": min(max(1, requests // 2), MOST_EXPLAINING),
    }
    alone = [settings_of(config, (device,)) for device in config.devices]
    return EngineProcesses(alone, threads, partial(end_with, os.getpid()))


def connect(config: Config, places: Sequence[Place] = ()) -> Engine:
    """The engine that a worker uses: the processes in these places, or one of its own."""
    return RemoteEngine(places) if places else InProcessEngine(settings_of(config, config.devices))


def precision_of(config: Config, runner: Engine) -> Precision:
    """What versions with a float16 variant are run in; `auto` asks the engine whether it really has a GPU first."""
    if config.precision == "auto":
        wanted = any(device.startswith("cuda") for device in config.devices)
        return "float16" if wanted and runner.info().on_gpu else "float32"
    return "float16" if config.precision == "float16" else "float32"


def settings_of(config: Config, devices: tuple[str, ...]) -> EngineSettings:
    """What the settings of a server mean to an engine."""
    return EngineSettings(
        max_batch=config.max_batch,
        max_wait_ms=config.max_wait_ms,
        queue_limit=config.queue_limit,
        # The front refuses first, where one stands before it.
        queue_seconds=2 * config.queue_seconds,
        threads=config.threads or None,
        session_limit=config.session_limit,
        providers=devices,
        explain_quantum_ms=config.explain_quantum_ms or None,
        explain_share=config.explain_share,
        arena_mib=config.arena_mib,
        shape_buckets=config.shape_buckets,
        io_binding=config.io_binding,
        cuda_graphs=config.cuda_graphs,
        tf32=config.tf32,
    )


def _inside(config: Config) -> bool:
    if config.engine == "auto":
        return config.workers == 1 and len(config.devices) == 1
    return config.engine == "inside"
