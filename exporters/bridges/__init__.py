"""Captum and shap on a served model, outside the server.

A model (a file, a stored version) goes in; out comes a torch module whose backward is the compiled gradient, a function
of rows as shap calls it, or, from an explanation, the object that shap's plots draw. torch, captum and shap are
imported when one of these is called, not before.
"""

from .explanation import shap_explanation
from .predicting import predict_function
from .to_torch import as_torch

__all__ = ["as_torch", "predict_function", "shap_explanation"]
