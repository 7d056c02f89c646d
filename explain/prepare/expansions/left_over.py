"""Nodes of other domains that could not be expanded into operators with rules say why."""

from ...emit import Emitter
from ...graph import Node
from ...registry import Gradients, vjp
from . import attention, fused, quantized, sequences, tabular  # noqa: F401 - they fill the table
from .registry import EXPANSIONS, MICROSOFT, ML

PAIR = ("QuantizeLinear", "DequantizeLinear")  # which have rules there too


@vjp(*(op for domain, op in EXPANSIONS if domain == MICROSOFT and op not in PAIR), domain=MICROSOFT)
@vjp(*(operator for domain, operator in EXPANSIONS if not domain and operator.startswith("QLinear")))
@vjp(*(operator for domain, operator in EXPANSIONS if domain == ML), domain=ML)
def left_over(emit: Emitter, node: Node, grad: str) -> Gradients:  # noqa: ARG001 - no gradient passes
    """Written out in operators that have a rule before anything is differentiated; a node that refuses says why."""
    EXPANSIONS[node.domain, node.op](emit, node)
    raise node.refuse("what it is made of could not be told; export the model with shape information")
