"""What can be compiled: one builder per program, by name."""

from __future__ import annotations

from collections.abc import Callable

from .activation_map import build_activation_map
from .deeplift import build_deeplift, numbers_of_baseline
from .draft import Program
from .first_layer import build_masked_layer, build_masked_rest, first_layer
from .linear_shap import build_linear_shap
from .masked_forward import build_masked_forward
from .path_gradient import build_path_gradient
from .path_secant import build_path_secant, has_kinks, without_chord
from .tree_shap import build_tree_shap
from .vjp import build_forward, build_vjp

PROGRAMS: dict[str, Callable[..., Program]] = {
    "forward": build_forward,
    "vjp": build_vjp,
    "path_gradient": build_path_gradient,
    "path_secant": build_path_secant,
    "deeplift": build_deeplift,
    "activation_map": build_activation_map,
    "masked_forward": build_masked_forward,
    "masked_layer": build_masked_layer,
    "masked_rest": build_masked_rest,
    "tree_shap": build_tree_shap,
    "linear_shap": build_linear_shap,
}

__all__ = ["PROGRAMS", "Program", "first_layer", "has_kinks", "numbers_of_baseline", "without_chord"]
