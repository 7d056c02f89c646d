"""Where sockets lie: their addresses are short, whatever the folder of temporary files is called."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

import numpy as np
import psutil
import pytest

import engine
from engine.place import LONGEST_PLACE


@pytest.fixture
def temporary(monkeypatch, tmp_path_factory):
    """Sets the folder of temporary files to one with a path of so many bytes."""

    def take(length):
        root = tmp_path_factory.mktemp("t")
        short = length - len(os.fsencode(root)) - 1
        assert short > 0, "the folder of this test is too long itself"
        folder = root / ("d" * short)
        folder.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        return str(folder)

    return take


@pytest.mark.parametrize("length", [LONGEST_PLACE, LONGEST_PLACE + 1, 100, 200])
def test_the_place_is_the_usual_one_unless_its_path_is_too_long(monkeypatch, length):
    usual = "/" + "ä" * ((length - 1) // 2) + "x" * ((length - 1) % 2)
    assert len(os.fsencode(usual)) == length
    monkeypatch.setattr(tempfile, "tempdir", usual)
    assert engine.place_for_sockets() == (usual if length <= LONGEST_PLACE else "/tmp")


def test_where_nothing_is_short_enough_the_error_says_what_to_set(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/" + "d" * 90)
    monkeypatch.setattr("engine.place.ANYWHERE", "/nowhere")
    with pytest.raises(engine.InvalidSettings, match=r"TMPDIR: came /d+ \(91 bytes\), expected .* at most 61"):
        engine.place_for_sockets()


def test_the_longest_names_of_sockets_fit(monkeypatch, tmp_path):
    """In a folder in the longest place: those of engines and of workers, with the longest number of a process."""
    folder = "d" * (LONGEST_PLACE + len("/glasshouse-12345678"))
    workers = f"{2**22}-{os.urandom(4).hex()}.sock"
    names = [engine.Place(folder, 99).address(talk).rpartition("/")[2] for talk in ("predict", "explain", "control")]
    assert all(len(f"{folder}/{name}") <= 103 for name in (*names, workers))
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as one, pytest.raises(OSError, match="too long"):
        one.bind("d" * 109)


def test_engine_processes_start_in_a_folder_whose_path_is_long(temporary, models):
    long = temporary(150)
    processes = engine.EngineProcesses([engine.EngineSettings(threads=1)], {"predict": 2, "explain": 1})
    remote = engine.RemoteEngine(processes.places)
    x = np.ones((1, 3), np.float32)
    np.testing.assert_allclose(remote.run(models.affine(), {"x": x}).outputs["y"], models.affine_formula(x), atol=2e-6)
    assert list(Path(long).iterdir()) == []
    (process,) = map(int, remote.statistics().processes)
    remote.close()
    processes.close()
    assert not psutil.pid_exists(process)
    assert not Path(processes.places[0].folder).exists()
