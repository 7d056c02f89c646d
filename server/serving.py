"""From settings to a running server: the rooms opened, and Granian in front of the application.

Granian's own process holds the socket; the worker process opens store, engine and records, loads the models and then
answers, behind the front that reads requests (front.py). It listens from then on, and only then is the welcome printed:
what it shows works when pasted.
"""

from __future__ import annotations

import gc
import ipaddress
import os
import resource
import socket
import tempfile
import threading
import time
from collections.abc import Sequence
from functools import partial
from multiprocessing.util import Finalize
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit import AuditLog, migrate, open_database
from engine import Place, place_for_sockets
from model_store import Store

from . import engines
from .config import Config
from .errors import ConfigError
from .logs import configure, log
from .metrics import Siblings, sources
from .parent import end_with
from .service import Service
from .traces import open_traces
from .welcome import banner

if TYPE_CHECKING:
    from .front import Front

LISTEN_SECONDS = 30
STOP_SECONDS = 30
HEADER_MILLISECONDS = 15_000
MAX_BUFFER_BYTES = 64 * 1024
SPARE_FILES = 512


def open_service(config: Config, places: Sequence[Place] = (), shared: Path | None = None) -> Service:
    """A service with its store, engine and decision records open and the required models loaded.

    ``places`` are those of the engine processes; without any, the service has an engine of its own. ``shared`` is a
    folder that the worker processes of one server have in common.
    """
    runner = engines.connect(config, places)
    store = Store(config.store, create=False, precision=engines.precision_of(config, runner))
    service = Service(store, runner, _audit(config), config, shared)
    service.models.start()
    return service


def _audit(config: Config) -> AuditLog | None:
    if config.audit == "off":
        return None
    database = open_database(config.database)
    migrate(database)
    return AuditLog(database)


def serve(config: Config) -> None:
    """Serves until SIGTERM or SIGINT; requests that are being answered then are finished first."""
    configure(config.log_level)
    check(config)
    if not is_loopback(config.host):
        log().warning(
            "listening beyond this machine: there is no authentication; put a proxy with access control in front",
            extra={"route": config.host},
        )
    processes = engines.start(config)
    try:
        places = processes.places if processes else ()
        with tempfile.TemporaryDirectory(prefix="glasshouse-", dir=place_for_sockets()) as shared:
            # Granian knows callables, and an RSGI application is an object.
            loader: Any = partial(_worker, config, os.getpid(), places, Path(shared))
            listener(config).serve(target_loader=loader, wrap_loader=False)
    finally:
        if processes:
            processes.close()


def listener(config: Config) -> Any:
    """Granian with our settings; what it serves is loaded in each worker process."""
    from granian.constants import HTTPModes, Interfaces
    from granian.http import HTTP1Settings
    from granian.log import LogLevels

    from .listening import Listener

    return Listener(
        "server",
        address=config.host,
        port=config.port,
        interface=Interfaces.RSGI,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(header_read_timeout=HEADER_MILLISECONDS, max_buffer_size=MAX_BUFFER_BYTES),
        websockets=False,
        workers=config.workers,
        backpressure=config.connections,
        log_level=LogLevels.error,
        respawn_failed_workers=True,
        workers_kill_timeout=STOP_SECONDS,
    )


def check(config: Config) -> None:
    """Finds out before anything listens whether the settings can work.

    Raises:
        ConfigError: somebody listens at this address already, or it is not one of this machine.
        StoreError: there is no store in the folder.
        AuditError: the decision records cannot be opened.
    """
    Store(config.store, create=False)
    if config.audit != "off":
        database = open_database(config.database)
        migrate(database)
        database.dispose()
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((config.host, config.port))
        except OSError as error:
            reason = error.strerror or "cannot be bound"
            raise ConfigError(f"cannot listen at {config.host} port {config.port}: {reason}") from error


def _worker(config: Config, parent: int, places: Sequence[Place], shared: Path) -> Front:
    """Runs in a worker process: the application behind its front, ready to answer; ``shared`` is where workers meet."""
    from .app import create_app
    from .front import Front

    end_with(parent)
    configure(config.log_level)
    allow_files(config.connections + SPARE_FILES)
    service = open_service(config, places, shared)
    service.traces = open_traces()
    if service.traces is not None:
        # A process made by multiprocessing leaves without atexit; this it sees to.
        Finalize(None, service.traces.close, exitpriority=0)
    if config.workers > 1:
        service.siblings = Siblings(shared, partial(sources, service), service.models.index)
    app = create_app(config, service)
    threading.Thread(target=_announce, args=(config, banner(config, service)), daemon=True).start()
    # What is loaded now stays: the collector need not look through it again and again.
    gc.collect()
    gc.freeze()
    return Front(
        app,
        threads=config.request_threads,
        waiting=config.waiting_requests,
        max_body=config.max_body_bytes,
        body_seconds=config.body_seconds,
        queue_seconds=config.queue_seconds,
        refused=service.figures.refused,
        # Another process and a trace that is sent are waited for each time.
        prompt=not places and service.traces is None,
    )


def allow_files(wanted: int) -> None:
    """Lets this process open that many files, as far as the system allows: every connection is one."""
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = most == resource.RLIM_INFINITY
    if allowed not in (resource.RLIM_INFINITY, most) and allowed < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if unlimited else min(wanted, most), most))


def _announce(config: Config, text: str) -> None:
    """Prints the welcome once somebody can connect: the socket listens only after the application is made."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.host, config.host)  # noqa: S104 # replaced, not bound
    until = time.monotonic() + LISTEN_SECONDS
    while time.monotonic() < until:
        try:
            socket.create_connection((host, config.port), timeout=1).close()
            break
        except OSError:
            time.sleep(0.02)
    print(text, flush=True)


def is_loopback(host: str) -> bool:
    """Whether an address is reachable from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
