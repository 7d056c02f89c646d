"""Background sets as files: what is packed is read back, and what is no set is refused by name."""

import io

import numpy as np
import pytest

from model_store import BackgroundSet, FileRef, InvalidManifest, Manifest, Store, pack_background, read_background
from model_store.backgrounds import weight_key

ROWS = {"x": np.arange(6, dtype=np.float32).reshape(3, 2), "ids": np.array([[1], [2], [3]])}
WEIGHT = np.array([0.5, 0.25, 0.25])


@pytest.mark.parametrize("inputs", [("x", "ids"), ("weight", "ids"), ("weight", "weight'")])
def test_rows_and_weights_come_back_whatever_inputs_are_called(inputs):
    rows = dict(zip(inputs, ROWS.values(), strict=True))
    found, weight = read_background(pack_background(rows, WEIGHT), inputs, "backgrounds.a")
    assert {name: array.dtype for name, array in found.items()} == {name: array.dtype for name, array in rows.items()}
    for name, array in rows.items():
        np.testing.assert_array_equal(found[name], array)
    np.testing.assert_array_equal(weight, WEIGHT)
    assert weight_key(inputs) not in inputs
    assert read_background(pack_background(rows), inputs, "a")[1] is None
    assert pack_background(rows, WEIGHT) == pack_background(rows, WEIGHT)


def npz(**arrays):
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"no npz", "is no npz of plain arrays"),
        (npz(x=np.array([{}], dtype=object)), "is no npz of plain arrays"),
        (npz(y=np.zeros((2, 1))), "one array for each input"),
        (npz(x=np.zeros((2, 1)), weight=np.ones(3)), "same number of rows"),
        (npz(x=np.zeros((0, 1))), "same number of rows"),
        (npz(x=np.zeros(())), "same number of rows"),
    ],
)
def test_what_is_no_set_is_refused(data, problem):
    with pytest.raises(InvalidManifest, match=f"backgrounds.recent.*{problem}"):
        read_background(data, ["x"], "backgrounds.recent")


def with_sets(manifest, **sets):
    fields = {name: getattr(manifest, name) for name in type(manifest).__struct_fields__}
    return Manifest(**{**fields, "backgrounds": sets})


@pytest.fixture
def draft(mixed):
    return mixed


def test_sets_are_published_found_and_kept(draft, tmp_path):
    store = Store(tmp_path)
    data = pack_background(ROWS, WEIGHT)
    described = BackgroundSet(rows=3, kind="kmeans", weights=True, note="of this year")
    version = store.publish(with_sets(draft, recent=described), {"model": b"m", "background/recent": data})
    again = store.resolve(draft.name)
    assert again.manifest == version.manifest
    told = again.manifest.backgrounds["recent"]
    assert (told.rows, told.kind, told.weights, told.note) == (3, "kmeans", True, "of this year")
    assert again.has("background/recent")
    assert again.file("background/recent") == data
    assert store.gc().blobs == ()
    assert store.verify() == []
    store._blobs.place(told.file.digest).unlink()
    assert [problem.problem for problem in store.verify()] == [
        f"its background/recent (digest {told.file.digest}) is not in the store"
    ]


def test_a_manifest_from_before_has_no_sets(draft):
    text = draft.to_bytes().replace(b'"backgrounds":{},', b"")
    assert b"backgrounds" not in text
    assert Manifest.from_bytes(text).backgrounds == {}


@pytest.mark.parametrize(
    ("sets", "files", "problem"),
    [
        ({"recent": BackgroundSet(rows=3)}, {}, "backgrounds.recent.file: is missing"),
        ({}, {"background/recent": b""}, "backgrounds: has no 'recent', and a file came for it"),
        ({}, {"notes": b""}, "files.notes: is no role"),
        ({"recent": BackgroundSet(rows=0)}, {"background/recent": b""}, "backgrounds.recent.rows: got 0"),
        ({"no name/": BackgroundSet(rows=1)}, {"background/no name/": b""}, "backgrounds: got 'no name/', expected"),
        (
            {"recent": BackgroundSet(rows=1, file=FileRef("0", 1))},
            {},
            "backgrounds.recent.file.digest: got '0', expected 64",
        ),
    ],
)
def test_sets_that_make_no_sense_are_refused(draft, tmp_path, sets, files, problem):
    with pytest.raises(InvalidManifest) as refused:
        Store(tmp_path).publish(with_sets(draft, **sets), {"model": b"m", **files})
    assert problem in str(refused.value)


def test_the_default_set_is_one(draft, tmp_path):
    store = Store(tmp_path)
    data = pack_background(ROWS)
    first = store.publish(with_sets(draft, default=BackgroundSet(rows=3)), {"model": b"m", "background/default": data})
    assert first.file("background/default") == data
    both = {"model": b"m", "background": data, "background/default": data}
    with pytest.raises(InvalidManifest, match="stands beside files"):
        store.publish(with_sets(draft, default=BackgroundSet(rows=3)), both)
