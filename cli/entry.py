"""The command's front: which commands there are, and how every one of them ends.

A command is a click command in a file of `commands/`, found by name in `COMMANDS` and imported when it is asked for. It
returns when it is done and raises when it is not; errors end here, in one line on standard error and an exit code.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NoReturn

import click

from .errors import BAD_INPUT, INTERRUPTED, OUR_FAULT, exit_code
from .rooms import check_rooms

# name -> (module of commands/, what it does)
COMMANDS: Mapping[str, tuple[str, str]] = {
    "train": ("train", "Train a recipe, export it, certify it and put it into the store."),
    "import": ("import_onnx", "Put any ONNX model into the store."),
    "models": ("models", "List, show, alias, archive, collect and verify the models of the store."),
    "verify": ("verify", "Measure a model and its explanations against independent judges: the certificate."),
    "tune": ("tune", "Measure how a stored model runs best on this machine, and serve it so."),
    "serve": ("serve", "Serve the models of the store over HTTP."),
    "predict": ("predict", "Predict a row or an image."),
    "explain": ("explain", "Explain a prediction, as figures or as a picture."),
    "evaluate": ("evaluate", "Say how far explanations of a model can be trusted, over rows of data."),
    "config": ("config", "Show every setting, its value and where it came from."),
    "coverage": ("coverage", "Say what of an ONNX model can be explained, and what stands in the way."),
    "compile": ("compile", "Compile an explanation program of a model to an ONNX file."),
    "examples": ("examples", "Train and register the example models that the store does not have yet."),
}
EPILOG = (
    "Exit codes: 0 done, 1 failed, 2 bad usage or input, 3 not found, 4 refused, 5 not available now, "
    "70 a fault of ours, 130 interrupted."
)


class Front(click.Group):
    """Finds commands by name without importing the others, and turns every error into an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The commands in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """The command of this name, imported now."""
        if cmd_name not in COMMANDS:
            return None
        check_rooms()
        found = importlib.import_module(f".commands.{COMMANDS[cmd_name][0]}", __package__).command
        assert isinstance(found, click.Command)  # noqa: S101 - the type of a name found at run time
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """The table, without importing a command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, what) for name, (_, what) in COMMANDS.items()])

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,  # noqa: ARG002 - click's signature; this command always ends the process
        **extra: Any,
    ) -> NoReturn:
        """Run and exit. The one place where errors become exit codes."""
        arguments = sys.argv[1:] if args is None else list(args)
        try:
            result = super().main(arguments, prog_name or "glasshouse", complete_var, standalone_mode=False, **extra)
        except Exception as error:
            # Before the subcommand's name is read, click's own parsing of --debug may not have happened.
            ended(error, debug="--debug" in arguments)
        sys.exit(result if isinstance(result, int) else 0)


def ended(error: Exception, *, debug: bool) -> NoReturn:
    """Say what went wrong in one line, and exit with the code of its kind."""
    if isinstance(error, click.ClickException):
        error.show()
        sys.exit(BAD_INPUT if isinstance(error, click.UsageError) else error.exit_code)
    if isinstance(error, click.Abort):
        click.echo("interrupted", err=True)
        sys.exit(INTERRUPTED)
    code = exit_code(error)
    if debug:
        traceback.print_exception(error)
    text = " ".join(str(error).split())
    if code is None and isinstance(error, BrokenPipeError):
        sys.exit(0)
    if code is None and isinstance(error, OSError):
        code = BAD_INPUT
    if code is None:
        code = OUR_FAULT
        text = f"{type(error).__name__}: {text} (a fault of Glasshouse; --debug shows where)"
    if text:
        click.echo(f"Error: {printable(text)}", err=True)
    sys.exit(code)


def printable(text: str) -> str:
    """Text that cannot move the cursor or colour the terminal."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def _version() -> str:
    try:
        return version("glasshouse")
    except PackageNotFoundError:
        return "not installed"


@click.command("glasshouse", cls=Front, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(_version(), prog_name="glasshouse")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def front(debug: bool) -> None:
    """Serve ONNX models, and show the working of every answer."""


def main() -> NoReturn:
    """The `glasshouse` command."""
    front.main()
