"""What explanations of a model are worth over a data set: for reports, not for answers.

Everything here asks for many explanations or evaluations through the same runs as an answer, and says distributions
with the worst row, never one number alone: single figures of saliency metrics vary too much between items to be
trusted (Tomsett et al. 2020).
"""

from .correlation import spearman
from .distribution import Distribution
from .flipping import Flipping, road
from .mprt import Mprt, mprt
from .over_rows import Evaluation, evaluate
from .randomised import Layer, randomised, weight_layers

__all__ = [
    "Distribution",
    "Evaluation",
    "Flipping",
    "Layer",
    "Mprt",
    "evaluate",
    "mprt",
    "randomised",
    "road",
    "spearman",
    "weight_layers",
]
