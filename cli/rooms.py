"""All rooms must come from one parent folder.

Rooms are top-level packages, so a folder or file of the same name earlier on the import path would take a room's place.
That is looked for before anything runs, and the path that shadows is named.
"""

from __future__ import annotations

import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path

from .errors import ShadowedRoom

ROOMS = ("audit", "cli", "engine", "explain", "exporters", "model_store", "pictures", "server", "training")
PARENT = Path(__file__).resolve().parent.parent


def check_rooms(parent: Path = PARENT) -> None:
    """Raises `ShadowedRoom`, naming the room and what stands in its place. Imports no room."""
    for room in ROOMS:
        place = _place(importlib.util.find_spec(room))
        if place is None:
            raise ShadowedRoom(f"the room {room!r} is not installed beside the others in {parent}")
        if place != parent / room / "__init__.py":
            raise ShadowedRoom(
                f"the room {room!r} is shadowed by {place}: expected it in {parent}; "
                "run from another folder or take that path off PYTHONPATH"
            )


def _place(spec: ModuleSpec | None) -> Path | None:
    """The file a module would be loaded from; of a folder without `__init__.py`, the folder."""
    if spec is None:
        return None
    if spec.origin is not None:
        return Path(spec.origin).resolve()
    return next((Path(folder).resolve() for folder in spec.submodule_search_locations or ()), None)
