"""External data of a model: what the gate lets pass of it, and how the store keeps it."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from model_store import (
    CorruptBlob,
    FileRef,
    InputSpec,
    InvalidManifest,
    Manifest,
    OutputSpec,
    RefusedModel,
    Store,
    UnknownBlob,
    check_model,
    data_beside,
)

FIRST = np.arange(6, dtype=np.float32).reshape(2, 3)
SECOND = np.arange(3, dtype=np.float32)


def outside(name: str, shape: tuple[int, ...], **place: str | int) -> TensorProto:
    """A float32 tensor whose data lie in weights.bin, unless `place` says otherwise."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape, data_location=TensorProto.EXTERNAL)
    for key, value in {"location": "weights.bin", **place}.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def model(*tensors: TensorProto) -> bytes:
    """y = x @ first + second."""
    nodes = [helper.make_node("MatMul", ["x", "first"], ["h"]), helper.make_node("Add", ["h", "second"], ["y"])]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", n]) for name, n in (("x", 2), ("y", 3)))
    graph = helper.make_graph(nodes, "g", [x], [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()


GOOD = model(outside("first", (2, 3), offset=0, length=24), outside("second", (3,), offset=32, length=12))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The model, and beside it its weights: 24 bytes, 8 of padding, 12 bytes."""
    (tmp_path / "weights.bin").write_bytes(FIRST.tobytes() + bytes(8) + SECOND.tobytes())
    (tmp_path / "model.onnx").write_bytes(GOOD)
    return tmp_path / "model.onnx"


def manifest() -> Manifest:
    """The least that describes the model."""
    x = InputSpec(name="x", kind="tensor", dtype="float32", shape=["N", 2], batch_axis=0)
    y = OutputSpec(name="y", kind="tensor", dtype="float32", shape=["N", 3], batch_axis=0)
    return Manifest(name="big", inputs=[x], outputs=[y])


def test_the_gate_lets_it_pass(path: Path) -> None:
    """With its files; without them it is refused by the name of one."""
    files = data_beside(path, GOOD)
    assert files == {"weights.bin": path.parent / "weights.bin"}
    report = check_model(GOOD, data_files=files)
    assert report.parameters == 9
    assert report.digest == hashlib.sha256(GOOD).hexdigest()
    with pytest.raises(RefusedModel, match=r"outside the file \('weights\.bin'\)"):
        check_model(GOOD)
    inside = model(numpy_helper.from_array(FIRST, "first"), numpy_helper.from_array(SECOND, "second"))
    assert data_beside(path, inside) == {}


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ({"offset": 0}, {"offset": 20}, "its data lie over those of"),
        ({"offset": 0}, {"offset": 0}, "its data lie over those of"),
        ({"offset": 0}, {"offset": 36}, "behind the end of"),
        ({"offset": 0, "length": 20}, {"offset": 32}, "takes 24 bytes, 20 lie outside"),
        ({"offset": -4}, {"offset": 32}, "no place in a file"),
        ({"offset": "9" * 30}, {"offset": 32}, "no place in a file"),
        ({"offset": 0}, {"offset": 32, "basepath": "/"}, "not known"),
        ({"offset": 8}, {"offset": 32}, "bytes 0 to 8 that no tensor holds"),
        ({"offset": 0}, {"offset": 28}, "bytes 40 to 44 that no tensor holds"),
        ({"offset": 0}, {"offset": 32, "location": "other.bin"}, "outside the file"),
    ],
)
def test_places_that_are_refused(path: Path, first: dict[str, int], second: dict[str, int], said: str) -> None:
    """What lies over something else, outside, or unnamed. (Numbers that no tensor holds are those of a tensor here.)"""
    data = model(outside("first", (2, 3), **first), outside("second", (3,), **second))
    with pytest.raises(RefusedModel, match=said):
        check_model(data, data_files={"weights.bin": path.parent / "weights.bin"})


def test_padding_is_short_and_empty(path: Path) -> None:
    """What hides between tensors is refused, and so is a file that nothing refers to."""
    files = {"weights.bin": path.parent / "weights.bin"}
    files["weights.bin"].write_bytes(FIRST.tobytes() + b"\0\0\0\0\1\0\0\0" + SECOND.tobytes())
    with pytest.raises(RefusedModel, match="bytes 24 to 32 that no tensor holds"):
        check_model(GOOD, data_files=files)
    files["weights.bin"].write_bytes(FIRST.tobytes() + bytes(1 << 20) + SECOND.tobytes())
    far = model(outside("first", (2, 3), offset=0), outside("second", (3,), offset=24 + (1 << 20)))
    with pytest.raises(RefusedModel, match="that no tensor holds"):
        check_model(far, data_files=files)
    files["weights.bin"].write_bytes(FIRST.tobytes() + bytes(8) + SECOND.tobytes())
    (path.parent / "more.bin").write_bytes(b"more")
    with pytest.raises(RefusedModel, match="bytes 0 to 4 that no tensor holds"):
        check_model(GOOD, data_files=files | {"more.bin": path.parent / "more.bin"})


@pytest.mark.parametrize("name", ["../weights.bin", "/etc/passwd", "a/b", "..", ".", "", "a\\b", "a\0b", "x" * 256])
def test_names_that_lead_elsewhere(path: Path, name: str) -> None:
    """A name is that of a file beside the model."""
    data = model(outside("first", (2, 3), location=name), outside("second", (3,)))
    with pytest.raises(RefusedModel, match="not a file beside the model"):
        data_beside(path, data)
    told = json.dumps({name: {"digest": "0" * 64, "size": 1}}).encode()
    with pytest.raises(InvalidManifest, match="expected the name of a file"):
        Manifest.from_bytes(manifest().to_bytes().replace(b'"data_files":{}', b'"data_files":' + told))


@pytest.mark.parametrize("kind", ["symbolic", "hard", "folder", "pipe", "none"])
def test_files_that_are_refused(path: Path, kind: str) -> None:
    """Links, folders and pipes are no data files; nobody waits for them."""
    own = path.parent / "weights.bin"
    other = path.parent / "other"
    own.rename(other)
    if kind == "symbolic":
        own.symlink_to(other)
    elif kind == "hard":
        own.hardlink_to(other)
    elif kind == "folder":
        own.mkdir()
    elif kind == "pipe":
        os.mkfifo(own)
    with pytest.raises(RefusedModel, match=r"its data file 'weights\.bin' (cannot be opened|is no ordinary file)"):
        check_model(GOOD, data_files={"weights.bin": own})


def test_only_initializers_of_the_graph_lie_outside(path: Path) -> None:
    """A Constant's data are inside."""
    proto = onnx.load_model_from_string(model(outside("second", (3,), offset=0, length=12)))
    proto.graph.node.insert(0, helper.make_node("Constant", [], ["first"], value=outside("first", (2, 3), offset=12)))
    with pytest.raises(RefusedModel, match="attribute 'value': its data lie outside"):
        check_model(proto.SerializeToString(), data_files={"weights.bin": path.parent / "weights.bin"})


def test_a_version_has_its_data(path: Path, tmp_path: Path) -> None:
    """Published from a file, resolved with its place, verified, kept by the collector; the digest covers it."""
    store = Store(tmp_path / "store")
    files = data_beside(path, GOOD)
    published = store.publish(manifest(), {"model": GOOD, "data/weights.bin": files["weights.bin"]})
    content = files["weights.bin"].read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    assert published.manifest.data_files == {"weights.bin": FileRef(digest, len(content))}
    graph = hashlib.sha256(GOOD).hexdigest()
    lines = f"{graph}\n{digest} {len(content)} weights.bin\n"
    assert published.model_digest == hashlib.sha256(lines.encode()).hexdigest()
    again = store.resolve("big")
    assert again.model_digest == published.model_digest
    assert again.data_files()["weights.bin"].read_bytes() == content
    assert store.gc().blobs == ()
    assert store.verify() == []
    check_model(again.file("model"), data_files=again.data_files())
    files["weights.bin"].write_bytes(content[:-1] + b"\1")
    other = store.publish(manifest(), {"model": GOOD, "data/weights.bin": files["weights.bin"]})
    assert other.manifest.files == again.manifest.files
    assert other.model_digest != again.model_digest


def test_damaged_data_are_found(path: Path, tmp_path: Path) -> None:
    """Whoever asks for the files, and whoever verifies the store, hears of it."""
    store = Store(tmp_path / "store")
    version = store.publish(manifest(), {"model": GOOD, "data/weights.bin": path.parent / "weights.bin"})
    blob = version.data_files()["weights.bin"]
    blob.write_bytes(b"x")
    with pytest.raises(CorruptBlob):
        version.data_files()
    assert [problem.problem for problem in store.verify() if "of 44 bytes" in problem.problem]
    blob.unlink()
    with pytest.raises(UnknownBlob):
        version.data_files()


def test_a_writer_that_died_leaves_what_the_collector_takes(path: Path, tmp_path: Path) -> None:
    """Half a copy is no blob."""
    store = Store(tmp_path / "store")
    store.publish(manifest(), {"model": GOOD, "data/weights.bin": path.parent / "weights.bin"})
    half = tmp_path / "store" / "blobs" / "sha256" / ".tmp-1-2"
    half.write_bytes(b"half")
    assert store.verify() == []
    assert store.gc().leftovers == ("blobs/sha256/.tmp-1-2",)
    assert not half.exists()


def test_a_role_of_another_name_is_refused(path: Path, tmp_path: Path) -> None:
    """Data files have plain names there too."""
    with pytest.raises(InvalidManifest, match="is no role"):
        Store(tmp_path / "store").publish(manifest(), {"model": GOOD, "data/../x": path})
