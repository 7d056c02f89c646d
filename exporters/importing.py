"""Any ONNX file, from anywhere, as a version in the store: with what could be found out about it, and what could not.

file -> gate -> batch axes, found by running it -> manifest, given or inferred -> background -> methods -> store.
Every step that had to leave something open says so in a sentence for the person who imports.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model_store import (
    Baseline,
    Batching,
    InvalidManifest,
    Manifest,
    Store,
    check_model,
    data_beside,
    infer_manifest,
)

from .batch_axis import Found, find_batch_axes
from .defaults import explanation, preferred
from .describing import check_background, check_graph, rebuilt, replaced
from .errors import InvalidExport, InvalidImport
from .exported import Array, Exported
from .offers import NO_BACKGROUND, NO_REFERENCE
from .rows import MOST_ROWS, background_rows, named_by_header, read_table

if TYPE_CHECKING:
    from engine import Engine
    from model_store import ModelVersion


def import_onnx(
    path: str | os.PathLike[str],
    *,
    name: str,
    store: Store,
    engine: Engine,
    manifest: str | os.PathLike[str] | None = None,
    background: str | os.PathLike[str] | None = None,
) -> tuple[ModelVersion, list[str]]:
    """Registers an ONNX file as a new version of ``name``; also sentences: what was found, left open, offered, refused.

    manifest    a JSON file that describes the model; without one, a draft is inferred
    background  a CSV file with a header, rows that stand for the data

    Raises InvalidImport for files that cannot be used, and model_store's RefusedModel for a file the gate refuses.
    """
    exported, sentences = read_onnx(path, name=name, engine=engine, manifest=manifest, background=background)
    return store.publish(exported.manifest, exported.files()), sentences


def read_onnx(
    path: str | os.PathLike[str],
    *,
    name: str,
    engine: Engine,
    manifest: str | os.PathLike[str] | None = None,
    background: str | os.PathLike[str] | None = None,
) -> tuple[Exported, list[str]]:
    """The same, described and in no store."""
    data = _read(Path(path), "model")
    data_files = data_beside(Path(path), data)
    check_model(data, data_files=data_files)
    table = read_table(Path(background)) if background is not None else None
    if manifest is None:
        found = find_batch_axes(data, engine, data_files=data_files)
        draft, sentences = _inferred(found, name, table[0] if table else None)
    else:
        draft = _given(Path(manifest), name, data)
        found = find_batch_axes(data, engine, data_files=data_files)
        draft, found, sentences = _agreed(draft, found, data)
    rows = background_rows(draft, Path(str(background)), *table) if table and background is not None else None
    read = Exported(found.model, draft, rows, data_files=data_files)
    described = _with_methods(read, rows, keep=manifest is not None)
    described = rebuilt(described, lineage={**described.lineage, **_lineage(Path(path), data, found)})
    return read.but(manifest=described), [*_on_batching(found), *sentences, *_on_methods(described)]


def with_background(exported: Exported, rows: Mapping[str, Array]) -> Exported:
    """The model with the first of these rows [N, ...item] as its background, and the methods that this allows."""
    background = {name: array[:MOST_ROWS] for name, array in rows.items()}
    described = _with_methods(exported, background, keep=False)
    return exported.but(manifest=described, background=background)


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidImport(f"{what} {path.name}: cannot be read: {error.strerror or error}") from error


def _inferred(found: Found, name: str, header: list[str] | None) -> tuple[Manifest, list[str]]:
    """A draft from the file, its columns called by the header of the background where there is one."""
    try:
        draft, unsure = infer_manifest(
            found.model, name, batch_axes=found.axes, batching=_batching(found), shapes=found.shapes
        )
    except InvalidManifest as error:
        raise InvalidImport(f"the model cannot be described from its file alone: {error}") from error
    if header is None:
        return draft, unsure
    named = named_by_header(draft, header)
    if named is not draft:
        unsure = [sentence for sentence in unsure if "names no columns" not in sentence]
        unsure.append(f"The columns are called as in the header of the background, in its order: {_listed(header)}.")
    return named, unsure


def _given(path: Path, name: str, data: bytes) -> Manifest:
    """The user's manifest, checked against the graph; files, name and time are the store's affair."""
    try:
        read = Manifest.from_bytes(_read(path, "manifest"))
        draft = rebuilt(read, name=name, files={}, created="")
        check_graph(data, draft.inputs, draft.outputs)
    except (InvalidManifest, InvalidExport) as error:
        raise InvalidImport(f"manifest {path.name}: {error}") from error
    return draft


def _agreed(draft: Manifest, found: Found, data: bytes) -> tuple[Manifest, Found, list[str]]:
    """The manifest as the model was seen to behave: row by row, if its rows turned out to depend on each other."""
    declared = {spec.name: spec.batch_axis for spec in draft.inputs} | {
        spec.name: spec.batch_axis for spec in draft.outputs
    }
    if draft.batching.mode == "row":
        told = draft.batching.reason or "the manifest says so"
        return draft, dataclasses.replace(found, model=data, relaxed=False, reason=told), []
    if found.reason is not None:
        said = ["The manifest says that rows can be joined; they cannot."]
        return rebuilt(draft, batching=_batching(found)), found, said
    wrong = [name for name, axis in declared.items() if found.axes.get(name) != axis]
    if wrong:
        raise InvalidImport(
            f"manifest: the batch axis of {wrong[0]!r} is said to be {declared[wrong[0]]}, "
            f"by running the model it is {found.axes.get(wrong[0])}"
        )
    return draft, found, []


def _batching(found: Found) -> Batching:
    return Batching() if found.reason is None else Batching(mode="row", reason=found.reason)


def _with_methods(exported: Exported, background: Mapping[str, Array] | None, *, keep: bool) -> Manifest:
    """The manifest with the methods the graph and the files allow, and defaults among them."""
    draft = exported.manifest
    check_background(draft.inputs, background)
    told = draft.explanation
    found = explanation(
        exported.model,
        draft.inputs,
        draft.outputs,
        draft.features,
        background,
        method=told.method,
        baseline=told.baseline or _baseline(draft, background),
        groups=told.groups if keep else None,
        removal=told.removal,
        row_by_row=draft.batching.mode == "row",
        data_files=exported.data_files,
        held=told.held,
    )
    changes: dict[str, Any] = {"output": told.output or found.output, "layer": told.layer}
    if keep and told.methods:
        unlisted = dict.fromkeys((m for m in found.methods if m not in told.methods), "the manifest does not list it")
        listed = [method for method in found.methods if method in told.methods]
        chosen = (
            told.method if told.method in listed else preferred(draft.inputs, draft.features, listed, found.baseline)
        )
        changes |= {"methods": listed, "refused": found.refused | unlisted, "method": chosen}
    return rebuilt(draft, explanation=replaced(found, **changes))


def _baseline(draft: Manifest, background: Mapping[str, Array] | None) -> Baseline | None:
    """The centre of the background, or black for a picture; otherwise none, as zeros would be somebody's guess."""
    if background is not None:
        return Baseline(kind="background_mean")
    image = draft.inputs[0].image
    if len(draft.inputs) == 1 and image is not None and isinstance(image.offset, float | int):
        return Baseline(kind="constant", value=float(image.offset))
    return None


