"""A trained model of any framework becomes an ONNX file with its manifest, its certificate, and a place in the store.

A torch module, a scikit-learn pipeline or a finished ONNX file comes in. The graph is made anonymous and checked, the
manifest says all that serving and explaining need, real rows from client bytes prove that the export answers as its
source does, and only then does a version appear in the store. The way back are the bridges: Captum and shap on a
served file, and answers as objects of shap.
"""

from engine import Engine

from .backgrounds import Background
from .bridges import as_torch, predict_function, shap_explanation
from .certificate import certify
from .describing import describe, output_spec
from .errors import (
    CertificateFailed,
    ExportError,
    InvalidBridge,
    InvalidExport,
    InvalidImport,
    ParityFailed,
    UnsupportedModel,
    VariantRefused,
)
from .evaluating import evaluate
from .exported import Evidence, Exported, write
from .exported import as_json as certificate_bytes
from .float16 import with_float16
from .from_sklearn import Column, Converted, export_sklearn
from .from_torch import export_torch
from .importing import import_onnx, read_onnx
from .parity import Figure, parity
from .registering import register
from .running import open_engine
from .verifying import exported_of, file_with_rows, rows_of, verify

__all__ = [
    "Background",
    "CertificateFailed",
    "Column",
    "Converted",
    "Engine",
    "Evidence",
    "ExportError",
    "Exported",
    "Figure",
    "InvalidBridge",
    "InvalidExport",
    "InvalidImport",
    "ParityFailed",
    "UnsupportedModel",
    "VariantRefused",
    "as_torch",
    "certificate_bytes",
    "certify",
    "describe",
    "evaluate",
    "export_sklearn",
    "export_torch",
    "exported_of",
    "file_with_rows",
    "import_onnx",
    "open_engine",
    "output_spec",
    "parity",
    "predict_function",
    "read_onnx",
    "register",
    "rows_of",
    "shap_explanation",
    "verify",
    "with_float16",
    "write",
]
