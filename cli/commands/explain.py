"""`glasshouse explain`: why a model answered as it did, as figures or as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..asking import asking_options, check_one_kind
from ..client import JSON, PICTURES, Question, Reply, client_of
from ..errors import BadInput
from ..files import options_of, value_of, write_file
from ..screen import as_json, figure, line, table
from .predict import show, shown


@click.command("explain")
@asking_options
@click.option("--method", help="An explanation method; the model's own if not given.")
@click.option("--target", help="What to explain: a class, by name or number, or JSON; what was predicted if not given.")
@click.option("--output", help="Which output to explain, by name.")
@click.option("--space", help="logit, probability or output.")
@click.option("--groups", help="What is removed together: a kind of groups by name, or JSON; see docs/groups.md.")
@click.option("--removal", help="What takes the place of what is removed: a kind by name, or JSON.")
@click.option("--background", help="A background set of the model, by name or as JSON; or instances as JSON.")
@click.option("--seed", type=int, help="Seed of methods that draw samples.")
@click.option("--parameter", "parameters", multiple=True, metavar="NAME=VALUE", help="Of the method; repeatable.")
@click.option("--check", "checks", multiple=True, metavar="NAME", help="A check of the answer; repeatable.")
@click.option("--top", default=15, show_default=True, type=click.IntRange(1), help="How many features to show.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Write the picture to a .png or .svg file.")
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
    parameters: tuple[str, ...],
    checks: tuple[str, ...],
    top: int,
    out: Path | None,
    **members: Any,
) -> None:
    """Explain MODEL's answer to rows or an image, in this process or at a running server."""
    check_one_kind(rows, picture)
    accept = JSON if out is None else _picture_type(out)
    for name in ("target", "groups", "removal", "background"):
        if members[name] is not None and picture is None:
            members[name] = value_of(members[name])
    given = {name: value for name, value in members.items() if value is not None}
    if checks:
        given["checks"] = ",".join(checks) if picture is not None else list(checks)
    question = Question(model, version, rows, picture, given, options_of(parameters, "--parameter"))
    reply = question.ask(client_of(model, version, url, timeout, store, config_file), "explain", accept)
    if out is not None:
        write_file(out, reply.body)
        line(f"picture written to {out}" + (f", decision {reply.decision}" if reply.decision else ""))
    elif raw:
        as_json(reply.json())
    else:
        _show(reply, top)


def _picture_type(out: Path) -> str:
    if out.suffix.lower() not in PICTURES:
        raise BadInput(f"--out: got {out.name!r}, expected a name that ends in {' or '.join(PICTURES)}")
    return PICTURES[out.suffix.lower()]


def _show(reply: Reply, top: int) -> None:
    show(reply)
    for number, explanation in enumerate(reply.json()["explanations"]):
        target = explanation["target"]
        name = target.get("name", target) if isinstance(target, dict) else target
        line("")
        value, base = figure(explanation["explained_value"]), figure(explanation["base_value"])
        line(f"row {number}, {explanation['method']}: why {name}")
        line(f"{explanation['explained_name']} {value} {explanation['units']}, base value {base}")
        _show_attributions(explanation["attributions"], top)
        if explanation["approximations"]:
            line(f"gradients rest on: {', '.join(explanation['approximations'])}")
        figures = explanation["quality"].items()
        quality = {key: value for key, value in figures if value is not None and key != "checks"}
        line("quality: " + ", ".join(f"{key} {shown(value)}" for key, value in quality.items()))


def _show_attributions(attributions: Any, top: int) -> None:
    """Features by the size of their contribution; of tensors, where most of it lies."""
    if isinstance(attributions, dict):
        sizes = {name: _flat(values) for name, values in attributions.items()}
        rows = [
            (name, len(flat), figure(min(flat)), figure(max(flat)), figure(sum(flat))) for name, flat in sizes.items()
        ]
        table(["input", ">elements", ">least", ">most", ">sum"], rows)
        return
    ranked = sorted(attributions, key=lambda entry: -abs(entry["attribution"]))
    rows_shown = [
        (entry["label"] or entry["feature"], entry["shown"], entry["unit"] or "", figure(entry["attribution"]))
        for entry in ranked[:top]
    ]
    rest = ranked[top:]
    if rest:
        rows_shown.append((f"{len(rest)} more", "", "", figure(sum(entry["attribution"] for entry in rest))))
    table(["feature", ">value", "unit", ">attribution"], rows_shown)


def _flat(values: Any) -> list[float]:
    return [each for part in values for each in _flat(part)] if isinstance(values, list) else [values]
