"""A torch module as the bytes of an ONNX model, by torch's own exporter, with a free batch axis.

module(*inputs)  --torch.onnx.export-->  graph "inputs -> outputs", every axis 0 named N, opset 18
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import InvalidExport, UnsupportedModel
from .graphs import finished

if TYPE_CHECKING:
    from torch import nn

OPSET = 18
BATCH = "N"


def export_torch(
    module: nn.Module,
    example_inputs: Sequence[np.ndarray[Any, Any]],
    input_names: Sequence[str],
    output_names: Sequence[str],
) -> bytes:
    """ONNX bytes (opset 18, ir_version <= 10, weights inside) of a module in eval mode.

    example_inputs  one array per input, axis 0 = rows (at least 2, so that no axis of 1 is taken for a constant)

    Raises UnsupportedModel when torch cannot say the module in ONNX or ties it to the number of example rows, and
    InvalidExport when names and arrays do not match.
    """
    import torch

    if len(example_inputs) != len(input_names):
        raise InvalidExport(f"{len(example_inputs)} example inputs came for {len(input_names)} input names")
    rows = min((len(array) for array in example_inputs), default=0)
    if rows < 2:
        raise InvalidExport(f"example inputs have {rows} rows, expected 2 or more")
    training = module.training
    positional = _positional(module)
    free = torch.export.Dim(BATCH)
    arguments = tuple(torch.from_numpy(np.ascontiguousarray(array)) for array in example_inputs)
    try:
        with _silent():
            program = torch.onnx.export(
                positional.eval(),
                arguments,
                dynamo=True,
                opset_version=OPSET,
                input_names=list(input_names),
                output_names=list(output_names),
                dynamic_shapes=(tuple({0: free} for _ in arguments),),
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # torch wraps its many failures differently from release to release
        raise UnsupportedModel(f"torch cannot export {type(module).__name__} to ONNX: {_reason(error)}") from error
    finally:
        module.train(training)
    if program is None:
        raise UnsupportedModel(f"torch exported nothing for {type(module).__name__}")
    return finished(program.model_proto)


def _positional(module: nn.Module) -> nn.Module:
    """The module behind plain positional inputs, so that shapes can be named without knowing its signature."""
    from torch import Tensor, nn

    class Positional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = module

        def forward(self, *inputs: Tensor) -> Any:
            return self.model(*inputs)

    return Positional()


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Progress marks, hints on optional packages and deprecations inside torch say nothing about the model."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _reason(error: BaseException) -> str:
    """The innermost cause, one line: the outer ones repeat how to file a bug with torch."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"
