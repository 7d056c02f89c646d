"""One version of a model as the store hands it out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from .blobs import Blobs
from .errors import UnknownBlob
from .manifest import Manifest, Precision, Role
from .references import model_digest
from .tuning import Tuning


@dataclass(frozen=True)
class ModelVersion:
    """One published version. `digest` is the manifest's, and so covers every file the version has.

    `renewed` is the digest of a certificate that was made after publishing, `tuning_digest` that of how it is run here;
    None where there is none. `precision` says which of its files is run.
    """

    name: str
    version: int
    digest: str
    manifest: Manifest
    archived: bool
    _blobs: Blobs = field(repr=False, compare=False)
    renewed: str | None = None
    tuning_digest: str | None = None
    precision: Precision = "float32"

    @property
    def model_role(self) -> Role:
        """The role of the ONNX file that is run: the version's own, or its variant in half precision."""
        return "model" if self.precision == "float32" else "model_float16"

    @property
    def model_digest(self) -> str:
        """The SHA-256 of the ONNX file that is run; where data files go with it, it covers them too."""
        return (
            model_digest(self.manifest) if self.model_role == "model" else self.manifest.files[self.model_role].digest
        )

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """What it can be run in: "float32" stands for its own file, in whatever that computes."""
        return ("float32", "float16") if self.has("model_float16") else ("float32",)

    def preferring(self, precision: Precision) -> ModelVersion:
        """The same version, run from its file of this precision where it has one, else from its own."""
        chosen = precision if precision in self.precisions else "float32"
        return self if chosen == self.precision else replace(self, precision=chosen)

    def running(self, digest: str) -> ModelVersion:
        """The same version, run from its file of this digest where it has one, else as it is."""
        each = (self.preferring(precision) for precision in self.precisions)
        return next((version for version in each if version.model_digest == digest), self)

    def has(self, role: str) -> bool:
        """Whether the version carries a file of this role, or of a background set ("background/name")."""
        return role in self.manifest.every_file

    def file(self, role: str) -> bytes:
        """The verified bytes of a file. Raises UnknownBlob if the version has none of this role, CorruptBlob."""
        if role not in self.manifest.every_file:
            raise UnknownBlob(f"{self.name}/{self.version}:{role}")
        return self._blobs.get(self.manifest.every_file[role].digest)

    def data_files(self) -> dict[str, Path]:
        """Where the external data of the file that is run lie, verified, by the names it has for them; files of the
        store, to be read only. Raises UnknownBlob, CorruptBlob."""
        if self.model_role != "model":
            return {}
        return {name: self._blobs.whole(file.digest) for name, file in self.manifest.data_files.items()}

    @property
    def certificate_digest(self) -> str | None:
        """The SHA-256 of the latest certificate; None where the version has none."""
        if self.renewed is not None:
            return self.renewed
        return self.manifest.files["certificate"].digest if self.has("certificate") else None

    def certificate(self) -> bytes | None:
        """The verified bytes of the latest certificate, JSON; None where there is none. Raises UnknownBlob (it is not
        in the store), CorruptBlob."""
        digest = self.certificate_digest
        return None if digest is None else self._blobs.get(digest)

    def tuning(self) -> Tuning | None:
        """How it is run on this machine, as measured; None where nobody has. Raises UnknownBlob, CorruptBlob,
        InvalidTuning."""
        return None if self.tuning_digest is None else Tuning.from_bytes(self._blobs.get(self.tuning_digest))
