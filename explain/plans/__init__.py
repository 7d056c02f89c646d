"""Plans: how a program is fed in blocks of bounded size, and how its outputs become attributions."""

from .base import (
    ELEMENTS_PER_RUN,
    ROWS_PER_RUN,
    Outcome,
    Plan,
    Step,
    Task,
    blocks,
    capacity,
    filled,
    pick,
    target_feeds,
)
from .budget import Budget
from .ends import Ends
from .maps import MapPlan
from .masks import MaskPlan
from .pairs import PairPlan
from .panels import PanelPlan
from .paths import PathPlan, SecantPlan
from .samples import Draw, SamplePlan
from .stretches import StretchPlan

__all__ = [
    "ELEMENTS_PER_RUN",
    "ROWS_PER_RUN",
    "Budget",
    "Draw",
    "Ends",
    "MapPlan",
    "MaskPlan",
    "Outcome",
    "PairPlan",
    "PanelPlan",
    "PathPlan",
    "Plan",
    "SamplePlan",
    "SecantPlan",
    "Step",
    "StretchPlan",
    "Task",
    "blocks",
    "capacity",
    "filled",
    "pick",
    "target_feeds",
]
