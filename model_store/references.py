"""Which files a manifest may have, and the manifest that refers to them once they are kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import get_args

from .errors import InvalidManifest
from .manifest import PREFIX, ROLES, FileRef, Manifest, Role


def check_files(manifest: Manifest, files: Iterable[str]) -> None:
    """Files by role, or "background/name" of a set that the manifest describes, and none of those without one.

    Raises InvalidManifest.
    """
    given = set(files)
    sets = {f"{PREFIX}{name}" for name in manifest.backgrounds}
    for role in sorted(given - {*ROLES} - sets):
        if role.startswith(PREFIX):
            raise InvalidManifest("backgrounds", f"has no {role.removeprefix(PREFIX)!r}, and a file came for it")
        raise InvalidManifest(f"files.{role}", f"is no role; expected one of {', '.join(ROLES)}")
    for name, found in manifest.backgrounds.items():
        if found.file is None and f"{PREFIX}{name}" not in given:
            raise InvalidManifest(f"backgrounds.{name}.file", "is missing; a set has its rows")


def with_references(manifest: Manifest, references: Mapping[str, FileRef], created: str) -> Manifest:
    """The manifest with these files, by role or as "background/name"."""
    known: tuple[Role, ...] = get_args(Role)
    roles = {role: references[role] for role in known if role in references}
    sets = {name.removeprefix(PREFIX): file for name, file in references.items() if name.startswith(PREFIX)}
    return manifest.with_files(roles, created).with_background_files(sets)
