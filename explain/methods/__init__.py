"""The methods, by name: each is a program, a plan and a reduction."""

from .base import Method, Parameter
from .deep import DEEP_SHAP, DEEPLIFT
from .gradients import INPUT_X_GRADIENT, INTEGRATED_GRADIENTS, SALIENCY
from .guided import GUIDED_BACKPROP
from .maps import GRAD_CAM, HIRES_CAM, LAYER_CAM
from .sampled import EXPECTED_GRADIENTS, GRADIENT_SHAP, SMOOTH_GRAD, SMOOTH_GRAD_SQUARED, VAR_GRAD
from .shapley import EXACT_SHAP, KERNEL_SHAP

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        SALIENCY,
        INPUT_X_GRADIENT,
        INTEGRATED_GRADIENTS,
        EXPECTED_GRADIENTS,
        GRADIENT_SHAP,
        SMOOTH_GRAD,
        SMOOTH_GRAD_SQUARED,
        VAR_GRAD,
        DEEPLIFT,
        DEEP_SHAP,
        GUIDED_BACKPROP,
        GRAD_CAM,
        HIRES_CAM,
        LAYER_CAM,
        KERNEL_SHAP,
        EXACT_SHAP,
    )
}

__all__ = ["METHODS", "Method", "Parameter"]
