"""Settings come from file, environment and flags, the later wins; what is not understood is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from server import SETTINGS, Config, ConfigError, configuration_page, load_config, shown

ROOT = Path(__file__).resolve().parents[2]


def test_nothing_given_is_all_defaults() -> None:
    config = load_config(environment={})
    assert config == Config()
    assert set(config.origins.values()) == {"default"}
    assert config.host == "127.0.0.1"


def test_file_then_environment_then_flag(tmp_path: Path) -> None:
    file = tmp_path / "glasshouse.toml"
    file.write_text('port = 1\nmax_rows = 2\nrequired_models = ["a", "b"]\nmax_wait_ms = 3\n')
    config = load_config(
        file, {"GLASSHOUSE_PORT": "4", "GLASSHOUSE_MAX_ROWS": "5", "PORT": "6"}, {"port": 7, "host": None}
    )
    assert (config.port, config.max_rows, config.max_wait_ms, config.required_models) == (7, 5, 3.0, ("a", "b"))
    assert config.origins["port"] == "flag --port"
    assert config.origins["max_rows"] == "environment GLASSHOUSE_MAX_ROWS"
    assert config.origins["max_wait_ms"] == f"file {file}"
    assert config.origins["host"] == "default"


def test_the_environment_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "g.toml"
    file.write_text("port = 81\n")
    assert load_config(environment={"GLASSHOUSE_CONFIG": str(file)}).port == 81


@pytest.mark.parametrize(
    ("environment", "flags", "said"),
    [
        ({"GLASSHOUSE_PROT": "1"}, {}, "GLASSHOUSE_PROT"),
        ({"GLASSHOUSE_PORT": "eighty"}, {}, "port from environment GLASSHOUSE_PORT: got 'eighty'"),
        ({"GLASSHOUSE_PORT": "0"}, {}, "from 1 to 65535"),
        ({"GLASSHOUSE_PORT": "9" * 5000}, {}, "a whole number"),
        ({"GLASSHOUSE_MAX_WAIT_MS": "nan"}, {}, "max_wait_ms"),
        ({"GLASSHOUSE_AUDIT": "maybe"}, {}, "one of required, off"),
        ({"GLASSHOUSE_STORE": " "}, {}, "a path"),
        ({}, {"nope": 1}, "'nope'"),
        ({}, {"port": True}, "flag --port"),
    ],
)
def test_what_is_not_understood_is_refused(environment: dict[str, str], flags: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_config(None, environment, flags)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [("prot = 1", "'prot'"), ("port = ", "not valid TOML"), ('port = "x"', "port"), ("port = true", "port")],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "g.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as refused:
        load_config(file, {})
    assert said in str(refused.value)
    with pytest.raises(ConfigError, match=r"nothing\.toml"):
        load_config(tmp_path / "nothing.toml", {})


def test_every_default_is_valid_and_written_as_it_is_read() -> None:
    for setting in SETTINGS:
        assert setting.help.endswith(".")
        if shown(setting.default):
            assert setting.parse(shown(setting.default), "test") == setting.default


def test_the_page_of_the_manual_is_up_to_date() -> None:
    assert (ROOT / "docs" / "configuration.md").read_text() == configuration_page()
