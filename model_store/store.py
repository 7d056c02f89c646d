"""The store: a folder of immutable blobs, and for each model its versions and aliases. No database, no server.

Publishing puts the files, then the manifest that names them by digest, then takes a version number by linking a
file that holds the manifest's digest; so whoever sees a version sees all of it. Reading needs no lock and no right
to write. Writers share a lock that the collector takes alone, so nothing is collected between a blob and the
version that names it. A certificate and a tuning may be renewed without a new version: a pointer names the latest.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from .blobs import Blobs
from .errors import (
    Conflict,
    InvalidManifest,
    StoreUnavailable,
    UnknownAlias,
    UnknownModel,
    UnknownVersion,
)
from .files import changed_at, flush_folder, locked, make_folder, names_in, translated
from .manifest import FileRef, Manifest, Precision
from .model_version import ModelVersion
from .pointers import RENEWABLE, Pointers, Renewable, check_alias, is_version
from .references import check_files, with_references
from .tuning import Tuning
from .validation import NAME
from .verify import Problem, problems, read_manifest

DEFAULT_ALIAS = "default"


@dataclass(frozen=True)
class GcReport:
    """What the collector removed: digests of blobs, leftover files, and the bytes that came free."""

    blobs: tuple[str, ...]
    leftovers: tuple[str, ...]
    bytes: int


class Store:
    """A store in a folder. With `create`, the folder is made if it is not there. The versions it hands out are run in
    `precision`, where they have a file of that.

    Every method raises StoreUnavailable if the file system refuses.
    """

    def __init__(self, root: Path | str, create: bool = True, precision: Precision = "float32") -> None:
        self.root = Path(root).absolute()
        self._precision: Precision = precision
        self._blobs = Blobs(self.root)
        self._models = self.root / "models"
        if create:
            with translated("be made"):
                make_folder(self.root / "blobs" / "sha256")
                make_folder(self._models)
        elif not self._models.is_dir():
            raise StoreUnavailable(f"there is no store in {self.root}")

    # Blobs

    def put_blob(self, data: bytes) -> str:
        """Keep the bytes; their SHA-256 as 64 hex digits. Until a version names it, `gc` needs it in `keep`."""
        with self._writing():
            return self._blobs.put(data)

    def get_blob(self, digest: str) -> bytes:
        """The bytes of this digest, hashed again. Raises UnknownBlob, CorruptBlob."""
        return self._blobs.get(digest)

    # Versions

    def publish(self, manifest: Manifest, files: Mapping[str, bytes | Path]) -> ModelVersion:
        """Publish a new version of `manifest.name` with these files, by role or as "background/name" of a set, or
        "data/name" of external data; as bytes, or as a path from which they are copied.

        References already in the manifest stay, if their blobs are in the store and whole. `created` is filled
        if it is empty. Raises InvalidManifest (also when there is no "model"), UnknownBlob, CorruptBlob.
        """
        check_files(manifest, files)
        created = manifest.created or datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        manifest = manifest.with_files(dict(manifest.files), created).validated()
        if "model" not in files and "model" not in manifest.files:
            raise InvalidManifest("files.model", "is missing; a version has a model")
        with self._writing():
            references = manifest.every_file
            for role, reference in references.items():
                if role not in files and self._blobs.whole(reference.digest).stat().st_size != reference.size:
                    raise InvalidManifest(f"files.{role}.size", f"got {reference.size}, the blob has another")
            for role, data in files.items():
                references[role] = FileRef(*self._blobs.keep(data))
            manifest = with_references(manifest, references, created)
            digest = self._blobs.put(manifest.to_bytes())
            version = Pointers(self.root, manifest.name).add_version(digest)
        return ModelVersion(manifest.name, version, digest, manifest, False, self._blobs).preferring(self._precision)

    def resolve(self, name: str, version: int | str | None = None) -> ModelVersion:
        """One version: by number (int or digits), by alias, or by None the alias "default" if it is set, else the
        highest that is not archived. Raises UnknownModel, UnknownVersion, UnknownAlias, CorruptBlob.
        """
        pointers = self._pointers(name)
        known = self._known(pointers, name)
        if version is None:
            number = pointers.alias(DEFAULT_ALIAS)
            if number is None:
                offered = [each for each in known if each not in pointers.archived()]
                if not offered:
                    raise UnknownVersion(name, "that is not archived", known)
                number = offered[-1]
        else:
            number = self._number(pointers, name, version, known)
        return self._load(pointers, name, number, known)

    def changed_at(self, name: str) -> int | None:
        """When anything that `resolve` reads of a model was last changed through a store, in nanoseconds; None where
        there is no such model. What was resolved stays right until this differs; it costs a few microseconds.
        """
        return changed_at(f"{self._models}/{name}") if NAME.fullmatch(name) else None

    def models(self) -> list[str]:
        """The names of all models that have a version, sorted."""
        with translated("list its models"):
            names = [name for name in names_in(self._models) if NAME.fullmatch(name)]
        return [name for name in names if Pointers(self.root, name).versions()]

    def numbers(self, name: str, archived: bool = True) -> list[int]:
        """The version numbers of a model, ascending, with the archived ones or without; the versions are not read, so
        a damaged one is among them. Raises UnknownModel.
        """
        pointers = self._pointers(name)
        hidden = set() if archived else pointers.archived()
        return [number for number in self._known(pointers, name) if number not in hidden]

    def versions(self, name: str) -> list[ModelVersion]:
        """All versions of a model, ascending, archived ones too. Raises UnknownModel, CorruptBlob."""
        pointers = self._pointers(name)
        known = self._known(pointers, name)
        return [self._load(pointers, name, number, known) for number in known]

    def archive(self, name: str, version: int | str, archived: bool = True) -> None:
        """Archive a version, or bring it back. An archived version is served only where its number is asked for.

        Raises Conflict if an alias stands for it, UnknownModel, UnknownVersion, UnknownAlias.
        """
        pointers = self._pointers(name)
        number = self._number(pointers, name, version, self._known(pointers, name))
        with self._writing():
            holders = [alias for alias in pointers.aliases() if pointers.alias(alias) == number]
            if archived and holders:
                raise Conflict(
                    f"version {number} of {name!r} cannot be archived: the alias {holders[0]!r} stands for it"
                )
            pointers.archive(number, archived)

    # What may be renewed without a new version

    def set_certificate(self, name: str, version: int | str, data: bytes) -> ModelVersion:
        """Keep a certificate of a version, in the place of any that it had; the version and its digest stay the same.

        Raises UnknownModel, UnknownVersion, UnknownAlias, CorruptBlob.
        """
        return self._renew("certificates", name, version, data)

    def set_tuning(self, name: str, version: int | str, tuning: Tuning | None) -> ModelVersion:
        """Keep how a version is run, in the place of what was kept before; None forgets it.

        Raises UnknownModel, UnknownVersion, UnknownAlias, InvalidTuning, CorruptBlob.
        """
        return self._renew("tuning", name, version, None if tuning is None else tuning.to_bytes())

    def _renew(self, kind: Renewable, name: str, version: int | str, data: bytes | None) -> ModelVersion:
        pointers = self._pointers(name)
        known = self._known(pointers, name)
        number = self._number(pointers, name, version, known)
        with self._writing():
            if data is None:
                pointers.remove_renewed(kind, number)
            else:
                pointers.renew(kind, number, self._blobs.put(data))
        return self._load(pointers, name, number, known)

    # Aliases

    def aliases(self, name: str) -> dict[str, int]:
        """Each alias of a model with its version. Raises UnknownModel, CorruptBlob."""
        pointers = self._pointers(name)
        self._known(pointers, name)
        found = {alias: pointers.alias(alias) for alias in pointers.aliases()}
        return {alias: number for alias, number in found.items() if number is not None}

    def set_alias(self, name: str, alias: str, version: int | str) -> None:
        """Point an alias at a version, given by number or by another alias.

        Raises InvalidName, UnknownModel, UnknownVersion, UnknownAlias; Conflict if the version is archived.
        """
        check_alias(alias)
        pointers = self._pointers(name)
        number = self._number(pointers, name, version, self._known(pointers, name))
        with self._writing():
            if number in pointers.archived():
                raise Conflict(f"version {number} of {name!r} is archived; an alias stands for an offered version")
            pointers.set_alias(alias, number)

    def remove_alias(self, name: str, alias: str) -> None:
        """Remove an alias; its version stays. Raises UnknownModel, UnknownAlias."""
        pointers = self._pointers(name)
        self._known(pointers, name)
        with self._writing():
            if not (NAME.fullmatch(alias) and pointers.remove_alias(alias)):
                raise UnknownAlias(name, alias, pointers.aliases())

    # Care

    def gc(self, keep: Iterable[str] = ()) -> GcReport:
        """Remove the blobs that no version's manifest names and that are not in `keep`, and what dead writers left.

        Stops before it removes anything if a manifest cannot be read: what that one names is not known.
        """
        with translated("be collected"), locked(self._lock, exclusive=True):
            needed = set(keep)
            for name in self.models():
                for version in self.versions(name):
                    needed.add(version.digest)
                    needed.update(file.digest for file in version.manifest.every_file.values())
                    needed.update(digest for digest in (version.renewed, version.tuning_digest) if digest)
            doomed = [(digest, path) for digest, path in self._blobs.all() if digest and digest not in needed]
            leftovers = list(self._leftovers())
            freed = 0
            for path in [path for _, path in doomed] + leftovers:
                freed += path.stat().st_size
                path.unlink()
            for folder in {path.parent for _, path in doomed}:
                flush_folder(folder)
        return GcReport(
            tuple(digest for digest, _ in doomed), tuple(self._blobs.relative(path) for path in leftovers), freed
        )

    def verify(self) -> list[Problem]:
        """Read everything and say what is wrong; an empty list is a sound store. Leftovers of dead writers are
        sound."""
        return problems(self.root, self._blobs)

    # Within

    @property
    def _lock(self) -> Path:
        return self.root / ".lock"

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with translated("be written"), locked(self._lock, exclusive=False):
            yield

    def _leftovers(self) -> Iterator[Path]:
        yield from self._blobs.leftovers()
        for name in names_in(self._models):
            yield from Pointers(self.root, name).leftovers()

    def _pointers(self, name: str) -> Pointers:
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise UnknownModel(name)
        return Pointers(self.root, name)

    def _known(self, pointers: Pointers, name: str) -> list[int]:
        known = pointers.versions()
        if not known:
            raise UnknownModel(name)
        return known

    def _number(self, pointers: Pointers, name: str, version: int | str, known: list[int]) -> int:
        if isinstance(version, bool) or not isinstance(version, int | str):
            raise UnknownVersion(name, version, known)
        if isinstance(version, str) and version.isdigit():
            if not is_version(version):
                raise UnknownVersion(name, version, known)
            version = int(version)
        if isinstance(version, int):
            if version not in known:
                raise UnknownVersion(name, version, known)
            return version
        number = pointers.alias(version) if NAME.fullmatch(version) else None
        if number is None:
            raise UnknownAlias(name, version, pointers.aliases())
        return number

    def _load(self, pointers: Pointers, name: str, number: int, known: list[int]) -> ModelVersion:
        digest = pointers.manifest_digest(number)
        if digest is None:
            raise UnknownVersion(name, number, known)
        manifest = read_manifest(self._blobs, name, number, digest)
        renewed, tuned = (pointers.renewed_digest(kind, number) for kind in RENEWABLE)
        archived = number in pointers.archived()
        version = ModelVersion(name, number, digest, manifest, archived, self._blobs, renewed, tuned)
        return version.preferring(self._precision)
