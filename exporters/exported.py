"""What an exporter hands on: the graph, the manifest that describes it, and the files that go with it."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from model_store import pack_background

from .errors import ExportError

if TYPE_CHECKING:
    from model_store import Manifest

Array = NDArray[Any]


@dataclass(frozen=True)
class Evidence:
    """Real rows by which an export is judged, none of them made by the code that is judged.

    rows       their numbers in the data set, to name the worst one
    instances  what a client sends for each: a feature object, a list, or a picture as ``{"b64": ...}``
    expected   by output name, [rows, ...]: the answer of the source model, fed with the original data
    """

    rows: Sequence[int]
    instances: Sequence[Any]
    expected: Mapping[str, Array]


@dataclass(frozen=True)
class Exported:
    """A model ready to be checked and registered. ``manifest`` is a draft: the store fills in files and time.

    data_files  where the external data of the model lie, by the names it has for them
    float16     the same network in half precision, its data inside (float16.py)
    """

    model: bytes
    manifest: Manifest
    background: Mapping[str, Array] | None = None
    examples: Sequence[Mapping[str, Any]] = field(default=())
    certificate: Mapping[str, Any] | None = None
    background_sets: Mapping[str, bytes] = field(default_factory=dict)
    data_files: Mapping[str, Path] = field(default_factory=dict)
    float16: bytes | None = None

    def files(self) -> dict[str, bytes | Path]:
        """The version's files by role, as "background/name" those of background sets, as "data/name" those of external
        data; deterministic bytes, or a path where they are many."""
        found: dict[str, bytes | Path] = {"model": self.model}
        found |= {f"background/{name}": data for name, data in self.background_sets.items()}
        found |= {f"data/{name}": path for name, path in self.data_files.items()}
        if self.float16 is not None:
            found["model_float16"] = self.float16
        if self.background is not None:
            found["background"] = pack(self.background)
        if self.examples:
            found["examples"] = as_json(list(self.examples))
        if self.certificate is not None:
            found["certificate"] = as_json(self.certificate)
        return found

    def but(self, **changes: Any) -> Exported:
        """A copy with some parts changed."""
        return dataclasses.replace(self, **changes)


def pack(arrays: Mapping[str, Array]) -> bytes:
    """Arrays by input name as npz; numpy stamps its members with a fixed date, so equal arrays give equal bytes."""
    return pack_background(arrays)


def as_json(value: Any) -> bytes:
    """UTF-8 JSON with sorted keys; a figure that is not a number is refused, as JSON has no word for it."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, allow_nan=False, indent=1).encode("utf-8")


_NAMES: dict[str, str] = {
    "model": "model.onnx",
    "model_float16": "model_float16.onnx",
    "background": "background.npz",
}


def write(exported: Exported, folder: Path) -> list[Path]:
    """Leaves the files and ``manifest.json`` in a folder, for people; the store has its own layout."""
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for role, data in (*exported.files().items(), ("manifest", exported.manifest.to_bytes())):
            path = folder / _NAMES.get(role, f"{role.replace('/', '-')}{'.npz' if '/' in role else '.json'}")
            if isinstance(data, Path):
                path = shutil.copyfile(data, folder / role.removeprefix("data/"))
            else:
                path.write_bytes(data)
            written.append(path)
    except OSError as error:
        raise ExportError(f"the export could not be written to {folder}: {error}") from error
    return written
