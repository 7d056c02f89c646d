"""The manifest as a document: canonical, typed, and refused with the path of what is wrong."""

import hashlib
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_store import Batching, FileRef, InputSpec, InvalidManifest, Manifest, OutputSpec


def minimal(**more):
    return {
        "name": "m",
        "inputs": [{"name": "x", "kind": "tensor", "dtype": "float32", "shape": [None, 2], "batch_axis": 0}],
        "outputs": [{"name": "y", "kind": "tensor", "dtype": "float32", "shape": [None], "batch_axis": 0}],
        **more,
    }


def read(document) -> Manifest:
    return Manifest.from_bytes(json.dumps(document).encode())


def test_reading_what_was_written_gives_the_same_manifest(mixed, grey):
    for manifest in (mixed, grey):
        assert Manifest.from_bytes(manifest.to_bytes()) == manifest
        assert Manifest.from_bytes(manifest.to_bytes()).to_bytes() == manifest.to_bytes()


def test_the_bytes_are_canonical_and_the_digest_is_their_sha256(mixed):
    text = mixed.to_bytes()
    # For texts in ASCII and whole numbers, sorted keys without blanks are the canonical form.
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":")).encode()
    assert mixed.digest() == hashlib.sha256(text).hexdigest()


def test_the_order_of_keys_in_the_source_does_not_matter():
    document = minimal(metrics={"a": 1.0, "b": 0.5})
    turned = dict(reversed(list(document.items())))
    assert read(document).digest() == read(turned).digest()


@given(st.dictionaries(st.text(max_size=5), st.floats(allow_nan=False, allow_infinity=False), max_size=5))
def test_any_metrics_survive_writing_and_reading(metrics):
    manifest = read(minimal(metrics=metrics)) if all(_encodable(name) for name in metrics) else None
    if manifest is not None:
        assert Manifest.from_bytes(manifest.to_bytes()).metrics == metrics


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@pytest.mark.parametrize(
    ("change", "path", "told"),
    [
        ({"colour": 1}, "manifest", "colour"),
        ({"name": "../up"}, "name", "../up"),
        ({"name": ""}, "name", "100 letters"),
        ({"name": "a" * 101}, "name", "100 letters"),
        ({"schema_version": 2}, "schema_version", "2"),
        ({"created": "yesterday"}, "created", "RFC 3339"),
        ({"created": "2026-01-01T00:00:00"}, "created", "zone"),
        ({"files": {"model": {"digest": "abc", "size": 1}}}, "files.model.digest", "64"),
        ({"files": {"model": {"digest": "a" * 64, "size": -1}}}, "files.model.size", "-1"),
        ({"files": {"script": {"digest": "a" * 64, "size": 1}}}, "files", "script"),
        ({"inputs": []}, "inputs", "at least one"),
        ({"outputs": []}, "outputs", "at least one"),
        ({"metrics": {"a": "b"}}, "metrics", "float"),
        ({"explanation": {"method": "x"}}, "explanation.method", "'x'"),
        ({"explanation": {"output": "z"}}, "explanation.output", "'y'"),
        ({"explanation": {"methods": ["a", "a"]}}, "explanation.methods[1]", "'a'"),
        ({"explanation": {"methods": ["a"], "refused": {"a": "no"}}}, "explanation.refused.a", "both"),
        ({"batching": {"mode": "rows"}}, "batching.mode", "rows"),
    ],
)
def test_each_fault_is_told_with_its_path(change, path, told):
    with pytest.raises(InvalidManifest) as caught:
        read(minimal(**change))
    assert caught.value.path.startswith(path)
    assert told in str(caught.value)


def test_the_minimal_manifest_of_these_tests_is_valid():
    assert read(minimal()).name == "m"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"name": "a", "name": "b"}',
        b'{"name": "m", "metrics": {"a": NaN}, "inputs": [], "outputs": []}',
        json.dumps(minimal()).replace('"m"', '"\\ud800"').encode(),
    ],
)
def test_what_is_no_json_document_of_this_kind_is_refused(text):
    with pytest.raises(InvalidManifest):
        Manifest.from_bytes(text)


@given(st.binary(max_size=200))
def test_no_bytes_cause_another_error(data):
    with pytest.raises(InvalidManifest):
        Manifest.from_bytes(data)


def test_a_manifest_built_in_python_is_checked_as_one_that_is_read(mixed):
    wrong = msgspec.structs.replace(mixed, metrics={"a": "high"})
    with pytest.raises(InvalidManifest, match="metrics"):
        wrong.to_bytes()
    with pytest.raises(InvalidManifest, match="finite"):
        msgspec.structs.replace(mixed, metrics={"a": float("nan")}).to_bytes()
    with pytest.raises(InvalidManifest, match="canonical JSON"):
        msgspec.structs.replace(mixed, lineage={"seed": 1 << 60}).to_bytes()
    with pytest.raises(InvalidManifest, match="JSON cannot"):
        msgspec.structs.replace(mixed, lineage={"code": object()}).to_bytes()


def test_item_shapes_leave_the_batch_axis_out():
    assert InputSpec("x", "tensor", "float32", ["t", None, 3], 1).item_shape == ("t", 3)
    assert OutputSpec("x", "tensor", "float32", [4, 3], None).item_shape == (4, 3)


def test_files_and_inputs_are_found_by_name(mixed):
    filled = mixed.with_files({"model": FileRef("a" * 64, 3)}, "2026-01-01T00:00:00+00:00")
    assert filled.validated().files["model"].size == 3
    assert mixed.input("codes").dtype == "int64"
    with pytest.raises(InvalidManifest, match="nothing"):
        mixed.input("nothing")
    assert Batching().mode == "item"
