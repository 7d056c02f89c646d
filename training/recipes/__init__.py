"""The recipes by name. A new one is a module with a RECIPE and a line here."""

from __future__ import annotations

from ..errors import UnknownRecipe
from ..recipe import Recipe
from . import credit, diabetes, digits, tumour, xray

RECIPES: dict[str, Recipe] = {module.RECIPE.name: module.RECIPE for module in (tumour, digits, diabetes, xray, credit)}


def recipe_named(name: str) -> Recipe:
    """The recipe of that name. Raises UnknownRecipe with the names there are."""
    if name not in RECIPES:
        raise UnknownRecipe(f"recipe {name!r} is unknown; there are {', '.join(RECIPES)}")
    return RECIPES[name]
