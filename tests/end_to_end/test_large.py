"""A model of more than 2 GB, whose file the test makes (with holes, so that it takes little of a disk)."""

from __future__ import annotations

import multiprocessing
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import engine
import explain
import exporters
import model_store

WIDTH, LAYERS, USED = 6400, 16, 8
SIZE = 4 * WIDTH * WIDTH * LAYERS
FACTOR = 1.25


def write(folder: Path) -> Path:
    """y = relu(... relu(x @ W) ... @ W): each matrix moves the first `USED` elements one place on, times `FACTOR`."""
    tensors, nodes, name = [], [], "x"
    with (folder / "big.data").open("wb") as file:
        file.truncate(SIZE)
        for layer in range(LAYERS):
            start = layer * (SIZE // LAYERS)
            for row in range(USED):
                file.seek(start + 4 * (row * WIDTH + (row + 1) % USED))
                file.write(np.float32(FACTOR).tobytes())
            tensor = TensorProto(name=f"w{layer}", data_type=TensorProto.FLOAT, dims=[WIDTH, WIDTH])
            tensor.data_location = TensorProto.EXTERNAL
            where = {"location": "big.data", "offset": str(start), "length": str(SIZE // LAYERS)}
            for key, value in where.items():
                tensor.external_data.add(key=key, value=value)
            tensors.append(tensor)
            nodes.append(helper.make_node("MatMul", [name, tensor.name], [f"h{layer}"]))
            nodes.append(helper.make_node("Relu", [f"h{layer}"], [name := f"r{layer}"]))
    ends = [helper.make_tensor_value_info(end, TensorProto.FLOAT, ["N", WIDTH]) for end in ("x", name)]
    graph = helper.make_graph(nodes, "big", ends[:1], ends[1:], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), folder / "big.onnx")
    return folder / "big.onnx"


def peak() -> int:
    """The most bytes of this process that were resident."""
    return 1024 * int(re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[0])


def work(folder: Path, answers: Any) -> None:
    """Import the model, and explain it with the session of the served file beside those of the programs."""
    path, runner = folder / "big.onnx", engine.InProcessEngine(threads=1)
    store = model_store.Store(folder / "store")
    version, _ = exporters.import_onnx(path, name="big", store=store, engine=runner)
    runner.close()
    del runner
    imported = peak()
    model = explain.Model(version.file("model"), data_files=version.data_files())
    runner = engine.InProcessEngine(threads=1)
    x = np.linspace(1, 2, WIDTH, dtype=np.float32)[None]
    target = LAYERS % USED
    found = explain.attribute(
        model,
        {"x": x},
        method="integrated_gradients",
        baseline={"x": np.zeros_like(x)},
        target=target,
        run=lambda program, feeds: runner.run(program, feeds).outputs,
    )
    sizes = [len(explain.compile(model, program).serialize()) for program in ("path_gradient", "vjp", "masked_forward")]
    answers.put((imported, peak(), max(sizes), model.digest == version.model_digest, found.values["x"], x))


@pytest.mark.slow
def test_imported_and_explained_in_little_more_than_its_size(tmp_path: Path) -> None:
    """At most 1.2 times its size is ever resident, its programs are small, and the attributions are the formula's."""
    write(tmp_path)
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    process = context.Process(target=work, args=(tmp_path, answers))
    process.start()
    imported, explained, largest, same, values, x = answers.get(timeout=900)
    process.join(60)
    assert SIZE > 1 << 31
    assert imported < 1.2 * SIZE
    assert explained < 1.2 * SIZE
    assert largest < 100_000
    assert same
    expected = np.zeros(WIDTH)
    expected[0] = FACTOR**LAYERS * x[0, 0]
    np.testing.assert_allclose(values[0], expected, rtol=1e-4)


@pytest.mark.slow
def test_the_measure_of_memory_can_fail(tmp_path: Path) -> None:
    """A process that reads the file whole has more than its size resident."""
    before = peak()
    write(tmp_path)
    held = (tmp_path / "big.data").read_bytes()
    assert peak() - before > 0.9 * len(held)
