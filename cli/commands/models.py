"""`glasshouse models`: look after the store. Prints what the store says; changes aliases and archive marks only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import ProblemsFound
from ..screen import as_json, figure, line, table
from ..settings import open_store, store_option

if TYPE_CHECKING:
    from model_store import Manifest, ModelVersion

SHORT = 12


@click.group("models")
def command() -> None:
    """List, show, alias, archive, collect and verify the models of the store."""


@command.command("list")
@click.option("--all", "every", is_flag=True, help="Archived versions too.")
@click.option("--json", "raw", is_flag=True, help="As JSON.")
@store_option
def list_models(every: bool, raw: bool, store: Path | None, config_file: Path | None) -> None:
    """List every version of every model."""
    opened = open_store(config_file, store)
    found = []
    for name in opened.models():
        aliases = opened.aliases(name)
        for version in opened.versions(name):
            if every or not version.archived:
                found.append(
                    _listed(version, [alias for alias, number in aliases.items() if number == version.version])
                )
    if raw:
        as_json(found)
    elif not found:
        line(f"no models in {opened.root}")
    else:
        keys = ("name", "version", "aliases", "inputs", "methods", "created", "digest")
        table(
            ["model", ">version", "aliases", "takes", ">methods", "created", "model digest"],
            [_cells(entry, keys) for entry in found],
        )


@command.command("show")
@click.argument("name")
@click.argument("version", required=False)
@click.option("--json", "raw", is_flag=True, help="The manifest as JSON.")
@store_option
def show(name: str, version: str | None, raw: bool, store: Path | None, config_file: Path | None) -> None:
    """Show what the store knows of one version (a number or an alias; without it, the one that is served)."""
    found = open_store(config_file, store).resolve(name, version)
    if raw:
        as_json(json.loads(found.manifest.to_bytes()))
        return
    manifest = found.manifest
    line(f"{found.name} version {found.version}{' (archived)' if found.archived else ''}: {manifest.description}")
    line(f"created {manifest.created}, manifest {found.digest}")
    line(f"served {manifest.batching.mode} by {manifest.batching.mode}{_because(manifest.batching.reason)}")
    table(["file", ">bytes", "digest"], [(role, file.size, file.digest) for role, file in manifest.files.items()])
    tuning = found.tuning()
    if tuning is not None:
        line(f"tuned: {tuning.told}")
    _show_tensors(manifest)
    if manifest.metrics:
        table(["metric", ">value"], [(metric, figure(value)) for metric, value in manifest.metrics.items()])
    _show_explanation(manifest)


@command.command("alias")
@click.argument("name")
@click.argument("alias")
@click.argument("version", required=False)
@click.option("--remove", is_flag=True, help="Remove the alias; its version stays.")
@store_option
def alias_(
    name: str, alias: str, version: str | None, remove: bool, store: Path | None, config_file: Path | None
) -> None:
    """Point ALIAS of model NAME at VERSION (a number or another alias). The alias `default` is what is served."""
    if remove == (version is not None):
        raise click.UsageError("give either VERSION or --remove")
    opened = open_store(config_file, store)
    if version is None:
        opened.remove_alias(name, alias)
        line(f"{name}: alias {alias} removed")
        return
    opened.set_alias(name, alias, version)
    line(f"{name}: {alias} is version {opened.aliases(name)[alias]}")


@command.command("archive")
@click.argument("name")
@click.argument("version")
@click.option("--restore", is_flag=True, help="Bring an archived version back.")
@store_option
def archive(name: str, version: str, restore: bool, store: Path | None, config_file: Path | None) -> None:
    """Archive a version: it is served only where its number is asked for."""
    opened = open_store(config_file, store)
    number = opened.resolve(name, version).version
    opened.archive(name, number, not restore)
    line(f"{name}: version {number} is {'offered again' if restore else 'archived'}")


@command.command("gc")
@store_option
def gc(store: Path | None, config_file: Path | None) -> None:
    """Remove blobs that no version names, and what dead writers left behind."""
    report = open_store(config_file, store).gc()
    line(f"removed {len(report.blobs)} blobs and {len(report.leftovers)} leftover files, {report.bytes} bytes")


@command.command("verify")
@store_option
def verify(store: Path | None, config_file: Path | None) -> None:
    """Read the whole store, hash it again, and name everything that is wrong."""
    opened = open_store(config_file, store)
    problems = opened.verify()
    for problem in problems:
        line(f"{problem.path}: {problem.problem}")
    if problems:
        raise ProblemsFound(f"{len(problems)} problems in {opened.root}")
    line(f"{opened.root} is sound: {len(opened.models())} models")


def _listed(version: ModelVersion, aliases: list[str]) -> dict[str, Any]:
    manifest = version.manifest
    return {
        "name": version.name,
        "version": version.version,
        "aliases": aliases,
        "archived": version.archived,
        "inputs": sorted({spec.kind for spec in manifest.inputs}),
        "methods": manifest.explanation.methods,
        "created": manifest.created,
        "digest": version.model_digest,
        "manifest_digest": version.digest,
    }


def _cells(entry: dict[str, Any], keys: tuple[str, ...]) -> list[str]:
    cells = {**entry, "methods": len(entry["methods"]), "digest": entry["digest"][:SHORT]}
    cells["inputs"] = ", ".join(entry["inputs"])
    cells["aliases"] = ", ".join([*entry["aliases"], *(["archived"] if entry["archived"] else [])])
    return [str(cells[key]) for key in keys]


def _because(reason: str | None) -> str:
    return f": {reason}" if reason else ""


def _shape(shape: list[int | str | None]) -> str:
    return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"


def _show_tensors(manifest: Manifest) -> None:
    rows = [("input", spec.name, spec.kind, spec.dtype, _shape(spec.shape)) for spec in manifest.inputs]
    answers = [("output", spec.name, spec.kind, spec.dtype, _shape(spec.shape)) for spec in manifest.outputs]
    table(["", "tensor", "kind", "dtype", "shape"], [*rows, *answers])
    if manifest.features:
        features = [
            (feature.name, feature.label, feature.unit or "", ", ".join(level.value for level in feature.levels))
            for feature in manifest.features
        ]
        table(["feature", "label", "unit", "levels"], features)


def _show_explanation(manifest: Manifest) -> None:
    defaults = manifest.explanation
    offered = [(method, "default" if method == defaults.method else "offered") for method in defaults.methods]
    refused = [(method, f"refused: {reason}") for method, reason in defaults.refused.items()]
    table(["method", ""], offered + refused)
