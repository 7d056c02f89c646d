"""How far an attribution can be trusted: figures that come with every answer, and checks that are made on request."""

from .base import Check, Figures, Subject
from .checks import CHECKS, resolve_checks
from .curves import area, places
from .figures import gini, joined, quality_figures
from .made import Checks
from .players import players_of

__all__ = [
    "CHECKS",
    "Check",
    "Checks",
    "Figures",
    "Subject",
    "area",
    "gini",
    "joined",
    "places",
    "players_of",
    "quality_figures",
    "resolve_checks",
]
