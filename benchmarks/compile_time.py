"""How long compiling an explanation takes, and how that grows with the model.

Two kinds of chains grow from 100 to 10,000 nodes: residual convolution blocks, and attention blocks that compute
their shapes at run time as exporters write them. Beside them a ResNet-50 and a BERT of base size, exported with random
weights. Each figure is the best of several compilations of `path_gradient` from a loaded model, the hash of the
program left out. Prints a table and writes it to benchmarks/results/compile_time.md.
"""

from __future__ import annotations

import argparse
import io
import os
import platform
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import explain

RESULTS = Path(__file__).parent / "results" / "compile_time.md"
SIZES = (100, 300, 1_000, 3_000, 10_000)
node = helper.make_node


def convolutions(count: int) -> onnx.ModelProto:
    """Blocks of Conv, BatchNormalization, Relu and an Add around them, with weights of their own."""
    random, nodes, constants, last = np.random.default_rng(0), [], [], "x"
    vectors = ["scale", "shift", "mean", "variance"]
    for i in range(count // 4):
        w, *own = (f"{name}{i}" for name in ["w", *vectors])
        constants.append(numpy_helper.from_array(random.standard_normal((8, 8, 3, 3)).astype(np.float32), w))
        constants += [numpy_helper.from_array(np.full(8, 0.5 + i, np.float32), name) for name in own]
        nodes += [
            node("Conv", [last, w], [f"c{i}"], pads=[1, 1, 1, 1]),
            node("BatchNormalization", [f"c{i}", *own], [f"n{i}"]),
            node("Relu", [f"n{i}"], [f"r{i}"]),
            node("Add", [last, f"r{i}"], [f"a{i}"]),
        ]
        last = f"a{i}"
    nodes.append(node("ReduceMean", [last, "axes"], ["y"], keepdims=0))
    constants.append(numpy_helper.from_array(np.array([2, 3]), "axes"))
    return model(nodes, constants, ["N", 8, "H", "W"], ["N", 8])


def attention(count: int) -> onnx.ModelProto:
    """Blocks of attention with two heads over [N, T, 8], shapes read from the values as exporters do, and a Gelu."""
    random, nodes, last = np.random.default_rng(0), [], "x"
    ints = {"zero": [0], "one": [1], "two": [2], "heads": [2, 4], "width": [8], "axis0": [0]}
    constants = [numpy_helper.from_array(np.array(value), name) for name, value in ints.items()]
    constants.append(numpy_helper.from_array(np.array(2**-0.5, np.float32), "half"))
    for i in range(count // 22):
        names = [f"{name}{i}" for name in ("q", "k", "v", "out", "gamma")]
        for name in names:
            array = random.standard_normal(8 if name.startswith("gamma") else (8, 8)).astype(np.float32)
            constants.append(numpy_helper.from_array(array, name))
        nodes += [
            node("LayerNormalization", [last, names[4]], [f"l{i}"], axis=-1),
            node("Shape", [f"l{i}"], [f"shape{i}"]),
            node("Slice", [f"shape{i}", "zero", "two", "axis0"], [f"nt{i}"]),
            node("Concat", [f"nt{i}", "heads"], [f"split{i}"], axis=0),
            node("Concat", [f"nt{i}", "width"], [f"join{i}"], axis=0),
        ]
        for name in names[:3]:
            nodes += [
                node("MatMul", [f"l{i}", name], [f"{name}.m"]),
                node("Reshape", [f"{name}.m", f"split{i}"], [f"{name}.r"]),
                node("Transpose", [f"{name}.r"], [f"{name}.t"], perm=[0, 2, 3, 1] if name[0] == "k" else [0, 2, 1, 3]),
            ]
        nodes += [
            node("MatMul", [f"q{i}.t", f"k{i}.t"], [f"s{i}"]),
            node("Mul", [f"s{i}", "half"], [f"sc{i}"]),
            node("Softmax", [f"sc{i}"], [f"p{i}"], axis=-1),
            node("MatMul", [f"p{i}", f"v{i}.t"], [f"o{i}"]),
            node("Transpose", [f"o{i}"], [f"ot{i}"], perm=[0, 2, 1, 3]),
            node("Reshape", [f"ot{i}", f"join{i}"], [f"or{i}"]),
            node("MatMul", [f"or{i}", names[3]], [f"om{i}"]),
            node("Add", [last, f"om{i}"], [f"a{i}"]),
        ]
        last = f"a{i}"
    nodes.append(node("ReduceMean", [last, "one"], ["y"], keepdims=0))
    return model(nodes, constants, ["N", "T", 8], ["N", 8])


def model(
    nodes: list[onnx.NodeProto],
    constants: list[onnx.TensorProto],
    inside: list[str | int],
    outside: list[str | int],
) -> onnx.ModelProto:
    """A model at opset 18 from its parts."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, inside)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, outside)
    graph = helper.make_graph(nodes, "chain", [x], [y], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def exported(which: str) -> onnx.ModelProto:
    """ResNet-50 or BERT-base from `transformers` through PyTorch's older exporter."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import torch
    import transformers

    ids = torch.ones((2, 16), dtype=torch.long)
    picture = torch.zeros((2, 3, 224, 224))
    module, example, name = {
        "ResNet-50": (transformers.ResNetForImageClassification, picture, "pixel_values"),
        "BERT-base": (transformers.BertForSequenceClassification, ids, "input_ids"),
    }[which]
    config = transformers.ResNetConfig() if which == "ResNet-50" else transformers.BertConfig()
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module(config).eval(),
            ({name: example},),
            buffer,
            dynamo=False,
            opset_version=17,
            input_names=[name],
            output_names=["y"],
            dynamic_axes={name: {0: "n"}, "y": {0: "n"}},
        )
    return onnx.load_model_from_string(buffer.getvalue())


def seconds(proto: onnx.ModelProto, repeats: int) -> tuple[float, int]:
    """Best processor time of compiling from a loaded model, and the nodes of the program."""
    best, nodes = float("inf"), 0
    for _ in range(repeats):
        start = time.process_time()
        program = explain.compile(explain.Model(proto), "path_gradient")
        best, nodes = min(best, time.process_time() - start), len(program.model.graph.node)
    return best, nodes


def rows(repeats: int, exports: bool) -> list[str]:
    """One line of the table per model."""
    lines = []
    chains: list[tuple[str, Callable[[int], onnx.ModelProto]]] = [
        ("residual convolutions", convolutions),
        ("attention", attention),
    ]
    for label, make in chains:
        for size in SIZES:
            lines.append(row(label, make(size), repeats))
    for which in ("ResNet-50", "BERT-base") if exports else ():
        lines.append(row(which, exported(which), repeats))
    return lines


def row(label: str, proto: onnx.ModelProto, repeats: int) -> str:
    """Model, its nodes, the program's nodes, seconds, milliseconds for each node of the model."""
    count = len(proto.graph.node)
    best, nodes = seconds(proto, repeats)
    line = f"| {label} | {count:,} | {nodes:,} | {best:.3f} | {1e3 * best / count:.3f} |"
    print(line, flush=True)
    return line


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-exports", action="store_true", help="leave out ResNet-50 and BERT-base")
    options = parser.parse_args()
    header = ["| model | nodes | nodes of the program | seconds | ms a node |", "|---|---:|---:|---:|---:|"]
    print("\n".join(header))
    table = header + rows(options.repeats, not options.no_exports)
    packages = ", ".join(f"{name} {version(name)}" for name in ("onnx", "numpy", "protobuf"))
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
    note = f"Measured {datetime.now(UTC):%Y-%m-%d} on {machine}; {packages}. Processor time, best of {options.repeats}."
    RESULTS.write_text("\n".join(["# Compile time of `path_gradient`", "", note, "", *table, ""]))


if __name__ == "__main__":
    main()
