"""Why an export does not answer as its source does, where that is a fault of converters that is known.

LSTM and RNN have one meaning; a GRU has two. PyTorch multiplies by the reset gate behind the product with R
(linear_before_reset = 1), Keras does as it was asked (reset_after); releases of PyTorch's exporter left the attribute
out (pytorch/pytorch#189225), and nothing but the answers tells.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx
from onnx import helper

from .exported import Exported

RESET = "linear_before_reset"


def known_cause(exported: Exported, agrees: Callable[[Exported], bool]) -> str:
    """A sentence that says what is wrong and what would be right, "" where no known fault explains it.

    agrees  whether an export, with the fault mended, answers as its source does
    """
    for meant in (1, 0):
        model = onnx.load_model_from_string(exported.model)
        wrong = [node for node in model.graph.node if node.op_type == "GRU" and _reset(node) != meant]
        for node in wrong:
            kept = [attribute for attribute in node.attribute if attribute.name != RESET]
            del node.attribute[:]
            node.attribute.extend([*kept, helper.make_attribute(RESET, meant)])
        if wrong and agrees(exported.but(model=model.SerializeToString())):
            where = ", ".join(repr(node.name or node.output[0]) for node in wrong)
            return (
                f"its GRU ({where}) has {RESET} = {1 - meant}, and with {RESET} = {meant} it answers as its source "
                "does; a fault of the exporter: set the attribute, or export again with another release of it"
            )
    return ""


def _reset(node: onnx.NodeProto) -> int:
    return next((int(bool(attribute.i)) for attribute in node.attribute if attribute.name == RESET), 0)
