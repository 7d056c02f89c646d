"""The settings of a Glasshouse server: one table, and the three places a value may come from.

Each setting is one field of :class:`Config`: its name, type, default, bounds and help are data that
``glasshouse config``, ``docs/configuration.md`` and the checks below all read. A value is looked up in a
TOML file, then in the environment (``GLASSHOUSE_<NAME>``), then in the command's flags; the last one wins, and
:attr:`Config.origins` remembers which it was. A name or value that is not understood is refused, never ignored.
"""

from __future__ import annotations

import dataclasses
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import ConfigError
from .setting import ENVIRONMENT_PREFIX, Setting

CONFIG_VARIABLE = "GLASSHOUSE_CONFIG"
# Variables with our prefix that belong to other commands; everything else with the prefix must be a setting.
OTHER_VARIABLES = frozenset({"CACHE", "CONFIG", "DATA", "REQUIRE_ALL"})
DEFAULT_STORE = Path("var/store")
DEFAULT_DATABASE = Path("var/decisions.sqlite")


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
    require_certificate: bool = _setting(
        "switch", False, "Whether only models are served whose latest certificate (glasshouse verify) has passed."
    )
    example: str = _setting("text", "", "Model whose example the start-up message uses; empty means the first one.")
    workers: int = _setting("integer", 1, "Worker processes that speak HTTP.", minimum=1, maximum=64)
    devices: tuple[str, ...] = _setting(
        "list",
        ("cpu",),
        "Devices that models run on: cpu, cuda:0, cuda:1; of several, each has an engine process of its own.",
    )
    engine: str = _setting(
        "text",
        "auto",
        "Where models run: inside (in each HTTP worker, with its own sessions and batcher), process (one engine "
        "process for each device, shared by all workers) or auto (inside when there is one worker and one device).",
        choices=("auto", "inside", "process"),
    )
    request_threads: int = _setting(
        "integer", 64, "Requests one worker answers at the same time.", minimum=1, maximum=1024
    )
    explain_threads: int = _setting(
        "integer",
        0,
        "Explanations one worker computes at the same time, more are refused; 0 means half of request_threads.",
        minimum=0,
        maximum=1024,
    )
    waiting_requests: int = _setting(
        "integer", 256, "Requests that may wait for a thread of one worker; more are refused.", minimum=0
    )
    connections: int = _setting(
        "integer", 8192, "Connections one worker keeps open; more wait to be accepted.", minimum=1, maximum=1_000_000
    )
    body_seconds: float = _setting(
        "number", 20.0, "Seconds in which a request's body must arrive.", minimum=0.001, maximum=86_400
    )
    threads: int = _setting("integer", 0, "Threads of one model run; 0 means one per core.", minimum=0, maximum=1024)
    model_cache: int = _setting("integer", 32, "Models kept loaded; the least recently used leaves.", minimum=1)
    load_seconds: float = _setting(
        "number",
        120.0,
        "Seconds that loading a version may take before it counts as failed; another one goes on answering meanwhile.",
        minimum=0.001,
        maximum=86_400,
    )
    session_limit: int = _setting("integer", 64, "Sessions (models and compiled explanations) kept ready.", minimum=1)
    cache_mib: int = _setting(
        "integer",
        64,
        "Explanations kept by each worker, in MiB, to answer an equal request without a run; 0 keeps none.",
        minimum=0,
        maximum=65_536,
    )
    max_batch: int = _setting("integer", 64, "Items that may share one run.", minimum=1)
    max_wait_ms: float = _setting(
        "number", 0.0, "Milliseconds a prediction may wait for others to share its run.", minimum=0, maximum=10_000
    )
    queue_limit: int = _setting("integer", 1024, "Items that may wait for the engine; more are refused.", minimum=1)
    queue_seconds: float = _setting(
        "number",
        0.5,
        "Seconds that a prediction may have to wait, judged by how many are under way and how fast they are answered; "
        "beyond that it is refused, if 32 are under way already.",
        minimum=0,
        maximum=86_400,
    )
    explain_quantum_ms: float = _setting(
        "number",
        0.0,
        "Milliseconds a run may take that several explanations share, and so a prediction waits behind one; 0 means 50 "
        "on a CPU and 20 on a GPU.",
        minimum=0,
        maximum=10_000,
    )
    explain_share: float = _setting(
        "number",
        0.1,
        "Part of the engine's time that explanations get even when predictions always wait.",
        minimum=0,
        maximum=0.9,
    )
    precision: str = _setting(
        "text",
        "auto",
        "Which file is run of a version that has a float16 variant: float16 (the variant), float32 (its own file) or "
        "auto (the variant where a GPU runs it). Versions without a variant are run from their own file.",
        choices=("auto", "float32", "float16"),
    )
    arena_mib: int = _setting("integer", 0, "Most MiB of a GPU that a session takes; 0 means no limit.", minimum=0)
    shape_buckets: str = _setting(
        "text",
        "auto",
        "Whether runs are filled up to 1, 2, 4, 8, … items; auto: on a GPU.",
        choices=("auto", "on", "off"),
    )
    io_binding: str = _setting(
        "text",
        "auto",
        "Whether inputs reach a device through buffers that are kept; auto: on a GPU.",
        choices=("auto", "on", "off"),
    )
    cuda_graphs: bool = _setting("switch", False, "Whether runs on a GPU are recorded and replayed, where they can be.")
    tf32: bool = _setting("switch", False, "Whether a GPU may compute in TF32: faster, and exact to 3 digits only.")
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
    image: str = _setting(
        "text",
        "",
        "Container image the server runs from, such as name@sha256:...; kept in every decision, because a container "
        "cannot know it by itself.",
    )
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
