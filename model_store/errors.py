"""What can go wrong between a folder of facts and a model's arrays.

::

    StoreError
    ├── NotFound
    │   ├── UnknownModel
    │   ├── UnknownVersion
    │   ├── UnknownAlias
    │   └── UnknownBlob
    ├── InvalidName        a model or alias name that can never exist
    ├── Conflict           the store's state forbids the change asked for
    ├── CorruptBlob        bytes in the store are not the bytes that were put there
    ├── StoreUnavailable   the file system refused a read or a write
    ├── InvalidManifest    names the field's path
    ├── InvalidTuning      names the field of a tuning
    ├── RefusedModel       the gate's verdict on a model file
    ├── InvalidInput       what a client sent cannot become the model's input
    └── TooLarge           what a client sent is beyond a limit

Texts name models, fields and paths relative to the store, never places on the machine; the one exception is
`StoreUnavailable`, which is for the operator and not for a client.
"""

from __future__ import annotations

import reprlib
from typing import Any

__all__ = [
    "Conflict",
    "CorruptBlob",
    "InvalidInput",
    "InvalidManifest",
    "InvalidName",
    "InvalidTuning",
    "NotFound",
    "RefusedModel",
    "StoreError",
    "StoreUnavailable",
    "TooLarge",
    "UnknownAlias",
    "UnknownBlob",
    "UnknownModel",
    "UnknownVersion",
    "shown",
]


class StoreError(Exception):
    """Anything this room refuses."""


class NotFound(StoreError):
    """Something named is not in the store."""


class UnknownModel(NotFound):
    """No model of this name has a version."""

    def __init__(self, name: str) -> None:
        super().__init__(f"model {shown(name)} is not in the store")
        self.name = name


class UnknownVersion(NotFound):
    """The model exists, this version of it does not."""

    def __init__(self, name: str, version: object, known: list[int]) -> None:
        listed = ", ".join(map(str, known[-20:])) or "none"
        super().__init__(f"model {shown(name)} has no version {shown(version)}; it has: {listed}")
        self.name, self.version, self.known = name, version, known


class UnknownAlias(NotFound):
    """The model exists, this alias of it does not."""

    def __init__(self, name: str, alias: str, known: list[str]) -> None:
        listed = ", ".join(known[:20]) or "none"
        super().__init__(f"model {shown(name)} has no version or alias {shown(alias)}; its aliases are: {listed}")
        self.name, self.alias, self.known = name, alias, known


class UnknownBlob(NotFound):
    """No content of this digest is in the store."""

    def __init__(self, digest: str) -> None:
        super().__init__(f"blob {shown(digest)} is not in the store")
        self.digest = digest


class InvalidName(StoreError):
    """A name outside the one form that model and alias names have."""

    def __init__(self, what: str, name: object, expected: str) -> None:
        super().__init__(f"{what}: got {shown(name)}, expected {expected}")
        self.what, self.name, self.expected = what, name, expected


class Conflict(StoreError):
    """The change asked for would contradict what the store holds."""


class CorruptBlob(StoreError):
    """A file of the store does not hold what it must. `path` is relative to the store; `problem` says the rest."""

    def __init__(self, digest: str, path: str, problem: str) -> None:
        super().__init__(f"{path} is corrupt: {problem}")
        self.digest, self.path, self.problem = digest, path, problem


class StoreUnavailable(StoreError):
    """The file system refused to read or write the store."""


class InvalidManifest(StoreError):
    """`path` is the place in the manifest, such as `features[3].levels[0].value`."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path, self.problem = path, problem


class InvalidTuning(StoreError):
    """A tuning that is none: names the field, what came and what was expected."""


class RefusedModel(StoreError):
    """A model file that this house will not run, with the reason."""


class InvalidInput(StoreError):
    """One field of what a client sent, what came, and what was expected."""

    def __init__(self, field: str, came: str, expected: str) -> None:
        super().__init__(f"{field}: got {came}, expected {expected}")
        self.field, self.came, self.expected = field, came, expected


class TooLarge(StoreError):
    """One field of what a client sent, its size, and the limit."""

    def __init__(self, field: str, came: str, limit: str) -> None:
        super().__init__(f"{field}: got {came}, the limit is {limit}")
        self.field, self.came, self.limit = field, came, limit


class _Short(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 80
        self.maxlong = 40
        self.maxlist = self.maxtuple = self.maxdict = 4
        self.maxlevel = 2

    def repr_int(self, x: int, level: int) -> str:
        # Python refuses to print integers beyond 4300 digits, and a client may send one.
        return f"an integer of {x.bit_length()} bits" if x.bit_length() > 128 else super().repr_int(x, level)


_SHORT = _Short()


def shown(value: Any) -> str:
    """A value as it may stand in an error text: its repr, cut to a bounded length, and never an error itself."""
    return _SHORT.repr(value)