def _lineage(path: Path, data: bytes, found: Found) -> dict[str, Any]:
    return {
        "imported": {
            "file": path.name,
            "sha256": hashlib.sha256(data).hexdigest(),
            "batch_axis_made_free": found.relaxed,
        }
    }


def _on_batching(found: Found) -> list[str]:
    if found.reason is not None:
        return [f"Rows are run one by one: {found.reason}."]
    where = ", ".join(f"{name!r} along axis {axis}" for name, axis in found.axes.items())
    sentences = [f"Rows can be joined in one run (tested by running the model): {where}."]
    if found.relaxed:
        sentences.append(
            "The file fixed its batch at 1; the copy in the store leaves it free, nothing else was changed."
        )
    return sentences


def _on_methods(manifest: Manifest) -> list[str]:
    told = manifest.explanation
    sentences = [f"Offered explanations: {_listed(told.methods) if told.methods else 'none'}."]
    by_reason: dict[str, list[str]] = {}
    for method, reason in told.refused.items():
        by_reason.setdefault(reason, []).append(method)
    sentences += [f"Not offered: {', '.join(methods)}: {reason}." for reason, methods in by_reason.items()]
    if {NO_BACKGROUND, NO_REFERENCE} & set(told.refused.values()):
        sentences.append("A background set (--background rows.csv) makes the methods that need one available.")
    if told.removal is not None:
        sentences.append(
            f"What is removed of an input gives way to {json.dumps(told.removal)}, unless a request says more."
        )
    if told.baseline is None and "integrated_gradients" in told.methods:
        sentences.append("There is no default baseline: requests for integrated_gradients have to bring one.")
    return sentences


def _listed(names: list[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
