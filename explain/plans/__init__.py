"""Plans: how a program is fed in blocks of bounded size, and how its outputs become attributions."""

from .base import ELEMENTS_PER_RUN, ROWS_PER_RUN, Outcome, Plan, Step, Task, blocks, capacity, pick, target_feeds
from .maps import MapPlan
from .masks import MaskPlan
from .paths import PathPlan

__all__ = [
    "ELEMENTS_PER_RUN",
    "ROWS_PER_RUN",
    "MapPlan",
    "MaskPlan",
    "Outcome",
    "PathPlan",
    "Plan",
    "Step",
    "Task",
    "blocks",
    "capacity",
    "pick",
    "target_feeds",
]
