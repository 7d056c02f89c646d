"""All rooms come from one parent, or the path that shadows is named."""

from __future__ import annotations

import pytest

from cli.errors import ShadowedRoom
from cli.rooms import PARENT, ROOMS, check_rooms


def test_the_rooms_are_the_rooms():
    found = {path.parent.name for path in PARENT.glob("*/__init__.py")}
    assert found == set(ROOMS)
    check_rooms()


def test_rooms_elsewhere_are_noticed(tmp_path):
    with pytest.raises(ShadowedRoom, match=r"the room 'audit' is shadowed by .*audit/__init__.py"):
        check_rooms(tmp_path)


def test_a_file_in_the_way_is_named(process, home):
    (home / "server.py").write_text("")
    done = process("models", "list")
    assert done.returncode == 1
    assert f"the room 'server' is shadowed by {home / 'server.py'}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_package_in_the_way_is_named(process, home):
    (home / "audit").mkdir()
    (home / "audit" / "__init__.py").write_text("raise SystemExit('it was imported')")
    done = process("config")
    assert done.returncode == 1
    assert f"shadowed by {home / 'audit' / '__init__.py'}" in done.stderr


def test_a_folder_that_is_no_package_is_in_nobodys_way(process, home):
    (home / "training").mkdir()
    assert process("config").returncode == 0


def test_a_missing_room_is_named(monkeypatch):
    monkeypatch.setattr("cli.rooms.ROOMS", (*ROOMS, "no_such_room"))
    with pytest.raises(ShadowedRoom, match="the room 'no_such_room' is not installed beside the others"):
        check_rooms()
