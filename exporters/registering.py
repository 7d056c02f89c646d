"""Into the store: the gate first, then the version."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model_store import check_model

from .exported import Exported

if TYPE_CHECKING:
    from model_store import ModelVersion, Store


def register(store: Store, exported: Exported) -> ModelVersion:
    """Publishes a new version of the model after the gate has let its file through.

    Raises model_store's RefusedModel and InvalidManifest, and whatever its store raises.
    """
    check_model(exported.model)
    return store.publish(exported.manifest, exported.files())
