"""The manifest: all that serving and explaining a model need to know, as one typed, canonical JSON document.

A manifest arrives as JSON (from the store, or from a user's file) or is built in Python by an exporter; both pass
the same two checks: the types (msgspec, unknown fields refused) and the sense (`validation.py`). It leaves as RFC
8785 canonical JSON, whose SHA-256 is the version's digest. No code travels with a model: what the manifest cannot
say is not served.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Literal

import msgspec
import rfc8785

from .errors import InvalidManifest

SCHEMA_VERSION = 1
DEFAULT_BACKGROUND = "default"  # what files.background is called among the sets
PREFIX = "background/"  # of the files of sets
DATA = "data/"  # of the files that hold a model's external data
ROLES = ("model", "model_float16", "background", "examples", "certificate", "tokenizer")

InputKind = Literal["image", "tabular", "text", "series", "tensor"]
OutputKind = Literal["logits", "probabilities", "value", "reconstruction", "tensor"]
Role = Literal["model", "model_float16", "background", "examples", "certificate", "tokenizer"]
Precision = Literal["float32", "float16"]
Dim = int | str | None


class FileRef(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A blob by its SHA-256 (64 lower-case hex digits) and its size in bytes."""

    digest: str
    size: int


class BackgroundSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Rows that an explanation may compare with, under a name; an npz of one array for each input (backgrounds.py).

    `kind` says how they came to be so few: "rows" as they are, centres of "kmeans", or a "sample". `weights`: the rows
    do not count alike. A draft has no `file`; publishing fills it.
    """

    file: FileRef | None = None
    rows: int
    kind: Literal["rows", "kmeans", "sample"] = "rows"
    weights: bool = False
    note: str = ""


class ImageSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a picture becomes an input: x = pixel * scale + offset, pixel in 0..255; one number, or one per channel.

    Scale is 1 and offset 0 where the normalisation lives inside the graph, which is the better place for it.
    """

    height: int
    width: int
    mode: Literal["L", "RGB"]
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    scale: float | list[float] = 1.0
    offset: float | list[float] = 0.0

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour."""
        return 1 if self.mode == "L" else 3

    @property
    def item_shape(self) -> tuple[int, int, int]:
        """The shape of one picture without the batch axis, in the layout's order."""
        if self.layout == "NCHW":
            return self.channels, self.height, self.width
        return self.height, self.width, self.channels


class InputSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One input of the ONNX graph.

    `shape` is the graph's own, batch axis included: an int is fixed, a name or null is free. `batch_axis` is the
    axis along which items are stacked, or null where the whole tensor is one item. `dtype` is a numpy name.
    """

    name: str
    kind: InputKind
    dtype: str
    shape: list[Dim]
    batch_axis: int | None
    image: ImageSpec | None = None

    @property
    def item_shape(self) -> tuple[Dim, ...]:
        """The shape of one item: `shape` without the batch axis."""
        return _without(self.shape, self.batch_axis)


class OutputSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One output of the ONNX graph; shape and batch axis as in `InputSpec`."""

    name: str
    kind: OutputKind
    dtype: str
    shape: list[Dim]
    batch_axis: int | None
    class_names: list[str] = []
    unit: str | None = None
    threshold: float | None = None
    label: str | None = None

    @property
    def item_shape(self) -> tuple[Dim, ...]:
        """The shape of one item: `shape` without the batch axis."""
        return _without(self.shape, self.batch_axis)


