"""The methods, by name: each is a program, a plan and a reduction."""

from .ablation import FEATURE_ABLATION, OCCLUSION
from .base import Method, Parameter, plan_of, resolved, schema_of
from .deep import DEEP_SHAP, DEEPLIFT
from .gradients import INPUT_X_GRADIENT, INTEGRATED_GRADIENTS, SALIENCY
from .guided import GUIDED_BACKPROP
from .kernel import KERNEL_SHAP
from .lime import LIME
from .linear import LINEAR_SHAP
from .maps import GRAD_CAM, HIRES_CAM, LAYER_CAM
from .partition import PARTITION_SHAP
from .permutations import PERMUTATION_SHAP, SAMPLING_SHAP
from .rise import RISE
from .sampled import EXPECTED_GRADIENTS, GRADIENT_SHAP, SMOOTH_GRAD, SMOOTH_GRAD_SQUARED, VAR_GRAD, spreads
from .shapley import EXACT_SHAP
from .trees import TREE_SHAP, TREE_SHAP_INTERACTIONS

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
        PERMUTATION_SHAP,
        SAMPLING_SHAP,
        PARTITION_SHAP,
        LIME,
        FEATURE_ABLATION,
        OCCLUSION,
        RISE,
        TREE_SHAP,
        TREE_SHAP_INTERACTIONS,
        LINEAR_SHAP,
    )
}

__all__ = ["METHODS", "Method", "Parameter", "plan_of", "resolved", "schema_of", "spreads"]
