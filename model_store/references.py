"""Which files a manifest may have, and the manifest that refers to them once they are kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import get_args

from msgspec import structs

from .errors import InvalidManifest
from .manifest import DATA, PREFIX, ROLES, FileRef, Manifest, Role
from .outside import is_plain


def model_digest(manifest: Manifest) -> str:
    """SHA-256 (hex) of the model: of its file, or, where data files go with that, of one line for its digest and one
    `digest size name` for each of them, in the order of their names."""
    own = manifest.files["model"].digest
    if not manifest.data_files:
        return own
    lines = [f"{file.digest} {file.size} {name}\n" for name, file in sorted(manifest.data_files.items())]
    return hashlib.sha256("".join([f"{own}\n", *lines]).encode()).hexdigest()


def check_files(manifest: Manifest, files: Iterable[str]) -> None:
    """Files by role, "background/name" of a set that the manifest describes, and none of those without one, or
    "data/name" of external data.

    Raises InvalidManifest.
    """
    given = set(files)
    sets = {f"{PREFIX}{name}" for name in manifest.backgrounds}
    data = {role for role in given if role.startswith(DATA) and is_plain(role.removeprefix(DATA))}
    for role in sorted(given - {*ROLES} - sets - data):
        if role.startswith(PREFIX):
            raise InvalidManifest("backgrounds", f"has no {role.removeprefix(PREFIX)!r}, and a file came for it")
        raise InvalidManifest(f"files.{role}", f"is no role; expected one of {', '.join(ROLES)}")
    for name, found in manifest.backgrounds.items():
        if found.file is None and f"{PREFIX}{name}" not in given:
            raise InvalidManifest(f"backgrounds.{name}.file", "is missing; a set has its rows")


def with_references(manifest: Manifest, references: Mapping[str, FileRef], created: str) -> Manifest:
    """The manifest with these files, by role or as "background/name" or "data/name"."""
    known: tuple[Role, ...] = get_args(Role)
    roles = {role: references[role] for role in known if role in references}
    sets = {name.removeprefix(PREFIX): file for name, file in references.items() if name.startswith(PREFIX)}
    data = {name.removeprefix(DATA): file for name, file in references.items() if name.startswith(DATA)}
    return structs.replace(manifest.with_files(roles, created).with_background_files(sets), data_files=data)
