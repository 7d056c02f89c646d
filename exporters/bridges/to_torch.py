"""A served model as a torch module, so that Captum's methods run on the file that serves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from engine import Engine
from model_store import Store

from .served import Served, bridged

if TYPE_CHECKING:
    from torch import nn


def as_torch(
    model: Served,
    *,
    engine: Engine,
    store: Store | Path | str | None = None,
    version: int | str | None = None,
    output: str | None = None,
    space: str | None = None,
) -> nn.Module:
    """A module whose forward is the served model in the engine and whose backward is its compiled gradient.

    ``model`` and ``store`` are as for `predict_function`. The module takes one tensor [N, ...item] per input of the
    file, in its order, and gives one output, the explained value [N, ...item]: the logit where the output ends in a
    Softmax or Sigmoid, unless ``space`` asks for the "probability". Whole-number inputs carry no gradient. Tensors may
    lie on any device; the arithmetic happens in the engine, in the dtype of the file.

    A gradient of the gradient is refused (InvalidBridge): the compiled one is no torch graph. So are methods that
    hook layers (DeepLift, GuidedBackprop, LRP): the module has none; use `explain`'s own. Raises what `bridged` does.
    """
    from .served_module import ServedModule  # imports torch

    return ServedModule(bridged(model, engine, store=store, version=version, output=output, space=space))
