"""What can go wrong when an artifact is run.

    EngineError
    ├── InvalidSettings    the engine was asked to be something it cannot be
    ├── InvalidFeeds       the arrays do not fit the artifact: says which, what came, what was expected
    ├── LoadFailed         the runtime refused the artifact
    ├── RunFailed          the runtime, or the artifact's own arithmetic, failed on these arrays
    │   └── OutOfMemory    there was no memory for them
    ├── QueueFull          too many items wait already; nothing was started
    ├── DeadlineExceeded   the deadline passed before the work was done
    ├── Cancelled          somebody cancelled the request
    ├── EngineLost         the engine's process died or cannot be reached
    └── EngineClosed       the engine is closed or was closed while the work waited

Errors of ONNX Runtime never leave this room: `sessions.py` translates them into `LoadFailed` and `RunFailed`.
"""

from __future__ import annotations


class EngineError(Exception):
    """Everything this room raises on purpose."""


class InvalidSettings(EngineError):
    """A setting of the engine is out of its range."""


class InvalidFeeds(EngineError):
    """`field` (an input's name) came as `came` where `expected` was expected."""

    def __init__(self, field: str, came: str, expected: str) -> None:
        super().__init__(f"input {field!r}: came {came}, expected {expected}")
        self.field = field
        self.came = came
        self.expected = expected


class LoadFailed(EngineError):
    """The artifact could not be turned into a session."""


class RunFailed(EngineError):
    """A run raised, or answered another number of rows than it was given items."""


class OutOfMemory(RunFailed):
    """There is no memory for the run."""


class QueueFull(EngineError):
    """The queue holds as many items as it may."""


class DeadlineExceeded(EngineError):
    """The deadline passed before the work was done; what had not been started never was."""


class Cancelled(EngineError):
    """The request was cancelled by its tag."""


class EngineLost(EngineError):
    """The process that does the work died, or is being started again; what it was doing is not known to be done."""


class EngineClosed(EngineError):
    """The engine takes no more work."""
