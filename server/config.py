"""The settings of a Glasshouse server: one table, and the three places a value may come from.

Each setting is one field of :class:`Config`: its name, type, default, bounds and help are data that
``glasshouse config``, ``docs/configuration.md`` and the checks below all read. A value is looked up in a
TOML file, then in the environment (``GLASSHOUSE_<NAME>``), then in the command's flags; the last one wins, and
:attr:`Config.origins` remembers which it was. A name or value that is not understood is refused, never ignored.
"""

from __future__ import annotations

import dataclasses
import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import ConfigError

ENVIRONMENT_PREFIX = "GLASSHOUSE_"
CONFIG_VARIABLE = "GLASSHOUSE_CONFIG"
# Variables with our prefix that belong to other commands; everything else with the prefix must be a setting.
OTHER_VARIABLES = frozenset({"CACHE", "CONFIG", "DATA", "REQUIRE_ALL"})
DEFAULT_STORE = Path("var/store")
DEFAULT_DATABASE = Path("var/decisions.sqlite")
TRUE_WORDS = frozenset({"1", "true", "yes", "on"})
FALSE_WORDS = frozenset({"0", "false", "no", "off"})


@dataclass(frozen=True)
class Setting:
    """One row of the table. ``kind`` is "text", "path", "integer", "number", "switch" or "list"."""

    name: str
    kind: str
    default: Any
    help: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return ENVIRONMENT_PREFIX + self.name.upper()

    @property
    def flag(self) -> str:
        """The command-line flag that sets it."""
        return "--" + self.name.replace("_", "-")

    @property
    def expected(self) -> str:
        """What a value must be, in words."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        words = {
            "text": "text",
            "path": "a path",
            "integer": "a whole number",
            "number": "a number",
            "switch": "true or false",
            "list": "a list of names",
        }[self.kind]
        if self.minimum is not None and self.maximum is not None:
            return f"{words} from {self.minimum:g} to {self.maximum:g}"
        if self.minimum is not None:
            return f"{words}, at least {self.minimum:g}"
        return words

    def parse(self, value: Any, origin: str) -> Any:
        """The value as its type, from TOML or text.

        Raises:
            ConfigError: the value is not what this setting takes.
        """
        parsed = _PARSERS[self.kind](value)
        if parsed is None or not self._within(parsed):
            raise ConfigError(f"setting {self.name} from {origin}: got {value!r}, expected {self.expected}")
        return parsed

    def _within(self, value: Any) -> bool:
        if self.choices and value not in self.choices:
            return False
        if self.minimum is not None and value < self.minimum:
            return False
        return self.maximum is None or value <= self.maximum


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value.strip() else None


def _path(value: Any) -> Path | None:
    return Path(value).expanduser() if isinstance(value, (str, Path)) and str(value).strip() else None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _integer(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return None
    try:
        return int(value)
    except ValueError:
        return None


def _switch(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    word = value.strip().lower() if isinstance(value, str) else ""
    return True if word in TRUE_WORDS else False if word in FALSE_WORDS else None


def _names(value: Any) -> tuple[str, ...] | None:
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, (list, tuple)) or not all(isinstance(part, str) for part in parts):
        return None
    return tuple(part.strip() for part in parts if part.strip())


_PARSERS = {
    "text": _text,
    "path": _path,
    "integer": _integer,
    "number": _number,
    "switch": _switch,
    "list": _names,
}


def _setting(kind: str, default: Any, help_text: str, **limits: Any) -> Any:
    return field(default=default, metadata={"kind": kind, "help": help_text, **limits})


@dataclass(frozen=True)
class Config:
    """A complete, checked set of settings; each field is documented by its entry in the table."""

    host: str = _setting("text", "127.0.0.1", "Address to listen on; 0.0.0.0 for all interfaces.")
    port: int = _setting("integer", 8000, "Port to listen on.", minimum=1, maximum=65535)
    store: Path = _setting("path", DEFAULT_STORE, "Folder of the model store.")  # noqa: RUF009 # makes a field
    database: Path = _setting("path", DEFAULT_DATABASE, "File of the decision records.")  # noqa: RUF009 # makes a field
    audit: str = _setting(
        "text",
        "required",
        "Whether every answer is recorded as a decision before it leaves: required (an answer that cannot be "
        "recorded is not given) or off.",
        choices=("required", "off"),
    )
    required_models: tuple[str, ...] = _setting(
        "list",
        (),
        "Models that must be loaded before the server says it is ready; empty means every model in the store.",
    )
    example: str = _setting("text", "", "Model whose example the start-up message uses; empty means the first one.")
    workers: int = _setting(
        "integer", 1, "Worker processes; each has its own sessions and batcher.", minimum=1, maximum=64
    )
    request_threads: int = _setting(
        "integer", 64, "Requests one worker handles at the same time.", minimum=1, maximum=1024
    )
    threads: int = _setting("integer", 0, "Threads of one model run; 0 means one per core.", minimum=0, maximum=1024)
    model_cache: int = _setting("integer", 32, "Models kept loaded; the least recently used leaves.", minimum=1)
    session_limit: int = _setting("integer", 64, "Sessions (models and compiled explanations) kept ready.", minimum=1)
    max_batch: int = _setting("integer", 64, "Items that may share one run.", minimum=1)
    max_wait_ms: float = _setting(
        "number", 0.0, "Milliseconds a prediction may wait for others to share its run.", minimum=0, maximum=10_000
    )
    queue_limit: int = _setting("integer", 1024, "Items that may wait for the engine; more are refused.", minimum=1)
    deadline_seconds: float = _setting(
        "number", 60.0, "Seconds after which an unanswered request is given up.", minimum=0.001, maximum=86_400
    )
    max_body_mib: int = _setting("integer", 64, "Largest request body in MiB.", minimum=1, maximum=4096)
    max_rows: int = _setting("integer", 4096, "Largest number of rows in one request.", minimum=1)
    max_explain_rows: int = _setting("integer", 64, "Largest number of rows in one explain request.", minimum=1)
    max_explain_evals: int = _setting(
        "integer", 100_000, "Largest number of evaluations an explain request may ask for per row.", minimum=1
    )
    max_image_pixels: int = _setting("integer", 16_777_216, "Largest image in pixels.", minimum=1)
    log_level: str = _setting(
        "text", "info", "Least important kind of log line written.", choices=("debug", "info", "warning", "error")
    )
    origins: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def max_body_bytes(self) -> int:
        """Largest request body in bytes."""
        return self.max_body_mib * 1024 * 1024


SETTINGS: tuple[Setting, ...] = tuple(
    Setting(name=entry.name, default=entry.default, **dict(entry.metadata))
    for entry in dataclasses.fields(Config)
    if entry.metadata
)
_BY_NAME = {setting.name: setting for setting in SETTINGS}


def load_config(
    file: str | Path | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> Config:
    """Settings from a TOML file, the environment and flags; later ones win.

    Args:
        file: path of the TOML file; None takes ``GLASSHOUSE_CONFIG``, and no file if that is not set.
        environment: the environment to read; None is that of the process.
        flags: values by setting name; None values mean the flag was not given.

    Raises:
        ConfigError: a file that cannot be read, or a name or value that is not understood.
    """
    environment = os.environ if environment is None else environment
    path = file or environment.get(CONFIG_VARIABLE) or None
    values: dict[str, Any] = {}
    origins = {setting.name: "default" for setting in SETTINGS}
    layers = [_from_file(Path(path))] if path else []
    layers += [_from_environment(environment), _from_flags(flags or {})]
    for layer in layers:
        for name, (value, origin) in layer.items():
            values[name] = _BY_NAME[name].parse(value, origin)
            origins[name] = origin
    return Config(**values, origins=origins)


def _from_file(path: Path) -> dict[str, tuple[Any, str]]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"configuration file {path}: {error.strerror or 'cannot be read'}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"configuration file {path} is not valid TOML: {error}") from error
    for name in content:
        if name not in _BY_NAME:
            raise ConfigError(f"configuration file {path}: unknown setting {name!r}; known are {_known()}")
    return {name: (value, f"file {path}") for name, value in content.items()}


def _from_environment(environment: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    found: dict[str, tuple[Any, str]] = {}
    for variable, value in environment.items():
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable[len(ENVIRONMENT_PREFIX) :] in OTHER_VARIABLES:
            continue
        name = variable[len(ENVIRONMENT_PREFIX) :].lower()
        if name not in _BY_NAME:
            raise ConfigError(f"environment variable {variable}: unknown setting {name!r}; known are {_known()}")
        found[name] = (value, f"environment {variable}")
    return found


def _from_flags(flags: Mapping[str, Any]) -> dict[str, tuple[Any, str]]:
    for name in flags:
        if name not in _BY_NAME:
            raise ConfigError(f"unknown setting {name!r}; known are {_known()}")
    return {name: (value, f"flag {_BY_NAME[name].flag}") for name, value in flags.items() if value is not None}


def _known() -> str:
    return ", ".join(setting.name for setting in SETTINGS)


def shown(value: Any) -> str:
    """A setting's value as it would be written in the environment."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value)


def configuration_table() -> str:
    """The Markdown table of all settings that ``docs/configuration.md`` holds."""
    rows = ["| Setting | Flag | Environment | Default | Takes | Meaning |", "|---|---|---|---|---|---|"]
    for setting in SETTINGS:
        default = shown(setting.default) or "(empty)"
        rows.append(
            f"| `{setting.name}` | `{setting.flag}` | `{setting.variable}` | `{default}` "
            f"| {setting.expected} | {setting.help} |"
        )
    return "\n".join(rows) + "\n"


def configuration_page() -> str:
    """The whole of ``docs/configuration.md``."""
    return CONFIGURATION_INTRODUCTION + "\n" + configuration_table()


CONFIGURATION_INTRODUCTION = """# Configuration

Every setting has one name and may be given in three places; the later one wins:

1. a TOML file, named by `--config` or by the environment variable `GLASSHOUSE_CONFIG`, one `name = value` a line;
2. the environment, as `GLASSHOUSE_` and the name in capitals;
3. a flag of `glasshouse serve`.

A name or value that is not understood is refused when the server starts. `glasshouse config` shows each value and
where it came from.
"""
