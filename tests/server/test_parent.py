"""A child ends with its parent, however it learns of the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PARENT = """
import os, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", sys.argv[1], str(os.getpid())])
time.sleep(600)
"""
CHILD = """
import os, sys, time
from server import parent
{change}
parent.end_with(int(sys.argv[1]))
print("ready", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("change", ["", "parent._asked_kernel = lambda: False; parent.LOOK_SECONDS = 0.05"])
def test_the_child_of_a_killed_parent_ends(change: str) -> None:
    command = [sys.executable, "-c", PARENT, CHILD.format(change=change)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.kill()
    # The pipe closes when the child, too, is gone.
    assert process.stdout.read() == ""
    process.stdout.close()
    assert process.wait(60) == -signal.SIGKILL


def test_a_parent_that_is_gone_already_is_noticed() -> None:
    somebody_else = str(os.getppid())
    child = subprocess.run([sys.executable, "-c", CHILD.format(change=""), somebody_else], cwd=ROOT, timeout=60)
    assert child.returncode == -signal.SIGKILL
