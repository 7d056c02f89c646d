"""What can go wrong while a model is trained, and nothing else.

TrainingError
├── UnknownRecipe     no recipe of that name
├── MissingData       a data file is in none of the places a recipe looks
├── BadData           a data file was found, but is not what the recipe reads
└── InvalidSetting    an argument of ``train`` is out of its range
"""

from __future__ import annotations


class TrainingError(Exception):
    """The root: every error this room raises on purpose is one of these."""


class UnknownRecipe(TrainingError):
    """There is no recipe of that name; the message lists those there are."""


class MissingData(TrainingError):
    """A data file is missing; the message is one line: which file, and where to put it."""


class BadData(TrainingError):
    """A data file does not hold what its recipe reads; the message says what was found."""


class InvalidSetting(TrainingError):
    """A setting of the training (epochs, seed) is out of range."""
