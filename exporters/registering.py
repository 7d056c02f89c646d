"""Into the store: the gate first, then the certificate where one is required, then the version."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model_store import check_model

from .errors import CertificateFailed
from .exported import Exported
from .float16 import check_variant

if TYPE_CHECKING:
    from model_store import ModelVersion, Store


def register(store: Store, exported: Exported, *, require_certificate: bool = False) -> ModelVersion:
    """Publishes a new version of the model after the gate has let its file through, and its float16 variant.

    require_certificate  publish nothing whose certificate is missing or has not passed

    Raises CertificateFailed, VariantRefused, model_store's RefusedModel and InvalidManifest, and whatever its store
    raises.
    """
    check_model(exported.model, data_files=exported.data_files)
    if exported.float16 is not None:
        check_variant(exported)
    if require_certificate:
        require_passed(exported)
    return store.publish(exported.manifest, exported.files())


def require_passed(exported: Exported) -> None:
    """Nothing, for an export whose certificate has passed. Raises CertificateFailed, which says what failed."""
    name, found = exported.manifest.name, exported.certificate
    if found is None:
        raise CertificateFailed(f"{name!r} has no certificate; it is not registered")
    if found.get("passed") is not True:
        raise CertificateFailed(
            f"the certificate of {name!r} failed; it is not registered: " + "; ".join(found["failures"])
        )
