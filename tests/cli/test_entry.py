"""The front: what it imports, how commands are found, and how every one of them ends."""

from __future__ import annotations

import importlib
import subprocess
import sys

import click
import pytest

from cli import errors
from cli.entry import COMMANDS, ended, front, printable
from cli.rooms import PARENT

ROOM_NAMES = tuple(errors.EXIT_CODES)


def test_help_names_every_command_and_imports_no_room():
    heavy = {*ROOM_NAMES, "numpy", "onnx", "flask", "rich"}
    code = f"import sys; from cli import main\ntry: main()\nfinally: print(sorted(set(sys.modules) & {heavy}))"
    done = subprocess.run(
        [sys.executable, "-c", code, "--help"], cwd=PARENT, capture_output=True, text=True, timeout=60, check=True
    )
    for name in COMMANDS:
        assert f"  {name} " in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_file_and_its_help(glasshouse, name):
    module = importlib.import_module(f"cli.commands.{COMMANDS[name][0]}")
    assert module.command.name == name
    done = glasshouse(name, "--help")
    assert done.exit_code == 0
    assert f"glasshouse {name}" in done.output


def test_an_unknown_command_is_bad_usage(glasshouse):
    done = glasshouse("modles")
    assert done.exit_code == 2
    assert "No such command 'modles'" in done.output


def test_version_is_told(glasshouse):
    assert glasshouse("--version").output.startswith("glasshouse, version ")


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (errors.BadInput("no\n good"), 2, "Error: no good"),
        (errors.ProblemsFound("3 problems"), 1, "Error: 3 problems"),
        (errors.Unreachable("gone"), 5, "Error: gone"),
        (errors.ServerRefused(404, "who?"), 3, "Error: who?"),
        (FileNotFoundError(2, "No such file", "x"), 2, "Error: [Errno 2] No such file: 'x'"),
        (ZeroDivisionError("by zero"), 70, "Error: ZeroDivisionError: by zero (a fault of Glasshouse; --debug shows"),
        (click.Abort(), 130, "interrupted"),
    ],
)
def test_errors_end_in_one_line_and_a_code(capsys, error, code, text):
    with pytest.raises(SystemExit) as caught:
        ended(error, debug=False)
    assert caught.value.code == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(text)
    assert err.count("\n") == 1


def test_a_reader_that_left_is_no_error(capsys):
    with pytest.raises(SystemExit) as caught:
        ended(BrokenPipeError(32, "Broken pipe"), debug=False)
    assert caught.value.code == 0
    assert capsys.readouterr().err == ""


def test_debug_shows_the_traceback(glasshouse, home):
    quiet, loud = glasshouse("models", "list"), glasshouse("--debug", "models", "list")
    assert quiet.exit_code == loud.exit_code == 5
    assert "Traceback" not in quiet.output
    assert "StoreUnavailable" in loud.output
    assert quiet.output == f"Error: there is no store in {home / 'var' / 'store'}\n"


def test_text_from_outside_cannot_move_the_cursor():
    assert printable("a\x1b[2Jb\rc") == "a�[2Jb�c"
    assert printable("größer – ok") == "größer – ok"


def test_the_front_always_ends_the_process():
    with pytest.raises(SystemExit) as caught:
        front.main(["--version"])
    assert caught.value.code == 0
