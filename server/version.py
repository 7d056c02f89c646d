"""The version of this server, as the installed package names it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def _installed() -> str:
    try:
        return version("glasshouse")
    except PackageNotFoundError:
        return "0+checkout"


VERSION = _installed()
