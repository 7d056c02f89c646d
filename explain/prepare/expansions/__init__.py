"""Operators that a file may hold and opset 18 has not, written out in operators that it has.

Runtimes fuse what they save (com.microsoft), and newer opsets give old names more meanings. Forward value and gradient
are then made of the same nodes. `expand(model)` is the door; a function that refuses leaves its node as it is.
"""

from . import attention, fused, later, left_over, quantized, recurrent, sequences, tabular, trees
from .registry import EXPANSIONS, LATER, MICROSOFT, ML, expand

__all__ = [
    "EXPANSIONS",
    "LATER",
    "MICROSOFT",
    "ML",
    "attention",
    "expand",
    "fused",
    "later",
    "left_over",
    "quantized",
    "recurrent",
    "sequences",
    "tabular",
    "trees",
]
