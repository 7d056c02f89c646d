"""The model store: a folder of facts about models, and the way from what a client sends to a model's arrays.

In: model files with their manifests (`Store.publish`), and requests (`decode_rows`, `decode_image`, `decode_tensors`).
Before a model is published it passes the gate (`check_model`), and a file without a manifest gets a draft
(`infer_manifest`). Out: verified bytes by digest, versions by name, arrays by the manifest. This room runs no model and
keeps no database.
"""

from .backgrounds import pack_background, read_background
from .errors import (
    Conflict,
    CorruptBlob,
    InvalidInput,
    InvalidManifest,
    InvalidName,
    InvalidTuning,
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
from .gate import GateReport, check_model, data_beside
from .images import MAX_PIXELS, array_picture, decode_image
from .infer import infer_manifest
from .layout import Decoded, from_model_layout, to_model_layout
from .limits import Limits
from .manifest import (
    DEFAULT_BACKGROUND,
    ROLES,
    SCHEMA_VERSION,
    BackgroundSet,
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
    Precision,
    Role,
)
from .model_version import ModelVersion
from .rows import RowDecoder, decode_rows
from .store import DEFAULT_ALIAS, GcReport, Store
from .tensors import TensorDecoder, decode_tensors
from .tuning import Measured, Point, Tuning
from .verify import Problem

__all__ = [
    "DEFAULT_ALIAS",
    "DEFAULT_BACKGROUND",
    "MAX_PIXELS",
    "ROLES",
    "SCHEMA_VERSION",
    "BackgroundSet",
    "Baseline",
    "Batching",
    "Conflict",
    "CorruptBlob",
    "Decoded",
    "ExplanationDefaults",
    "Feature",
    "FileRef",
    "GateReport",
    "GcReport",
    "ImageSpec",
    "InputSpec",
    "InvalidInput",
    "InvalidManifest",
    "InvalidName",
    "InvalidTuning",
    "Level",
    "Limits",
    "Manifest",
    "Measured",
    "ModelVersion",
    "NotFound",
    "OutputSpec",
    "Point",
    "Precision",
    "Problem",
    "RefusedModel",
    "Role",
    "RowDecoder",
    "Store",
    "StoreError",
    "StoreUnavailable",
    "TensorDecoder",
    "TooLarge",
    "Tuning",
    "UnknownAlias",
    "UnknownBlob",
    "UnknownModel",
    "UnknownVersion",
    "array_picture",
    "check_model",
    "data_beside",
    "decode_image",
    "decode_rows",
    "decode_tensors",
    "from_model_layout",
    "infer_manifest",
    "pack_background",
    "read_background",
    "to_model_layout",
]
