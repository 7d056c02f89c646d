"""Trains the example models on real data and puts them into the store.

A recipe's name comes in; a trained network, its metrics on unseen rows and its lineage come out (``train``), and from
there a certified export (``export``) and versions in the store (``prepare_examples``). Importing this room costs
nothing: torch, Lightning and scikit-learn are imported when a training starts.
"""

from .data import Dataset
from .errors import BadData, InvalidSetting, MissingData, TrainingError, UnknownRecipe
from .publish import default_examples, export, prepare_examples, sentence
from .recipe import Recipe, Schedule
from .recipes import RECIPES
from .trained import TrainedModel, train

__all__ = [
    "RECIPES",
    "BadData",
    "Dataset",
    "InvalidSetting",
    "MissingData",
    "Recipe",
    "Schedule",
    "TrainedModel",
    "TrainingError",
    "UnknownRecipe",
    "default_examples",
    "export",
    "prepare_examples",
    "sentence",
    "train",
]
