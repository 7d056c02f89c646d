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
from .coalitions import CoalitionPlan, Drawn
from .differences import Differences
from .ends import Ends
from .maps import MapPlan
from .masks import MaskPlan
from .owen import OwenPlan, Tree
from .pairs import PairPlan
from .panels import PanelPlan
from .paths import PathPlan, SecantPlan
from .regressions import RegressionPlan, Solved
from .sampled import Judged, Statistic, mean, mean_of_draws, mean_of_turns
from .samples import Draw, SamplePlan
from .split import SplitPlan
from .stretches import StretchPlan
from .trees import TreePlan
from .worths import Worths

__all__ = [
    "ELEMENTS_PER_RUN",
    "ROWS_PER_RUN",
    "Budget",
    "CoalitionPlan",
    "Differences",
    "Draw",
    "Drawn",
    "Ends",
    "Judged",
    "MapPlan",
    "MaskPlan",
    "Outcome",
    "OwenPlan",
    "PairPlan",
    "PanelPlan",
    "PathPlan",
    "Plan",
    "RegressionPlan",
    "SamplePlan",
    "SecantPlan",
    "Solved",
    "SplitPlan",
    "Statistic",
    "Step",
    "StretchPlan",
    "Task",
    "Tree",
    "TreePlan",
    "Worths",
    "blocks",
    "capacity",
    "filled",
    "mean",
    "mean_of_draws",
    "mean_of_turns",
    "pick",
    "target_feeds",
]
