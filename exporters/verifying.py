"""A certificate of a model that is there already: a version in the store, or a file.

No source network is at hand, so what needs one says "not judged", unless the certificate that the version was published
with has judged it: of the same file, that stands, and says when it was found.
"""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import explain
from model_store import Manifest, StoreError, decode_rows, decode_tensors, to_model_layout

from .case import Case, case_of_arrays
from .certificate import SCHEMA_VERSION, Certificate, measured, sealed
from .checks import unjudged
from .effort import FULL, QUICK, Effort
from .errors import InvalidImport
from .exported import Array, Exported
from .float16 import held_against, own_rows
from .importing import read_onnx, with_background

if TYPE_CHECKING:
    from engine import Engine
    from model_store import ModelVersion

Rows = dict[str, Array]


def verify(
    version: ModelVersion | Exported,
    engine: Engine,
    *,
    rows: Rows | None = None,
    limit: int | None = None,
    methods: Sequence[str] | None = None,
    quick: bool = False,
    seconds: float | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Certificate:
    """The certificate of a model, made on rows [N, ...item] by input; without any, its examples and its background.

    limit    at most so many rows
    methods  names among those the model offers; None for all
    quick    as few rows and samples as a certificate at export takes
    seconds  about what one check of one method may take, before it takes fewer rows; None for half a minute
    tell     gets the name of each method when its turn comes

    Raises InvalidImport without a row to measure on and for a method that is not offered; model_store's errors.
    """
    start = time.monotonic()
    exported = version if isinstance(version, Exported) else exported_of(version)
    effort = QUICK if quick else FULL if seconds is None else replace(FULL, seconds=seconds)
    offered = exported.manifest.explanation.methods
    wanted = list(offered if methods is None else methods)
    unknown = [name for name in wanted if name not in offered]
    if unknown:
        raise InvalidImport(f"methods: {unknown[0]!r} is not offered; expected some of {', '.join(offered) or 'none'}")
    case = _case(exported, rows, limit, effort, engine)
    found = measured(case, [name for name in wanted if name in explain.METHODS], effort, tell=tell)
    found["parity"] = unjudged("the source model is not here")
    if exported.float16 is not None:
        found["float16"] = held_against(exported, case.inputs, case.rows, case)
    _inherit(found, exported.certificate, case)
    return sealed(case, found, {}, start)


def exported_of(version: ModelVersion) -> Exported:
    """A stored version as the exporters hand one on, with the certificate it was published with. Raises StoreError."""
    background = arrays_of(version.file("background"), "background") if version.has("background") else None
    examples = json.loads(version.file("examples")) if version.has("examples") else []
    certificate = json.loads(version.file("certificate")) if version.has("certificate") else None
    own = version.preferring("float32")
    return Exported(
        own.file("model"),
        own.manifest,
        background,
        examples,
        certificate,
        data_files=own.data_files(),
        float16=own.file("model_float16") if own.has("model_float16") else None,
    )


def arrays_of(data: bytes, what: str) -> Rows:
    """The arrays of an npz file. Raises InvalidImport."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise InvalidImport(f"{what}: is no npz of plain arrays: {error}") from error


def rows_of(manifest: Manifest, data: bytes, what: str) -> Rows:
    """Rows of a file: an npz of one array for each input, or JSON, a list of instances as clients send them.

    Raises InvalidImport.
    """
    try:
        if data[:2] == b"PK":
            arrays = arrays_of(data, what)
            return decode_tensors(manifest, to_model_layout(manifest, arrays)).inputs
        return decode_rows(manifest, json.loads(data)).inputs
    except (StoreError, ValueError, KeyError) as error:
        raise InvalidImport(f"{what}: {error}") from error


def file_with_rows(path: Path, data: bytes, engine: Engine) -> tuple[Exported, Rows]:
    """An ONNX file described by what is in it, with rows of a file, which also are its background.

    Raises InvalidImport, and model_store's RefusedModel for a file the gate refuses.
    """
    exported, _ = read_onnx(path, name="model", engine=engine)
    rows = rows_of(exported.manifest, data, "rows")
    return with_background(exported, rows), rows


def _case(exported: Exported, rows: Rows | None, limit: int | None, effort: Effort, engine: Engine) -> Case:
    given = rows if rows is not None else own_rows(exported)
    most = min(effort.rows, limit or effort.rows)
    chosen = {name: array[:most] for name, array in given.items()}
    count = len(next(iter(chosen.values()), ()))
    if not count:
        raise InvalidImport("rows: the model has neither examples nor a background; give rows to measure on")
    return case_of_arrays(exported, chosen, list(range(count)), engine)


def _inherit(found: Certificate, earlier: Mapping[str, Any] | None, case: Case) -> None:
    """Figures that only the source could give, from the certificate the version was published with."""
    if earlier is None or earlier.get("schema_version") != SCHEMA_VERSION or earlier.get("model") != case.model.digest:
        return
    made = {"found": earlier["created"]}
    if isinstance(earlier["parity"], Mapping):
        found["parity"] = {**earlier["parity"], **made}
    slopes, before = found["gradients"], earlier["gradients"]
    if isinstance(slopes, dict) and isinstance(before, Mapping) and isinstance(before["autograd"], Mapping):
        slopes["autograd"] = {**before["autograd"], **made}
    for name, report in found["methods"].items():
        judged = earlier["methods"].get(name, {})
        if isinstance(report["judge"], str) and isinstance(judged.get("judge"), Mapping):
            report |= {"judge": {**judged["judge"], **made}, "judged_by": judged["judged_by"]}
        elif isinstance(report["judge"], str) and isinstance(judged.get("judge"), str):
            report["judge"] = judged["judge"]  # with the source at hand the reason was a better one
