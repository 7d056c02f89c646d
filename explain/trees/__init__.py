"""Tree ensembles read from the graph: their leaves, whose conditions lead there, and tables of what each is worth."""

from .additive import Forest, evaluate, read_forest
from .blocks import Block, Compiled, compiled
from .bundles import NONE, VALUE
from .deep import DeepBlock
from .ensembles import is_ensemble, one_score, transform
from .paths import Leaf
from .players import Owners
from .shares import gain

__all__ = [
    "NONE",
    "VALUE",
    "Block",
    "Compiled",
    "DeepBlock",
    "Forest",
    "Leaf",
    "Owners",
    "compiled",
    "evaluate",
    "gain",
    "is_ensemble",
    "one_score",
    "read_forest",
    "transform",
]
