"""A fresh migrated log for each test, and drafts with every kind of content."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

import audit

REPOSITORY = Path(__file__).parents[2]


def make_row(**changes: Any) -> audit.RowDraft:
    fields: dict[str, Any] = {
        "inputs": {
            "x": np.linspace(-1, 1, 6, dtype=np.float32).reshape(1, 2, 3),
            "words": np.array(["né", ""], object),
        },
        "outputs": {"logits": np.array([0.25, -3.5], np.float64)},
        "received": b"[1, 2, 3]\x00\xff",
        "received_type": "application/json",
        "explanation": {
            "method": "integrated_gradients",
            "parameters": {"steps": 32, "rule": "gauss"},
            "seed": 0,
            "target": {"index": [[1]], "weight": [1.0]},
            "base_value": -0.125,
            "explained_value": -3.5,
            "units": "logit",
            "quality": {"completeness_gap": 1e-7, "evaluations": 32},
            "program_digest": "c" * 64,
            "background_digest": None,
        },
        "attributions": {"x": np.arange(6, dtype=np.float32).reshape(1, 2, 3)},
        "explanation_tensors": {"standard_error": np.zeros((1, 6))},
    }
    return audit.RowDraft(**(fields | changes))


def make_draft(rows: int | list[audit.RowDraft] = 1, **changes: Any) -> audit.DecisionDraft:
    fields: dict[str, Any] = {
        "model": {"name": "tumour", "version": 3, "digest": "a" * 64, "model_digest": "b" * 64},
        "route": "POST /v1/models/tumour:explain",
        "principal": "risk-desk",
        "received_at": datetime(2026, 3, 4, 5, 6, 7, 890, UTC),
        "rows": [make_row() for _ in range(rows)] if isinstance(rows, int) else rows,
        "runtime": {"server_version": "0.1.0", "engine": "onnxruntime", "engine_version": "1.31.1", "threads": 1},
        "request_id": "client-1",
    }
    return audit.DecisionDraft(**(fields | changes))


@pytest.fixture
def row() -> Callable[..., audit.RowDraft]:
    return make_row


@pytest.fixture
def draft() -> Callable[..., audit.DecisionDraft]:
    return make_draft


@pytest.fixture
def repository() -> Path:
    return REPOSITORY


@pytest.fixture
def database(tmp_path: Path) -> Iterator[sa.Engine]:
    engine = audit.open_database(tmp_path / "decisions.db")
    audit.migrate(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def log(database: sa.Engine) -> audit.AuditLog:
    return audit.AuditLog(database)
