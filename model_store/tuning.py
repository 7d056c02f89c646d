"""How a version is best run on the machine that serves it: measured beside it, renewed without a new version.

A tuning is no part of the manifest: it says nothing of what the model is, and another machine has another one. It is
JSON of the fields below; a field that is null leaves the choice to the server.
"""

from __future__ import annotations

import math

import msgspec
import rfc8785

from .errors import InvalidTuning

SCHEMA_VERSION = 1


class Point(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One setting that was measured: `instances` runs at a time of `batch` items with `threads` threads each.

    `milliseconds` is the median time of one run, and `items_per_second` what all of them together come to at that.
    """

    threads: int
    instances: int
    batch: int
    milliseconds: float
    items_per_second: float


class Measured(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where and when the figures come from; `at` is an RFC 3339 time."""

    machine: str
    cores: int
    runtime: str
    at: str
    table: list[Point] = []


class Tuning(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The choice.

    `max_batch`: most items in one run; `max_wait_ms`: how long a run waits for company; `instances`: most runs at a
    time; `threads`: of one run; `deadline_seconds`: after which an unanswered request is given up; `run_rows`: most
    evaluations of the model in one run of an explanation.
    """

    schema_version: int = SCHEMA_VERSION
    max_batch: int | None = None
    max_wait_ms: float | None = None
    instances: int | None = None
    threads: int | None = None
    deadline_seconds: float | None = None
    run_rows: int | None = None
    measured: Measured | None = None

    @property
    def told(self) -> str:
        """The choice in words."""
        words = {
            "threads": self.threads,
            "runs at a time": self.instances,
            "items in a run": self.max_batch,
            "ms of waiting for company": self.max_wait_ms,
            "evaluations in a run of an explanation": self.run_rows,
            "seconds until a request is given up": self.deadline_seconds,
        }
        return (
            ", ".join(f"{value:g} {name}" for name, value in words.items() if value is not None) or "as the server is"
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Tuning:
        """Read and validate JSON text in UTF-8. Raises InvalidTuning naming the first field that is wrong."""
        try:
            return msgspec.json.decode(data, type=cls).validated()
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidTuning(f"is not readable: {error}") from None

    def to_bytes(self) -> bytes:
        """Validate, then write RFC 8785 canonical JSON."""
        return rfc8785.dumps(msgspec.to_builtins(self.validated()))

    def validated(self) -> Tuning:
        """The same, its types and bounds checked. Raises InvalidTuning."""
        try:
            tuning = msgspec.convert(msgspec.to_builtins(self), type=Tuning)
        except msgspec.ValidationError as error:
            raise InvalidTuning(str(error)) from None
        if tuning.schema_version != SCHEMA_VERSION:
            raise InvalidTuning(f"schema_version: got {tuning.schema_version}, expected {SCHEMA_VERSION}")
        for name in ("max_batch", "instances", "threads", "run_rows"):
            value = getattr(tuning, name)
            if value is not None and value < 1:
                raise InvalidTuning(f"{name}: got {value}, expected 1 or more")
        wait, deadline = tuning.max_wait_ms, tuning.deadline_seconds
        if wait is not None and not 0 <= wait < math.inf:
            raise InvalidTuning(f"max_wait_ms: got {wait}, expected 0 or more")
        if deadline is not None and not 0 < deadline < math.inf:
            raise InvalidTuning(f"deadline_seconds: got {deadline}, expected more than 0")
        return tuning
