"""Independent answers to what an explanation must be, and the distance from them.

A judge shares no compiled program with what it judges. Of coalitions it asks the served file for predictions and does
the method's arithmetic by its definition; of gradients it asks torch's autograd on the source network in float64, or,
where there is no source, central differences of the served file. What no judge can say is `Unjudged`, with the reason.
"""

from .by_coalitions import COALITION_METHODS, judged_by_coalitions
from .by_slopes import SLOPE_METHODS, judged_by_slopes
from .by_windows import judged_by_windows
from .differences import Differences, refuse_steps
from .served import Served
from .verdict import Judgement, Unjudged, attribution_errors, gradient_errors

__all__ = [
    "COALITION_METHODS",
    "SLOPE_METHODS",
    "Differences",
    "Judgement",
    "Served",
    "Unjudged",
    "attribution_errors",
    "gradient_errors",
    "judged_by_coalitions",
    "judged_by_slopes",
    "judged_by_windows",
    "refuse_steps",
]
