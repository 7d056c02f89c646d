"""`glasshouse coverage`: on one screen, what of a model can be explained and what stands in the way."""

from __future__ import annotations

from pathlib import Path

import click

from ..files import onnx_bytes
from ..screen import as_json, line, table


@click.command("coverage")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "raw", is_flag=True, help="As JSON.")
def command(file: Path, raw: bool) -> None:
    """Say which operators of an ONNX FILE have a derivative rule, which do not, and which methods that leaves."""
    import explain

    onnx_bytes(file)
    found = explain.coverage(file)
    if raw:
        as_json(found.to_dict())
        return
    verdict = "differentiable" if found.differentiable else "not differentiable"
    line(f"{file.name}: {verdict}, {sum(found.operators.values())} nodes of {len(found.operators)} covered operators")
    if found.operators:
        table(["operator", ">nodes"], sorted(found.operators.items(), key=lambda item: (-item[1], item[0])))
    if found.blocking:
        blockers = [(blocker.op, blocker.node, blocker.opset) for blocker in found.blocking]
        table(["in the way", "node", ">opset"], blockers)
    line(f"explained: {found.explained.space} of {found.explained.output}; {found.batching}")
    if found.approximations:
        line(f"gradients rest on: {', '.join(found.approximations)}")
    line(f"methods: {', '.join(found.methods) or 'none'}")
    for reason, methods in _by_reason(found.refused).items():
        line(f"not offered: {', '.join(methods)}: {reason}")


def _by_reason(refused: dict[str, str]) -> dict[str, list[str]]:
    """Methods that are refused for the same reason, together."""
    found: dict[str, list[str]] = {}
    for method, reason in refused.items():
        found.setdefault(reason, []).append(method)
    return found
