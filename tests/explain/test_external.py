"""Models whose data lie in files of their own: referred to by programs, read only where they are needed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

import explain

FOLDER = "session.model_external_initializers_file_folder_path"
WIDTH = 40  # a matrix of 1600 elements stays outside, a bias of 40 is read


@pytest.fixture
def inside() -> onnx.ModelProto:
    """A network of two layers with its weights inside."""
    random = np.random.default_rng(0)
    arrays = {
        "first": random.standard_normal((WIDTH, WIDTH)).astype(np.float32),
        "bias": random.standard_normal(WIDTH).astype(np.float32),
        "second": random.standard_normal((WIDTH, WIDTH)).astype(np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["a"]),
        helper.make_node("Add", ["a", "bias"], ["b"]),
        helper.make_node("Tanh", ["b"], ["c"]),
        helper.make_node("Gemm", ["c", "second"], ["y"], transB=1),
    ]
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", WIDTH]) for name in "xy"]
    tensors = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.fixture
def path(inside: onnx.ModelProto, tmp_path: Path) -> Path:
    """The same with all weights in a file beside it."""
    outside = onnx.ModelProto()
    outside.CopyFrom(inside)
    onnx.save_model(outside, tmp_path / "big.onnx", save_as_external_data=True, location="big.data", size_threshold=0)
    return tmp_path / "big.onnx"


def entry(tensor: onnx.TensorProto, key: str) -> onnx.StringStringEntryProto:
    """Where a tensor says that its data lie."""
    return next(each for each in tensor.external_data if each.key == key)


def run(program: explain.Program, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run a program as a runtime does that is handed its constants."""
    options = onnxruntime.SessionOptions()
    values = {n: onnxruntime.OrtValue.ortvalue_from_numpy(np.asarray(a)) for n, a in program.constants(b"").items()}
    for name, value in values.items():
        options.add_initializer(name, value)
    if program.data_folder is not None:
        options.add_session_config_entry(FOLDER, program.data_folder)
    session = onnxruntime.InferenceSession(program.serialize(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


@pytest.mark.parametrize("method", ["integrated_gradients", "saliency", "deeplift", "occlusion"])
def test_explained_as_with_weights_inside(inside: onnx.ModelProto, path: Path, method: str) -> None:
    """Same attributions, whether the weights lie inside or beside."""
    x = np.random.default_rng(1).standard_normal((3, WIDTH)).astype(np.float32)
    none = {"x": np.zeros((1, WIDTH), np.float32)}
    found = [
        explain.attribute(each, {"x": x}, method=method, target=2, baseline=none, run=run) for each in (inside, path)
    ]
    assert np.abs(found[0].values["x"]).max() > 1e-2
    np.testing.assert_allclose(found[1].values["x"], found[0].values["x"], rtol=1e-5, atol=1e-6)


def test_programs_refer_to_the_same_places(path: Path) -> None:
    """Large tensors are references to where the model has them; what is small is in the program."""
    served = {t.name: t for t in onnx.load(path, load_external_data=False).graph.initializer}
    for name in ("forward", "vjp", "path_gradient", "masked_forward", "deeplift"):
        program = explain.compile(path, name)
        held = {t.name: t for t in program.model.graph.initializer}
        for weight in ("first", "second"):
            assert held[weight].external_data == served[weight].external_data
            assert not held[weight].raw_data
        assert held["bias"].raw_data
        assert len(program.serialize()) < 8 * WIDTH * WIDTH
        assert program.external.paths == {"big.data": path.parent / "big.data"}


def test_nothing_is_read_that_is_not_needed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiling maps no large tensor; asked for, it is mapped and cannot be written."""
    mapped: list[int] = []
    real = np.memmap

    def counted(*args: object, **kwargs: object) -> object:
        found = real(*args, **kwargs)  # type: ignore[call-overload]
        mapped.append(found.size)
        return found

    monkeypatch.setattr(np, "memmap", counted)
    handle = explain.Model(path)
    program = explain.compile(handle, "path_gradient")
    assert mapped == [WIDTH], "the bias is read, and no matrix"
    weights = program.constants(b"")
    assert set(weights) == {"first", "second"}
    with pytest.raises(ValueError, match="read-only"):
        weights["first"][0] = 0


def test_digests_cover_the_files(path: Path) -> None:
    """The digest of model and program is that of a list of digests, and changes with any byte of the file."""
    before, program = explain.Model(path).digest, explain.compile(path, "vjp").digest
    data = (path.parent / "big.data").read_bytes()
    graph = hashlib.sha256(path.read_bytes()).hexdigest()
    lines = f"{graph}\n{hashlib.sha256(data).hexdigest()} {len(data)} big.data\n"
    assert explain.Model(path.read_bytes(), data_files={"big.data": path.parent / "big.data"}).digest == before
    assert hashlib.sha256(lines.encode()).hexdigest() == before
    (path.parent / "big.data").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert explain.Model(path).digest != before
    assert explain.compile(path, "vjp").digest != program


def test_other_places_are_named(path: Path, tmp_path: Path) -> None:
    """Bytes and protos know no folder: the files are given, or asked for."""
    x = np.random.default_rng(1).standard_normal((3, WIDTH)).astype(np.float32)
    expected = run(explain.compile(path, "forward"), {"x": x})["y"]
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "big.data").rename(tmp_path / "elsewhere" / "blob")
    data = path.read_bytes()
    for source in (data, onnx.load_model_from_string(data)):
        with pytest.raises(explain.InvalidModel, match="give its path, or data_files"):
            explain.Model(source)
        model = explain.Model(source, data_files={"big.data": tmp_path / "elsewhere" / "blob"})
        program = explain.compile(model, "forward")
        assert program.data_folder == str((tmp_path / "elsewhere").resolve())
        np.testing.assert_array_equal(run(program, {"x": x})["y"], expected)
    with pytest.raises(explain.InvalidModel, match="which is not at hand"):
        explain.Model(data, data_files={})
    with pytest.raises(explain.InvalidModel, match="could not be read: No such file"):
        explain.Model(path)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("location", "../big.data", "not a file beside the model"),
        ("location", "/etc/passwd", "not a file beside the model"),
        ("location", "folder/big.data", "not a file beside the model"),
        ("location", "..", "not a file beside the model"),
        ("offset", "7000", "are not inside"),
        ("offset", "-8", "are not inside"),
        ("length", "6396", "are no float32"),
        ("length", "much", "are no numbers"),
    ],
)
def test_refused_places(path: Path, key: str, value: str, said: str) -> None:
    """What leads out of the folder or the file is refused by a sentence."""
    model = onnx.load(path, load_external_data=False)
    entry(model.graph.initializer[0], key).value = value
    onnx.save(model, path)
    with pytest.raises(explain.InvalidModel, match=said):
        explain.Model(path)


def test_links_are_refused(path: Path) -> None:
    """A link may lead anywhere."""
    (path.parent / "big.data").rename(path.parent / "other")
    (path.parent / "big.data").symlink_to(path.parent / "other")
    with pytest.raises(explain.InvalidModel, match="is a link"):
        explain.Model(path)


def test_data_elsewhere_than_in_initializers(path: Path) -> None:
    """A large Constant of the graph is referred to; what a function or a branch holds is read."""
    model = onnx.load(path, load_external_data=False)
    moved = model.graph.initializer.pop(0)
    constant = helper.make_node("Constant", [], ["first"])
    attribute = constant.attribute.add(name="value", type=onnx.AttributeProto.TENSOR)
    attribute.t.CopyFrom(moved)
    model.graph.node.insert(0, constant)
    onnx.save(model, path)
    held = {t.name: t for t in explain.compile(path, "vjp").model.graph.initializer}
    assert held["first"].data_location == onnx.TensorProto.EXTERNAL
    branch = helper.make_graph([helper.make_node("Identity", ["w"], ["o"])], "b", [], [], [moved])
    branch.initializer[0].name = "w"
    branch.output.add(name="o")
    model.graph.node.append(helper.make_node("If", ["c"], ["z"], then_branch=branch, else_branch=branch))
    read = explain.Model(model, data_files={"big.data": path.parent / "big.data"}).proto.graph.node[-1]
    assert len(read.attribute[0].g.initializer[0].raw_data) == 4 * WIDTH * WIDTH
    assert model.graph.node[-1].attribute[0].g.initializer[0].external_data, "the caller's model is left as it was"


def test_weights_of_a_served_file(path: Path) -> None:
    """What an engine is handed of the served file: all that lies outside, small or large."""
    found = explain.weights(path.read_bytes(), {"big.data": path.parent / "big.data"})
    assert set(found) == {"first", "bias", "second"}
    assert all(isinstance(array, np.memmap) for array in found.values())
    original = onnx.load(path)
    for tensor in original.graph.initializer:
        np.testing.assert_array_equal(found[tensor.name], numpy_helper.to_array(tensor))


def test_randomised_copies_read_the_files(path: Path) -> None:
    """The randomisation test draws from the weights outside."""
    (_, copy), *_ = explain.randomised(path, 0, "all")
    drawn, own = (model.graph.constant("first") for model in (copy, explain.Model(path)))
    assert drawn is not None
    assert own is not None
    assert drawn.shape == own.shape
    assert np.abs(drawn - own).max() > 1


@pytest.mark.slow
def test_a_graph_of_more_than_two_gibibytes_is_refused(inside: onnx.ModelProto) -> None:
    """A proto that no file can hold is refused by a sentence, not by protobuf."""
    tensor = inside.graph.initializer.add(name="huge", data_type=onnx.TensorProto.UINT8, dims=[1 << 31])
    tensor.raw_data = bytes(1 << 31)
    with pytest.raises(explain.InvalidModel, match="save the model with external data"):
        _ = explain.Model(inside).digest
