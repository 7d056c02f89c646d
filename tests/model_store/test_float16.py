"""A version may carry the same network in half precision: its file, its digest, and which of the two is run."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from model_store import InputSpec, InvalidManifest, Manifest, OutputSpec, Store

OWN, HALF = b"the graph", b"the same in halves"
# Of the manifest below as it was written before there were variants.
DIGEST_BEFORE = "33418730ad567f6f8099d45557f906549f6e7fc4248919357c1623b4c6150e8c"


def manifest(dtype: str = "float32") -> Manifest:
    """The least that describes a model."""
    x = InputSpec(name="x", kind="tensor", dtype=dtype, shape=["N", 2], batch_axis=0)
    y = OutputSpec(name="y", kind="tensor", dtype="float32", shape=["N", 3], batch_axis=0)
    return Manifest(name="net", created="2026-01-01T00:00:00+00:00", inputs=[x], outputs=[y])


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_manifests_without_one_are_what_they_were(tmp_path: Path) -> None:
    version = Store(tmp_path).publish(manifest(), {"model": OWN})
    assert version.digest == version.manifest.digest() == DIGEST_BEFORE
    assert version.precisions == ("float32",)
    assert version.preferring("float16") == version


def test_the_store_says_which_file_is_run(tmp_path: Path) -> None:
    """The digest, the bytes and the data files are those of the file that is run; the version is the same."""
    data = tmp_path / "w"
    data.write_bytes(b"weights")
    own = Store(tmp_path / "s").publish(manifest(), {"model": OWN, "model_float16": HALF, "data/w": data})
    assert (own.precision, own.model_role, own.precisions) == ("float32", "model", ("float32", "float16"))
    half = Store(tmp_path / "s", precision="float16").resolve("net")
    assert (half.precision, half.model_role, half.model_digest) == ("float16", "model_float16", sha256(HALF))
    assert (half.file(half.model_role), half.data_files()) == (HALF, {})
    assert half.digest == own.digest
    assert half.preferring("float32") == own == Store(tmp_path / "s").resolve("net")
    assert [half.running(each.model_digest).precision for each in (own, half)] == ["float32", "float16"]
    assert half.running("0" * 64) is half  # of no file of its own
    assert own.model_digest not in (half.model_digest, sha256(OWN))  # it covers its data file
    assert list(own.data_files()) == ["w"]


def test_a_variant_is_kept_and_checked_as_any_file(tmp_path: Path) -> None:
    store = Store(tmp_path)
    version = store.publish(manifest(), {"model": OWN, "model_float16": HALF})
    assert store.gc().blobs == ()
    assert store.get_blob(sha256(HALF)) == HALF
    assert Manifest.from_bytes(version.manifest.to_bytes()) == version.manifest
    place = tmp_path / "blobs" / "sha256" / sha256(HALF)[:2] / sha256(HALF)[2:]
    assert store.verify() == []
    place.unlink()
    assert [problem.problem for problem in store.verify()] == [
        f"its model_float16 (digest {sha256(HALF)}) is not in the store"
    ]


def test_a_model_of_halves_has_no_variant_of_halves(tmp_path: Path) -> None:
    with pytest.raises(InvalidManifest, match=r"files\.model_float16.* takes or gives float16 itself"):
        Store(tmp_path).publish(manifest("float16"), {"model": OWN, "model_float16": HALF})
