"""The start-up message and the log lines."""

from __future__ import annotations

import dataclasses
import json
import logging
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from model_store import Store
from server import Config, banner, open_service
from server.logs import JsonLines, configure, log
from server.welcome import address


def test_its_commands_ask_for_a_prediction_an_explanation_and_a_picture(
    config: Config, open_client: Callable[[Config], FlaskClient]
) -> None:
    client = open_client(config)
    text = banner(config, client.application.extensions["glasshouse"])
    assert "http://127.0.0.1:8000/" in text.splitlines()[0]
    commands = [shlex.split(line) for line in text.splitlines() if line.startswith("curl")]
    assert len(commands) == 3
    for words in commands:
        path = words[-1].removeprefix("http://127.0.0.1:8000")
        headers = dict(words[at + 1].split(": ") for at, word in enumerate(words) if word == "-H")
        assert client.post(path, data=words[words.index("-d") + 1], headers=headers).status_code == 200


def test_an_empty_store_has_a_message_too(config: Config, tmp_path: Path) -> None:
    Store(tmp_path / "empty")
    service = open_service(dataclasses.replace(config, store=tmp_path / "empty"))
    assert "no model" in banner(config, service)
    assert service.models.missing() == {}
    service.close()


@pytest.mark.parametrize(
    ("host", "shown"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("::1", "[::1]"), ("box", "box")],
)
def test_the_address_can_be_opened(host: str, shown: str) -> None:
    assert address(Config(host=host, port=81)) == f"http://{shown}:81"


def line_of(message: str, **extra: object) -> str:
    record = logging.LogRecord("glasshouse", logging.INFO, "", 0, message, (), None)
    record.__dict__.update(extra)
    return JsonLines().format(record)


def test_a_log_line_is_one_json_object() -> None:
    line = line_of('a\r\n{"level": "forged"}', request_id="r", status=200, other="not shown", error="x" * 9999)
    assert "\n" not in line
    content = json.loads(line)
    assert content["message"] == 'a\r\n{"level": "forged"}'
    assert (content["request_id"], content["status"], content["level"]) == ("r", 200, "info")
    assert "other" not in content
    assert len(content["error"]) == 300


def test_configuring_replaces_the_handler(capsys: pytest.CaptureFixture[str]) -> None:
    before = (log().handlers[:], log().level, log().propagate)
    try:
        configure("warning")
        configure("warning")
        log().info("not this")
        log().warning("this")
        lines = capsys.readouterr().err.splitlines()
        assert [json.loads(line)["message"] for line in lines] == ["this"]
    finally:
        log().handlers[:], log().level, log().propagate = before
