"""What stands in the place of what is removed, and backgrounds of few rows that stand for many."""

from .spec import SCHEMA, Replacement, resolve
from .summary import summarise

__all__ = ["SCHEMA", "Replacement", "resolve", "summarise"]
