"""The background sets of a model in use: by name, read once, and made fewer rows on request.

``default`` is the set that a model has as its file "background"; further ones have names of their own. A summary is
deterministic, so that it is the same set each time, and the last few are kept.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import explain
from model_store import DEFAULT_BACKGROUND, Manifest, read_background

from .errors import BadRequest
from .messages import Array

MEMBERS = ("name", "size", "kind")
KINDS = ("kmeans", "sample")
KEPT = 8


@dataclass(frozen=True)
class Rows:
    """A background set: rows by input name, [B, item...], how much each counts, and what an answer says of it.

    `prepared` makes of it, once for the model's handle, what explain/ takes to be compared with again and again.
    """

    arrays: dict[str, Array]
    weight: Array | None
    quoted: Mapping[str, Any]
    prepared: Callable[[explain.Model], explain.Background] = field(repr=False, compare=False)


def digests(manifest: Manifest) -> dict[str, str]:
    """Of every set by name, the digest of its file; the default one first."""
    own = manifest.files.get("background")
    found = {} if own is None else {DEFAULT_BACKGROUND: own.digest}
    named = {name: each.file.digest for name, each in manifest.backgrounds.items() if each.file is not None}
    return {name: (found | named)[name] for name in sorted(found | named, key=lambda name: name != DEFAULT_BACKGROUND)}


def describe(manifest: Manifest) -> list[dict[str, Any]]:
    """The sets as ``/explainers`` tells them; of the file "background" only the digest is known unread."""
    told = []
    for name, digest in digests(manifest).items():
        each = manifest.backgrounds.get(name)
        more = (
            {"rows": None, "kind": "rows", "weights": False, "note": ""}
            if each is None
            else {"rows": each.rows, "kind": each.kind, "weights": each.weights, "note": each.note}
        )
        told.append({"name": name, "digest": digest, **more})
    return told


class BackgroundSets:
    """The sets of one version."""

    def __init__(self, manifest: Manifest, file: Any) -> None:
        """`file` gives the bytes of a file by its role or as "background/name"."""
        self.manifest, self._file = manifest, file
        self._digests = digests(manifest)
        self._lock = threading.Lock()
        self._read: dict[str, Rows] = {}
        self._summaries: OrderedDict[tuple[str, int, str], Rows] = OrderedDict()

    @property
    def names(self) -> list[str]:
        """Of all sets, the default one first."""
        return list(self._digests)

    def get(self, name: str = DEFAULT_BACKGROUND) -> Rows | None:
        """The set of a name; None where there is none.

        Raises:
            ModelUnusable: the file is damaged.
            InvalidManifest: the file is no npz of the model's inputs.
        """
        if name not in self._digests:
            return None
        with self._lock:
            if name not in self._read:
                self._read[name] = self._load(name)
            return self._read[name]

    def _load(self, name: str) -> Rows:
        role = f"background/{name}" if name in self.manifest.backgrounds else "background"
        path = f"backgrounds.{name}" if name in self.manifest.backgrounds else "files.background"
        arrays, weight = read_background(self._file(role), [spec.name for spec in self.manifest.inputs], path)
        rows = len(next(iter(arrays.values())))
        told = {"name": name, "digest": self._digests[name], "rows": rows, "summary": None}
        return _rows(arrays, weight, told)

    def asked(self, given: str | Mapping[str, Any]) -> Rows:
        """The set that a request names, or an object of name, size and kind.

        Raises:
            BadRequest: no set of this name, or a size or kind that makes no sense; and as `get`.
        """
        options = {"name": given} if isinstance(given, str) else dict(given)
        for member in options:
            if member not in MEMBERS:
                raise BadRequest("background", f"an object with {member[:60]!r}", "only " + ", ".join(MEMBERS))
        name, size, kind = options.get("name", DEFAULT_BACKGROUND), options.get("size"), options.get("kind", KINDS[0])
        found = self.get(name) if isinstance(name, str) else None
        if found is None:
            known = ", ".join(self.names) or "none: the model has no background set"
            raise BadRequest("background", repr(name)[:60], f"the name of one of its sets ({known}), or instances")
        if kind not in KINDS:
            raise BadRequest("background.kind", repr(kind)[:60], " or ".join(KINDS))
        if size is None:
            if "kind" in options:
                raise BadRequest("background.kind", "it without a size", "how many rows there are to be, as size")
            return found
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise BadRequest("background.size", repr(size)[:60], "a whole number of at least 1")
        return self._summary(name, found, size, kind)

    def _summary(self, name: str, found: Rows, size: int, kind: str) -> Rows:
        if size >= int(found.quoted["rows"]):
            return found
        key = (name, size, kind)
        with self._lock:
            if key not in self._summaries:
                arrays, weight = explain.summarise(found.arrays, size, kind=kind, weights=found.weight)
                told = {**found.quoted, "rows": len(weight), "summary": {"size": size, "kind": kind}}
                self._summaries[key] = _rows(arrays, weight, told)
            self._summaries.move_to_end(key)
            while len(self._summaries) > KEPT:
                self._summaries.popitem(last=False)
            return self._summaries[key]


def _rows(arrays: dict[str, Array], weight: Array | None, told: Mapping[str, Any]) -> Rows:
    return Rows(arrays, weight, told, cache(lambda model: explain.Background.of(model, arrays, weight)))
