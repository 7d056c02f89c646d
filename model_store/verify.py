"""Reading a whole store and saying what is wrong with it; nothing is changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .blobs import Blobs
from .errors import CorruptBlob, InvalidManifest, StoreError, UnknownBlob
from .files import names_in
from .manifest import Manifest
from .pointers import RENEWABLE, Pointers, Renewable
from .tuning import Tuning
from .validation import NAME


@dataclass(frozen=True)
class Problem:
    """Something in the store that is not as it must be; `path` is relative to the store."""

    path: str
    problem: str


def read_manifest(blobs: Blobs, name: str, number: int, digest: str) -> Manifest:
    """The manifest a version points to. Raises CorruptBlob if it is not there, not readable, or another model's."""
    path, its = f"models/{name}/versions/{number}", f"its manifest (digest {digest})"
    try:
        manifest = Manifest.from_bytes(blobs.get(digest))
    except UnknownBlob:
        raise CorruptBlob(digest, path, f"{its} is not in the store") from None
    except CorruptBlob as error:
        raise CorruptBlob(digest, path, f"{its} is damaged: {error.problem}") from error
    except InvalidManifest as error:
        raise CorruptBlob(digest, path, f"{its} is not valid: {error}") from None
    if manifest.name != name or "model" not in manifest.files:
        raise CorruptBlob(digest, path, f"{its} is one of {manifest.name!r}")
    return manifest


def problems(root: Path, blobs: Blobs) -> list[Problem]:
    """Every problem found: blobs first, then each model's versions and aliases."""
    found = list(_blob_problems(blobs))
    for name in names_in(root / "models"):
        path = f"models/{name}"
        if not NAME.fullmatch(name):
            found.append(Problem(path, "is no model name"))
            continue
        found.extend(_model_problems(root, blobs, name))
    return found


def _problem(path: str, error: StoreError) -> Problem:
    """What is wrong at a path; an error that names this path itself is told without it."""
    if isinstance(error, CorruptBlob) and error.path == path:
        return Problem(path, f"is corrupt: {error.problem}")
    return Problem(path, str(error))


def _blob_problems(blobs: Blobs) -> Iterator[Problem]:
    for digest, path in blobs.all():
        if not digest:
            yield Problem(blobs.relative(path), "is no blob of the store")
            continue
        try:
            blobs.whole(digest)
        except CorruptBlob as error:
            # The place spells the digest in two parts; whole, it can be searched for.
            yield Problem(blobs.relative(path), f"blob {digest} is corrupt: {error.problem}")
        except StoreError as error:
            yield Problem(blobs.relative(path), str(error))


def _model_problems(root: Path, blobs: Blobs, name: str) -> Iterator[Problem]:
    pointers = Pointers(root, name)
    versions = pointers.versions()
    for number in versions:
        path = f"models/{name}/versions/{number}"
        try:
            digest = pointers.manifest_digest(number)
            manifest = read_manifest(blobs, name, number, digest or "")
        except StoreError as error:
            yield _problem(path, error)
            continue
        for role, file in manifest.every_file.items():
            if not blobs.has(file.digest):
                yield Problem(path, f"its {role} (digest {file.digest}) is not in the store")
            elif blobs.place(file.digest).stat().st_size != file.size:
                yield Problem(path, f"its {role} (digest {file.digest}) is not of {file.size} bytes")
    for alias in pointers.aliases():
        path = f"models/{name}/aliases/{alias}"
        try:
            target = pointers.alias(alias)
        except StoreError as error:
            yield _problem(path, error)
            continue
        if target is not None and target not in versions:
            yield Problem(path, f"stands for version {target}, which is not there")
    for kind in RENEWABLE:
        yield from _renewable_problems(kind, pointers, blobs, name)
    for number in pointers.archived() - set(versions):
        yield Problem(f"models/{name}/archived/{number}", "marks a version that is not there")


def _renewable_problems(kind: Renewable, pointers: Pointers, blobs: Blobs, name: str) -> Iterator[Problem]:
    """Of certificates and tunings made after publishing; certificates named by a manifest are its files."""
    versions, what = pointers.versions(), {"certificates": "certificate", "tuning": "tuning"}[kind]
    for number in pointers.renewed(kind):
        path = f"models/{name}/{kind}/{number}"
        try:
            digest = pointers.renewed_digest(kind, number)
        except StoreError as error:
            yield _problem(path, error)
            continue
        if number not in versions:
            yield Problem(path, f"is the {what} of a version that is not there")
        elif digest is not None and not blobs.has(digest):
            yield Problem(path, f"its {what} (digest {digest}) is not in the store")
        elif kind == "tuning" and digest is not None:
            try:
                Tuning.from_bytes(blobs.get(digest))
            except StoreError as error:
                yield Problem(path, f"its tuning (digest {digest}): {error}")
