"""A skip is a failure where everything is required, except for a GPU; shown by running pytest on three small tests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SAMPLE = """
import pytest
def test_tool(): pytest.skip("no browser")
def test_device(): pytest.skip("GPU: none here")
@pytest.mark.skipif(True, reason="no engine")
def test_marked(): ...
@pytest.mark.xfail(strict=True)
def test_expected(): assert False
"""


@pytest.mark.parametrize(
    ("required", "outcome"), [("1", "1 failed, 1 skipped, 1 xfailed, 1 error"), ("", "3 skipped, 1 xfailed")]
)
def test_skips(tmp_path: Path, required: str, outcome: str) -> None:
    (tmp_path / "conftest.py").write_text((Path(__file__).parent / "conftest.py").read_text())
    (tmp_path / "test_sample.py").write_text(SAMPLE)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path / "test_sample.py")]
    environment = os.environ | {"GLASSHOUSE_REQUIRE_ALL": required}
    run = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert outcome in run.stdout


def test_a_skipped_module_is_a_failure_too(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text((Path(__file__).parent / "conftest.py").read_text())
    (tmp_path / "test_module.py").write_text('import pytest\npytest.skip("no torch", allow_module_level=True)\n')
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    environment = os.environ | {"GLASSHOUSE_REQUIRE_ALL": "1"}
    run = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert run.returncode != 0
    assert "no torch" in run.stdout
