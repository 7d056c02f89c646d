"""One thread, so that tests share a machine; and no data folder or cache but the ones a test makes."""

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)
REAL_DATA = os.environ.get("GLASSHOUSE_DATA", "")


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    monkeypatch.delenv("GLASSHOUSE_DATA", raising=False)
    monkeypatch.setenv("GLASSHOUSE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def real_data() -> Path:
    if not REAL_DATA:
        pytest.skip("GLASSHOUSE_DATA names no folder with german_credit.csv and pneumoniamnist.npz")
    return Path(REAL_DATA)
