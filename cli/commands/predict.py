"""`glasshouse predict`: rows or a picture in, predictions out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..asking import asking_options, check_one_kind
from ..client import Question, Reply, client_of
from ..screen import as_json, figure, line, table

SHOWN = 12


@click.command("predict")
@asking_options
def command(
    model: str,
    version: str | None,
    rows: tuple[str, ...],
    picture: Path | None,
    url: str | None,
    timeout: float,
    raw: bool,
    store: Path | None,
    config_file: Path | None,
) -> None:
    """Predict rows or an image with MODEL, in this process or at a running server."""
    check_one_kind(rows, picture)
    question = Question(model, version, rows, picture, {}, {})
    reply = question.ask(client_of(model, version, url, timeout, store, config_file), "predict")
    if raw:
        as_json(reply.json())
    else:
        show(reply)


def show(reply: Reply) -> None:
    """Print the predictions of an answer."""
    answer = reply.json()
    labels = answer.get("labels") or []
    rows = []
    for number, prediction in enumerate(answer["predictions"]):
        rows.append((number, labels[number] if number < len(labels) else "", shown(prediction)))
    line(f"{answer['model_name']} version {answer['model_version']} (model {answer['model_digest'][:SHOWN]})")
    table([">row", "label", "prediction"], rows)
    if reply.decision is not None:
        line(f"decision {reply.decision}")


def shown(value: Any) -> str:
    """A prediction on one line; long ones end in a count of what is left out."""
    if isinstance(value, dict):
        return "; ".join(f"{name} {shown(part)}" for name, part in value.items())
    if isinstance(value, list):
        rest = f", … {len(value) - SHOWN} more" if len(value) > SHOWN else ""
        return "[" + ", ".join(shown(part) for part in value[:SHOWN]) + rest + "]"
    return figure(value) if isinstance(value, float) else str(value)
