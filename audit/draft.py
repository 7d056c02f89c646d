"""What the server hands over to be recorded: one draft per request, one row draft per decision."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import numpy as np

Status = Literal["ok", "invalid_output"]


@dataclass(frozen=True, kw_only=True)
class RowDraft:
    """One decision: what came, what the model answered and why.

    inputs, outputs: the row's arrays by name, any shape; booleans, integers, floats or strings.
    received, received_type: the exact bytes the client sent for this row and their media type, where they are known.
    explanation: a JSON-able summary with at least `method`; NaN and infinity are refused here, arrays carry them.
    attributions: the explanation's arrays by input name; explanation_tensors: its further arrays (errors, baselines).
    """

    inputs: Mapping[str, np.ndarray[Any, Any]]
    outputs: Mapping[str, np.ndarray[Any, Any]]
    received: bytes | None = None
    received_type: str | None = None
    explanation: Mapping[str, Any] | None = None
    attributions: Mapping[str, np.ndarray[Any, Any]] | None = None
    explanation_tensors: Mapping[str, np.ndarray[Any, Any]] | None = None
    status: Status = "ok"
    note: str | None = None


@dataclass(frozen=True, kw_only=True)
class DecisionDraft:
    """One request: what all its rows share.

    model: `name`, `version`, `digest` (of the manifest), `model_digest` (of the served file) and `certificate_digest`
        (null without one), hex SHA-256.
    received_at: an aware datetime; received_ns: time.monotonic_ns() of the same moment, for the duration.
    runtime: JSON-able facts on what ran the model (server_version, image, engine, engine_version, providers, threads,
        cpu, runs).
    """

    model: Mapping[str, Any]
    route: str
    principal: str | None
    received_at: datetime
    rows: list[RowDraft]
    runtime: Mapping[str, Any]
    request_id: str | None = None
    received_ns: int = field(default_factory=time.monotonic_ns)
