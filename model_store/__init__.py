"""The model store: a folder of facts about models, and the way from what a client sends to a model's arrays.

In: model files with their manifests (`Store.publish`), and requests (`decode_rows`, `decode_image`, `decode_tensors`).
Out: verified bytes by digest, versions by name, arrays by the manifest. This room runs no model and keeps no database.
"""

from .errors import (
    Conflict,
    CorruptBlob,
    InvalidInput,
    InvalidManifest,
    InvalidName,
    NotFound,
    RefusedModel,
    StoreError,
    StoreUnavailable,
    TooLarge,
    UnknownAlias,
    UnknownBlob,
    UnknownModel,
    UnknownVersion,
)
from .images import MAX_PIXELS, array_picture, decode_image
from .layout import Decoded, from_model_layout, to_model_layout
from .manifest import (
    ROLES,
    SCHEMA_VERSION,
    Baseline,
    Batching,
    ExplanationDefaults,
    Feature,
    FileRef,
    ImageSpec,
    InputSpec,
    Level,
    Manifest,
    OutputSpec,
    Role,
)
from .rows import decode_rows
from .store import DEFAULT_ALIAS, GcReport, ModelVersion, Store
from .tensors import decode_tensors
from .verify import Problem

__all__ = [
    "DEFAULT_ALIAS",
    "MAX_PIXELS",
    "ROLES",
    "SCHEMA_VERSION",
    "Baseline",
    "Batching",
    "Conflict",
    "CorruptBlob",
    "Decoded",
    "ExplanationDefaults",
    "Feature",
    "FileRef",
    "GcReport",
    "ImageSpec",
    "InputSpec",
    "InvalidInput",
    "InvalidManifest",
    "InvalidName",
    "Level",
    "Manifest",
    "ModelVersion",
    "NotFound",
    "OutputSpec",
    "Problem",
    "RefusedModel",
    "Role",
    "Store",
    "StoreError",
    "StoreUnavailable",
    "TooLarge",
    "UnknownAlias",
    "UnknownBlob",
    "UnknownModel",
    "UnknownVersion",
    "array_picture",
    "decode_image",
    "decode_rows",
    "decode_tensors",
    "from_model_layout",
    "to_model_layout",
]
