"""One function per operator, grouped by kind; importing this package fills the registry.

The mathematics of each rule is its body; where a formula needs a derivation, the docstring names it. Conventions at
kinks follow PyTorch: Relu'(0) = 0, a clamp passes the gradient at its bounds, maxima share it equally among ties in
reductions and give it to the first in pooling.
"""

from . import (
    activations,
    control,
    conv,
    elementwise,
    gru,
    indexing,
    linear,
    lstm,
    normalize,
    pool,
    quantized,
    reduce,
    resize,
    rnn,
    sampling,
    shape,
    spectral,
    stop,
)

__all__ = [
    "activations",
    "control",
    "conv",
    "elementwise",
    "gru",
    "indexing",
    "linear",
    "lstm",
    "normalize",
    "pool",
    "quantized",
    "reduce",
    "resize",
    "rnn",
    "sampling",
    "shape",
    "spectral",
    "stop",
]
