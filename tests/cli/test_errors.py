"""Every error a room raises on purpose has an exit code of its own meaning."""

from __future__ import annotations

import importlib

import pytest

from cli import errors


def raised_by(room):
    door = importlib.import_module(room)
    found = [getattr(door, name) for name in door.__all__]
    return [kind for kind in found if isinstance(kind, type) and issubclass(kind, Exception)]


def instance_of(kind):
    return kind.__new__(kind)


@pytest.mark.parametrize("room", errors.EXIT_CODES)
def test_every_error_behind_a_door_has_a_code(room):
    kinds = raised_by(room)
    assert kinds
    for kind in kinds:
        assert errors.exit_code(instance_of(kind)) in range(1, 6), kind


@pytest.mark.parametrize("room", errors.EXIT_CODES)
def test_every_name_in_the_table_is_behind_its_door(room):
    names = {kind.__name__ for kind in raised_by(room)}
    assert set(errors.EXIT_CODES[room]) <= names


def test_an_error_of_another_house_has_none():
    class NotFound(Exception):
        pass

    import model_store

    assert errors.exit_code(NotFound()) is None
    assert errors.exit_code(KeyError()) is None
    assert errors.exit_code(instance_of(model_store.UnknownModel)) == errors.NOT_FOUND


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, 2), (404, 3), (406, 2), (413, 2), (422, 4), (429, 5), (500, 1), (502, 5), (503, 5), (504, 5)],
)
def test_what_a_server_refuses_has_the_code_of_its_kind(status, code):
    assert errors.ServerRefused(status, "").exit_code == code
