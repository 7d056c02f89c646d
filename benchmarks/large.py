"""A model of more than 2 GB: how long its programs take to make, and how much memory it takes to be explained.

    python -m benchmarks.large            # writes benchmarks/results/large.md
    python -m benchmarks.large --quick    # a small one, printed

A network of square matrices whose data lie in one file is compiled, loaded into an engine, run and explained, in a
process of its own; a second process compares how ONNX Runtime can be handed such data. Memory is what is resident: the
process's RSS, file pages that are mapped included, in MiB and as a share of the file.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

import engine
import explain
from benchmarks.support.timing import machine

RESULT = Path(__file__).parent / "results" / "large.md"
THREADS = 1
WIDTH, LAYERS, SMALL = 6400, 16, 640
PROGRAMS = ("forward", "vjp", "path_gradient", "masked_forward")
WAYS = ("folder", "mapped", "mapped, injected")
FOLDER = "session.model_external_initializers_file_folder_path"


def write(folder: Path, width: int) -> Path:
    """A network of `LAYERS` square matrices, in `big.onnx` and `big.data`."""
    random, tensors, nodes, name = np.random.default_rng(0), [], [], "x"
    with (folder / "big.data").open("wb") as file:
        for place in range(LAYERS):
            array = random.standard_normal((width, width), dtype=np.float32) * np.float32((2 / width) ** 0.5)
            tensor = TensorProto(
                name=f"w{place}",
                data_type=TensorProto.FLOAT,
                dims=array.shape,
                data_location=TensorProto.EXTERNAL,
            )
            where = {"location": "big.data", "offset": str(file.tell()), "length": str(array.nbytes)}
            for key, value in where.items():
                tensor.external_data.add(key=key, value=value)
            file.write(array.data)
            tensors.append(tensor)
            nodes += [helper.make_node("MatMul", [name, tensor.name], [f"h{place}"])]
            nodes += [helper.make_node("Relu", [f"h{place}"], [name := f"r{place}"])]
    ends = [helper.make_tensor_value_info(end, TensorProto.FLOAT, ["N", width]) for end in ("x", name)]
    graph = helper.make_graph(nodes, "big", ends[:1], ends[1:], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), folder / "big.onnx")
    return folder / "big.onnx"


def memory() -> dict[str, float]:
    """MiB of this process: resident, of these its own (not of files), and the most that was resident."""
    rollup, status = (Path(f"/proc/self/{name}").read_text() for name in ("smaps_rollup", "status"))
    wanted = {"resident": ("Rss", rollup), "own": ("Anonymous", rollup), "peak": ("VmHWM", status)}
    return {name: int(re.findall(rf"{word}:\s+(\d+)", text)[0]) / 1024 for name, (word, text) in wanted.items()}


def explained(path: Path) -> list[tuple[str, float, dict[str, float]]]:
    """Seconds and memory after each step, of one process."""
    steps, start = [], time.perf_counter()

    def done(step: str) -> None:
        nonlocal start
        steps.append((step, time.perf_counter() - start, memory()))
        start = time.perf_counter()

    done("nothing yet")
    model = explain.Model(path)
    programs = [explain.compile(model, name) for name in PROGRAMS]
    done(f"compiled {', '.join(PROGRAMS)}")
    _ = model.digest, [program.digest for program in programs]
    done("digests of the model (the file is read once) and of these")
    runner = engine.InProcessEngine(threads=THREADS)
    data, files = path.read_bytes(), model.external.paths
    served = engine.StoredModel(
        model.digest,
        dict.fromkeys(model.graph.inputs, "item"),
        dict.fromkeys(model.graph.outputs, "item"),
        lambda: data,
        constants=lambda _: explain.weights(data, files),
        data_folder=model.external.folder,
    )
    x = np.random.default_rng(1).standard_normal((2, *model.graph.inputs["x"].shape[1:])).astype(np.float32)
    runner.run(served, {"x": x})
    done("2 rows predicted")
    for program in programs:
        runner.load(program)
    done("sessions of the programs")
    for method in ("saliency", "integrated_gradients"):
        explain.attribute(
            model,
            {"x": x},
            method=method,
            target=3,
            run=lambda program, feeds: runner.run(program, feeds).outputs,
            **({"baseline": {"x": np.zeros_like(x[:1])}} if method == "integrated_gradients" else {}),
        )
        done(f"2 rows explained by {method}")
    return steps


def handed(path: Path, way: str, packed: bool) -> dict[str, Any]:
    """Two sessions of the model whose data the runtime is handed one way, and a run of 8 rows."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_prepacking", str(int(not packed)))
    options.add_session_config_entry(FOLDER, str(path.parent))
    data, before, start = path.read_bytes(), memory(), time.perf_counter()
    held = {}
    if way != "folder":
        arrays = explain.weights(data, {"big.data": path.parent / "big.data"})
        held = {name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in arrays.items()}
    if way == "mapped":
        for name, value in held.items():
            options.add_initializer(name, value)
    elif held:
        options.add_external_initializers(list(held), list(held.values()))
    sessions = [onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"]) for _ in range(2)]
    loaded = time.perf_counter() - start
    x = np.ones((8, sessions[0].get_inputs()[0].shape[1]), np.float32)
    seconds = []
    for session in [*sessions, *sessions]:
        start = time.perf_counter()
        session.run(None, {"x": x})
        seconds.append(time.perf_counter() - start)
    after = memory()
    return {"load": loaded, "run": min(seconds), **{name: after[name] - before[name] for name in ("resident", "own")}}


def tables(width: int) -> list[str]:
    """Both tables, each case in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder), width)
        size = (path.parent / "big.data").stat().st_size / 2**20
        lines = [f"The file: {size:.0f} MiB.", "", "| step | s | resident, MiB | share | own, MiB | peak, MiB |"]
        lines.append("|" + " --- |" * 6)
        for step, seconds, found in _case("explained", path):
            resident, own, peak = (found[name] for name in ("resident", "own", "peak"))
            share = f"{resident / size:.2f}"
            lines.append(f"| {step} | {seconds:.2f} | {resident:.0f} | {share} | {own:.0f} | {peak:.0f} |")
        lines += ["", "Two sessions of the served file:", ""]
        lines.append("| data handed over | packed | loaded, s | 8 rows, s | resident, MiB | own, MiB |")
        lines.append("|" + " --- |" * 6)
        for way in WAYS:
            for packed in (True, False):
                found = _case("handed", path, way, str(packed))
                cells = f"{found['load']:.2f} | {found['run']:.2f} | {found['resident']:.0f} | {found['own']:.0f}"
                lines.append(f"| {way} | {'yes' if packed else 'no'} | {cells} |")
    return lines


def _case(*case: Any) -> Any:
    command = [sys.executable, "-m", "benchmarks.large", "--case", *map(str, case)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a small model; nothing is written")
    parser.add_argument("--case", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.case:
        kind, path, *more = given.case
        print(
            json.dumps(explained(Path(path)) if kind == "explained" else handed(Path(path), more[0], more[1] == "True"))
        )
        return
    lines = tables(SMALL if given.quick else WIDTH)
    print("\n".join(lines))
    if not given.quick:
        about = (__doc__ or "").split("printed")[1].strip()
        RESULT.write_text(f"# A model of more than 2 GB\n\n{about}\n\n{machine(THREADS)}\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
