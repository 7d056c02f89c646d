"""What each process has counted, collected when somebody asks: the server's figures, the engine's, the machine's."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING

import engine

from ..version import VERSION
from .exposition import exposition
from .samples import Labels, Samples, Sources, Value, joined
from .table import METRICS

if TYPE_CHECKING:
    from ..service import Service

RESULTS = {
    "hits": "glasshouse_result_cache_hits",
    "misses": "glasshouse_result_cache_misses",
    "entries": "glasshouse_result_cache_entries",
    "bytes": "glasshouse_result_cache_bytes",
}


def scrape(service: Service, accept: str) -> tuple[bytes, str]:
    """The answer to a scrape and its media type: figures of this worker, or of all where there are several."""
    if service.siblings is None:
        samples = joined(sources(service, "this").values())
    else:
        live, ended = service.siblings.gather()
        samples = joined(live.values(), [ended])
    return exposition(samples, accept)


def sources(service: Service, name: str) -> Sources:
    """What this worker counts and what its engine counts, whose processes others may ask as well."""
    found = {f"worker-{name}": {**service.figures.samples(), **_server(service), **process_figures(os.getpid())}}
    for statistics in service.engine.statistics_of_each():
        for process in map(int, statistics.processes):
            own = process == os.getpid()
            found[f"engine-{name if own else process}"] = {
                **engine_figures(statistics),
                **({} if own else process_figures(process)),
            }
    return found


def engine_figures(statistics: engine.EngineStatistics) -> Samples:
    """An engine's statistics as samples."""
    lanes = statistics.lanes.items()
    found: dict[str, dict[Labels, Value]] = {
        f"glasshouse_engine_{part}": {(lane,): getattr(figures, part) for lane, figures in lanes}
        for part in (
            *("queued_items", "queued_requests", "batch_items", "queue_seconds", "run_seconds"),
            *("rejected", "expired", "cancelled"),
        )
    }
    return {
        **found,
        "glasshouse_engine_runs_in_progress": {(): statistics.running},
        "glasshouse_engine_sessions": {(): len(statistics.sessions)},
        "glasshouse_engine_device_memory_bytes": {(name,): used for name, used in statistics.device_memory.items()},
    }


def _server(service: Service) -> Samples:
    info = service.engine.info()
    build = (VERSION, platform.python_version(), info.runtime, info.version, " ".join(info.providers))
    found: dict[str, dict[Labels, Value]] = {
        "glasshouse_model": {
            (version.name, str(version.version), version.digest): 1 for version in service.models.in_use()
        },
        "glasshouse_build": {build: 1},
        "glasshouse_workers": {(): 1},
    }
    results = service.results.statistics()
    return {**found, **{metric: {(): getattr(results, part)} for part, metric in RESULTS.items()}}


def process_figures(process: int) -> Samples:
    """Memory, time and descriptors of a process as the client library reads them; nothing if it is gone."""
    from prometheus_client import ProcessCollector

    families = ProcessCollector(pid=lambda: process, registry=None).collect()
    found: dict[str, dict[Labels, Value]] = {
        family.name: {(): sample.value} for family in families for sample in family.samples
    }
    return {name: found[name] for name in METRICS if name in found}
