"""What can go wrong between a trained model and the store, and nothing else.

ExportError
├── UnsupportedModel   the framework's converter has no way to say this model in ONNX; says which part, and advice
├── InvalidExport      what was converted, or handed over with it, contradicts itself
├── CertificateFailed  a certificate that passed is required, and the model has none; says what failed
├── ParityFailed       the exported model does not answer as its source does; names the worst row
├── VariantRefused     the float16 variant of a model cannot be made, or does not answer as the model does; says why
├── InvalidImport      a file given to ``import_onnx`` cannot be read or does not fit the model
└── InvalidBridge      what came to a bridge (rows, tensors, an answer) does not fit the model or cannot be bridged
"""

from __future__ import annotations


class ExportError(Exception):
    """The root: every error this room raises on purpose is one of these."""


class UnsupportedModel(ExportError):
    """A model, or a step of a pipeline, that cannot be exported; the message names it and says what to do instead."""


class InvalidExport(ExportError):
    """The parts of an export (graph, specs, features, background, examples) do not fit each other."""


class ParityFailed(ExportError):
    """The exported model and its source differ by more than the tolerance, from the bytes a client would send."""

    def __init__(self, *, worst: float, tolerance: float, row: int, n: int, cause: str = "") -> None:
        super().__init__(
            f"the exported model differs from its source by {worst:.3g} on row {row} (worst of {n} rows), "
            f"tolerance {tolerance:.3g}; it is not registered" + (f": {cause}" if cause else "")
        )
        self.worst = worst
        self.tolerance = tolerance
        self.row = row
        self.n = n


class CertificateFailed(ExportError):
    """A certificate that passed is required to register a model; the message says what of it failed."""


class VariantRefused(ExportError):
    """The float16 variant of a model cannot be made, run or explained, or is too far from the model's own answers."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the float16 variant is refused: {reason}")


class InvalidImport(ExportError):
    """A file that was to be imported (model, manifest, background) is not usable; names file and reason."""


class InvalidBridge(ExportError):
    """What was handed to a bridge (rows, tensors, an answer) does not fit; names what came and what was expected."""