class Level(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One level of a category: what a client sends, and what a person reads."""

    value: str
    label: str = ""


class Feature(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One column of a row.

    It feeds the element at flat position `index` of one item of `input`. A category is sent by its level's value,
    and the model receives the level's position in `levels`. `minimum` and `maximum` tell the range seen in
    training; they are shown to people and do not refuse a value.
    """

    name: str
    label: str = ""
    unit: str | None = None
    kind: Literal["number", "category"] = "number"
    input: str
    index: int
    levels: list[Level] = []
    group: str | None = None
    minimum: float | None = None
    maximum: float | None = None


class Baseline(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The reference point an explanation compares with."""

    kind: Literal["constant", "background_mean"]
    value: float = 0.0


class ExplanationDefaults(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an explanation uses when the client does not say, the methods on offer, and why the others are not.

    `groups`: true, features of one group are removed together; a spec ("positions", {"patches": {"size": 4}}) makes
    them of the input. `removal`: the spec of what takes the place of what is removed; null, the background or baseline.
    `held`: inputs that are no features (attention masks, position ids, caches), taken as they come.
    """

    method: str | None = None
    output: str | None = None
    baseline: Baseline | None = None
    layer: str | None = None
    groups: bool | str | dict[str, Any] = False
    removal: str | dict[str, Any] | None = None
    methods: list[str] = []
    refused: dict[str, str] = {}
    held: list[str] = []


class Batching(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`item`: items are stacked along the batch axis. `row`: one item per run, with the reason."""

    mode: Literal["item", "row"] = "item"
    reason: str | None = None


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole document. A draft has no `files` and no `created`; publishing fills them. `data_files` hold the
    external data of the model's file, by the names it has for them. The file "model_float16" is the same network in
    half precision, with the same inputs and outputs; its data lie inside."""

    schema_version: Literal[1] = 1
    name: str
    description: str = ""
    created: str = ""
    files: dict[Role, FileRef] = {}
    data_files: dict[str, FileRef] = {}
    backgrounds: dict[str, BackgroundSet] = {}
    inputs: list[InputSpec]
    outputs: list[OutputSpec]
    features: list[Feature] = []
    explanation: ExplanationDefaults = ExplanationDefaults()
    batching: Batching = Batching()
    lineage: dict[str, Any] = {}
    metrics: dict[str, float] = {}

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """Read and validate JSON text in UTF-8, canonical or not.

        Raises InvalidManifest naming the path of the first thing that is wrong.
        """
        try:
            json.loads(data, object_pairs_hook=_no_duplicates)
            manifest = msgspec.json.decode(data, type=cls)
        except msgspec.ValidationError as error:
            raise _located(error) from None
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise InvalidManifest("manifest", f"is not readable JSON: {error}") from None
        return manifest.validated()

    def to_bytes(self) -> bytes:
        """Validate, then write RFC 8785 canonical JSON."""
        return _canonical(self.validated())

    def digest(self) -> str:
        """SHA-256 of the canonical bytes, as 64 hex digits."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def validated(self) -> Manifest:
        """The same manifest with its types checked (a Python caller may have put anything anywhere) and its sense
        checked."""
        from .validation import check_sense

        try:
            manifest = msgspec.convert(msgspec.to_builtins(self), type=Manifest)
        except msgspec.ValidationError as error:
            raise _located(error) from None
        except (TypeError, RecursionError) as error:
            raise InvalidManifest("manifest", f"holds what JSON cannot: {error}") from None
        check_sense(manifest)
        _canonical(manifest)
        return manifest

    def with_files(self, files: dict[Role, FileRef], created: str) -> Manifest:
        """A copy with the given files and time of creation."""
        return msgspec.structs.replace(self, files=files, created=created)

    @property
    def every_file(self) -> dict[str, FileRef]:
        """All files by what they are called: those of a role by it, those of background sets as "background/name",
        those of external data as "data/name"."""
        sets = {f"{PREFIX}{name}": found.file for name, found in self.backgrounds.items()}
        files: dict[str, FileRef] = {role: file for role, file in self.files.items()}  # noqa: C416 - widens the keys
        data = {f"{DATA}{name}": file for name, file in self.data_files.items()}
        return files | data | {name: file for name, file in sets.items() if file is not None}

    def with_background_files(self, files: dict[str, FileRef]) -> Manifest:
        """A copy in which these sets, by name, have these files."""
        sets = {
            name: msgspec.structs.replace(found, file=files.get(name, found.file))
            for name, found in self.backgrounds.items()
        }
        return msgspec.structs.replace(self, backgrounds=sets)

    def input(self, name: str) -> InputSpec:
        """The input of this name; InvalidManifest if there is none."""
        for spec in self.inputs:
            if spec.name == name:
                return spec
        raise InvalidManifest("inputs", f"has no {name!r}")


def _canonical(manifest: Manifest) -> bytes:
    try:
        return rfc8785.dumps(msgspec.to_builtins(manifest))
    except (rfc8785.CanonicalizationError, RecursionError) as error:
        raise InvalidManifest("manifest", f"holds what canonical JSON cannot: {error}") from None
    except UnicodeEncodeError:
        raise InvalidManifest("manifest", "holds text that is not valid Unicode") from None


def _without(shape: list[Dim], axis: int | None) -> tuple[Dim, ...]:
    return tuple(dim for position, dim in enumerate(shape) if position != axis)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise InvalidManifest(name, "stands twice in the same object")
        seen.add(name)


_AT = re.compile(r"^(?P<problem>.*) - at `(?:key` in `)?\$\.?(?P<path>.*)`$", re.DOTALL)


def _located(error: msgspec.ValidationError) -> InvalidManifest:
    """msgspec's text `Expected `int`, got `str` - at `$.inputs[0].name`` as our path and problem."""
    found = _AT.match(str(error))
    if found is None:
        return InvalidManifest("manifest", str(error))
    return InvalidManifest(found["path"] or "manifest", found["problem"])
