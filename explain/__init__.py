"""The compiler of explanations: ONNX in, ONNX out, and the arithmetic around it.

An explanation is a program (a compiled graph, made once per model) and a plan (the small arrays that say at which
points it is run, and how its outputs become attributions). This room has no runtime and no HTTP; whatever runs the
prediction runs the programs.
"""

from .arrays import digest_arrays
from .background import Background
from .beginning import attribute, begin
from .check import attribution_error, dot_test, finite_difference, gradient_error
from .compiler import compile  # noqa: A004 - the field's word for it
from .coverage import Blocker, Coverage, coverage
from .errors import (
    ExplainError,
    InvalidInputs,
    InvalidModel,
    InvalidParameter,
    InvalidTarget,
    MethodUnavailable,
    RegistrationError,
    UnsupportedOperator,
)
from .evaluation import (
    Distribution,
    Evaluation,
    Flipping,
    Mprt,
    evaluate,
    mprt,
    randomised,
    road,
    spearman,
    weight_layers,
)
from .methods import METHODS, Method
from .model import Model
from .programs import PROGRAMS, Program
from .quality import CHECKS, Check
from .removal import summarise
from .request import Target
from .run import Attribution, Run
from .weights import constants_to_initializers, placed, weights

__all__ = [
    "CHECKS",
    "METHODS",
    "PROGRAMS",
    "Attribution",
    "Background",
    "Blocker",
    "Check",
    "Coverage",
    "Distribution",
    "Evaluation",
    "ExplainError",
    "Flipping",
    "InvalidInputs",
    "InvalidModel",
    "InvalidParameter",
    "InvalidTarget",
    "Method",
    "MethodUnavailable",
    "Model",
    "Mprt",
    "Program",
    "RegistrationError",
    "Run",
    "Target",
    "UnsupportedOperator",
    "attribute",
    "attribution_error",
    "begin",
    "compile",
    "constants_to_initializers",
    "coverage",
    "digest_arrays",
    "dot_test",
    "evaluate",
    "finite_difference",
    "gradient_error",
    "mprt",
    "placed",
    "randomised",
    "road",
    "spearman",
    "summarise",
    "weight_layers",
    "weights",
]
