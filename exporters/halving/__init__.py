"""A float32 graph with most of its work in float16: which nodes, and the graph with them."""

from .choosing import Network, chosen, seen
from .reading import network_of
from .writing import halved, rounded

__all__ = ["Network", "chosen", "halved", "network_of", "rounded", "seen"]
