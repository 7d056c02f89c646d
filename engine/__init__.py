"""The engine: runs programs, and knows nothing of what they mean.

An artifact (a served model, a compiled explanation) and its arrays come in, its outputs go out. On the way, requests of
all threads for the same graph share runs, predictions go before explanations, the queue is bounded, expired work never
runs, and a request at fault fails alone. Only this room knows ONNX Runtime.
"""

from .counters import ArtifactStatistics, BatchDuration, Duration, EngineStatistics, Histogram, LaneStatistics, Spread
from .errors import (
    Cancelled,
    DeadlineExceeded,
    EngineClosed,
    EngineError,
    EngineLost,
    InvalidFeeds,
    InvalidSettings,
    LoadFailed,
    QueueFull,
    RunFailed,
)
from .in_process import InProcessEngine
from .place import Place, place_for_sockets
from .processes import EngineProcesses
from .protocol import Artifact, Engine, EngineInfo, Kind, Knobs, Lane, RunResult, StoredModel
from .remote import RemoteEngine
from .settings import CPU_QUANTUM_MS, GPU_QUANTUM_MS, EngineSettings

__all__ = [
    "CPU_QUANTUM_MS",
    "GPU_QUANTUM_MS",
    "Artifact",
    "ArtifactStatistics",
    "BatchDuration",
    "Cancelled",
    "DeadlineExceeded",
    "Duration",
    "Engine",
    "EngineClosed",
    "EngineError",
    "EngineInfo",
    "EngineLost",
    "EngineProcesses",
    "EngineSettings",
    "EngineStatistics",
    "Histogram",
    "InProcessEngine",
    "InvalidFeeds",
    "InvalidSettings",
    "Kind",
    "Knobs",
    "Lane",
    "LaneStatistics",
    "LoadFailed",
    "Place",
    "QueueFull",
    "RemoteEngine",
    "RunFailed",
    "RunResult",
    "Spread",
    "StoredModel",
    "place_for_sockets",
]
