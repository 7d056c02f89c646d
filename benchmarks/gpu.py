"""The same models and explanations on CUDA and on the processor, through the engine, beside the raw session.

    python -m benchmarks.gpu   # writes benchmarks/results/gpu.md

ResNet-18 on 1, 8 and 32 images: predictions, and the program of gradients (`path_gradient`, one point); then integrated
gradients of one image with 50 steps, and kernel SHAP of a row through the perceptron. Each through
`engine.InProcessEngine` with providers ("cuda",) and ("cpu",), and the raw session on the same device, which the engine
can at best be as fast as. Outputs of both devices are compared. A profile of ONNX Runtime says which nodes ran on the
processor all the same: none may be a convolution, a product of matrices or a pooling. Then what an engine can be told
about a GPU, each against its absence: runs filled up to fixed sizes (batches of 1 to 32 images in any order, when their
sizes are met for the first time and again), page-locked inputs, CUDA graphs, TF32. Ends at once, and says so, where
there is no CUDA; --device cpu shows without one that the benchmark works (graphs and TF32 do nothing there).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import engine
import explain
from benchmarks.support import models
from benchmarks.support.load import milliseconds
from benchmarks.support.page import Page, arguments, met

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
HEAVY = (
    "Conv",
    "Gemm",
    "MatMul",
    "Pool",
    "BatchNormalization",
    "Resize",
    "FusedConv",
    "Einsum",
    "LSTM",
    "GRU",
    "Attention",
)
BATCHES, STEPS, CALLS, RAGGED = (1, 8, 32), 50, 5, 24
Work = Callable[[engine.Engine], np.ndarray]
FIRST = "first time: "
Arrays = dict[str, np.ndarray]


def card() -> str:
    """The name of the graphics card, as its driver has it."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().replace("\n", "; ")
    except (OSError, subprocess.CalledProcessError):
        return "none"


def has_cuda() -> bool:
    """Whether ONNX Runtime can run a model on CUDA here; the provider's name alone says little."""
    import onnxruntime

    if CUDA not in onnxruntime.get_available_providers():
        return False
    onnxruntime.preload_dlls()
    data = explain.compile(explain.Model(_identity()), "forward").serialize()
    return CUDA in onnxruntime.InferenceSession(data, providers=[CUDA, CPU]).get_providers()


def _identity() -> bytes:
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", [x], [y])
    opset = [helper.make_opsetid("", 18)]
    return bytes(helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString())


def model_artifact(data: bytes) -> engine.StoredModel:
    """A model with the input x and the output y."""
    return engine.StoredModel(hashlib.sha256(data).hexdigest(), {"x": "item"}, {"y": "item"}, lambda: data)


def path_feeds(x: np.ndarray) -> Arrays:
    """Class 1 of each row, at one point of its path from 0."""
    n = len(x)
    target = {"target": np.ones((n, 1, 1), np.int64), "target.weight": np.ones((n, 1), np.float32)}
    ends = {"alpha": np.ones((n, 1), np.float32), "weight": np.ones((n, 1, 1), np.float32)}
    return target | ends | {"x": x, "x.baseline": np.zeros_like(x)[:, None]}


def fell_back(
    artifact: engine.Artifact, feeds: Mapping[str, np.ndarray], providers: list[str]
) -> tuple[Counter[str], int]:
    """Operators of nodes that ran on the processor, by a profile of one run, and how many nodes ran at all."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.enable_profiling, options.profile_file_prefix = True, str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(artifact.serialize(), options, providers=providers)
        session.run(list(artifact.outputs), dict(feeds))
        events = json.loads(Path(session.end_profiling()).read_text())
    nodes = [event["args"] for event in events if event.get("cat") == "Node" and "provider" in event.get("args", {})]
    return Counter(node["op_name"] for node in nodes if node["provider"] == CPU), len(nodes)


def heavy(operators: Counter[str]) -> list[str]:
    """Those among the operators that belong on the card."""
    return sorted(name for name in operators if any(word in name for word in HEAVY))


def seconds_of(work: Callable[[], Any], least: float) -> float:
    """Median seconds of a call, of as many as `least` seconds hold; where that is 0, of one. The first warms up."""
    work()
    times, start = [], time.perf_counter()
    while len(times) < (CALLS if least else 1) or time.perf_counter() - start < least:
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


class Bench:
    """Engines on both devices, and the tables."""

    def __init__(self, given: argparse.Namespace, page: Page) -> None:
        self.given, self.artifacts = given, list[engine.Artifact]()
        self.device = engine.InProcessEngine(providers=(given.device,), max_batch=max(BATCHES))
        self.processor = engine.InProcessEngine(providers=("cpu",), max_batch=max(BATCHES))
        self.providers = [CUDA, CPU] if given.device == "cuda" else [CPU]
        heads = ("what", "engine", "raw session", "engine / raw", "engine on cpu", "times as fast", "outputs differ by")
        self.runs = page.table(*heads, title=f"Runs on {given.device}")
        heads = ("setting", "what", "with", "without", "times as fast", "outputs differ by")
        self.settings = page.table(*heads, title="Each setting against its absence")
        self.places = page.table("graph", "nodes", "on the processor", "heavy ones", "", title="Where nodes ran")

    def run(self, what: str, artifact: engine.Artifact, feeds: Arrays) -> None:
        """One artifact on both devices and by the raw session."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        raw = onnxruntime.InferenceSession(artifact.serialize(), options, providers=self.providers)
        names, least = list(artifact.outputs), self.given.seconds
        ours = seconds_of(lambda: self.device.run(artifact, feeds), least)
        floor = seconds_of(lambda: raw.run(names, feeds), least)
        slow = seconds_of(lambda: self.processor.run(artifact, feeds), least)
        here, there = (home.run(artifact, feeds).outputs for home in (self.device, self.processor))
        apart = max(explain.attribution_error(here[name], there[name]) for name in names)
        cells = (
            milliseconds(ours),
            milliseconds(floor),
            f"{ours / floor:.2f}",
            milliseconds(slow),
            f"{slow / ours:.1f}",
        )
        self.runs.add(what, *cells, f"{apart:.0e}")

    def place(self, what: str, artifact: engine.Artifact, feeds: Arrays) -> None:
        """Where its nodes ran."""
        operators, nodes = fell_back(artifact, feeds, self.providers)
        on_processor = ", ".join(f"{name} ({count})" for name, count in operators.most_common(6))
        fallen = heavy(operators)
        verdict = met(not fallen) if self.given.device == "cuda" else "not judged without CUDA"
        self.places.add(what, nodes, on_processor or "none", ", ".join(fallen) or "none", verdict)

    def explained(self, what: str, data: bytes, x: np.ndarray, method: str, **options: Any) -> None:
        """A whole explanation of class 1 of one row through the engines."""
        model, found = explain.Model(data), {}

        def attribute(home: engine.Engine) -> None:
            run = lambda program, feeds: home.run(program, feeds, lane="explain").outputs  # noqa: E731
            found[home] = explain.attribute(model, {"x": x}, method=method, target=1, run=run, **options)

        ours = seconds_of(lambda: attribute(self.device), self.given.seconds)
        slow = seconds_of(lambda: attribute(self.processor), self.given.seconds)
        apart = explain.attribution_error(found[self.device].values["x"], found[self.processor].values["x"])
        self.runs.add(what, milliseconds(ours), "", "", milliseconds(slow), f"{slow / ours:.1f}", f"{apart:.0e}")

    def against(self, setting: str, off: object, on: object, works: Mapping[str, Work]) -> None:
        """What one setting brings, on engines of their own: one line for each of the works, in this order. Those named
        so are measured when they are done for the first time."""
        device, most, least = self.given.device, max(BATCHES), self.given.seconds
        given: list[dict[str, Any]] = [{setting: on}, {setting: off}]
        homes = [engine.InProcessEngine(providers=(device,), max_batch=most, **each) for each in given]
        for home in homes:
            for artifact in self.artifacts:
                home.load(artifact)
        for what, work in works.items():
            if what.startswith(FIRST):
                seconds = [once(work, home) for home in homes]
            else:
                seconds = [seconds_of(partial(work, home), least) for home in homes]
            apart = explain.attribution_error(*(work(home) for home in homes))
            times = f"{seconds[1] / seconds[0]:.2f}"
            self.settings.add(setting, what, *(milliseconds(each) for each in seconds), times, f"{apart:.0e}")
        for home in homes:
            home.close()


def once(work: Work, home: engine.Engine) -> float:
    """Seconds of one call, without one before it to warm up."""
    begun = time.perf_counter()
    work(home)
    return time.perf_counter() - begun


def predictions(artifact: engine.Artifact, x: np.ndarray, *batches: int) -> Work:
    """Runs of the first so many rows, one after another; their outputs in one array."""
    return lambda home: np.concatenate([home.run(artifact, {"x": x[:count]}).outputs["y"] for count in batches])


def settings(bench: Bench, resnet: engine.Artifact, mlp: engine.Artifact) -> None:
    """The table of what an engine can be told about a GPU."""
    bench.artifacts = [resnet, mlp]
    most = max(bench.given.batches)
    x, rows = np.repeat(models.pixels(), most, axis=0), models.rows(most)
    ragged = np.random.default_rng(0).integers(1, most + 1, size=RAGGED if most > 1 else 1).tolist()
    mixed, one, many = predictions(resnet, x, *ragged), predictions(resnet, x, 1), predictions(resnet, x, most)
    sizes = f"resnet, {len(ragged)} runs of 1 to {most} images"
    bench.against("shape_buckets", "off", "on", {f"{FIRST}{sizes}": mixed, f"again: {sizes}": mixed})
    images = {"resnet, 1 image": one, f"resnet, {most} images": many}
    bench.against("io_binding", "off", "on", images)
    bench.against("cuda_graphs", False, True, {"mlp, 1 row": predictions(mlp, rows, 1)} | images)
    bench.against("tf32", False, True, images)


def measure(bench: Bench, store: Path) -> None:
    """Everything in the tables."""
    resnet, mlp = (models.model_file(store, name) for name in (models.RESNET, models.MLP))
    gradient = explain.compile(explain.Model(resnet), "path_gradient")
    for batch in bench.given.batches:
        x = np.repeat(models.pixels(), batch, axis=0)
        bench.run(f"resnet, {batch} images: prediction", model_artifact(resnet), {"x": x})
        bench.run(f"resnet, {batch} images: path_gradient", gradient, path_feeds(x))
    x, row, steps = models.pixels(), models.rows(1), bench.given.steps
    bench.run("mlp, 1 row: prediction", model_artifact(mlp), {"x": row})
    zeros, rows = {"baseline": {"x": 0 * x}}, {"background": {"x": models.rows(models.BACKGROUND, 1)}}
    bench.explained(
        f"resnet: integrated gradients, {steps} steps", resnet, x, "integrated_gradients", n_steps=steps, **zeros
    )
    bench.explained("resnet: Grad-CAM", resnet, x, "grad_cam")
    bench.explained("mlp: kernel SHAP, 2,108 coalitions, 100 rows", mlp, row, "kernel_shap", **rows)
    settings(bench, model_artifact(resnet), model_artifact(mlp))
    bench.place("resnet: prediction", model_artifact(resnet), {"x": x})
    bench.place("resnet: path_gradient", gradient, path_feeds(x))


def main() -> None:
    """Measure and write, or say why not."""
    parser = arguments(__doc__ or "", 3)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--batches", type=int, nargs="+", default=list(BATCHES), help="images of a run")
    parser.add_argument("--steps", type=int, default=STEPS, help="of integrated gradients")
    given = parser.parse_args()
    if given.quick:
        given.seconds, given.batches, given.steps = 0, [1, 3], 4
    if given.device == "cuda" and not has_cuda():
        print("There is no CUDA here (no card, or ONNX Runtime without its CUDA provider): nothing was measured.")
        return
    page = Page("gpu", "On a graphics card", (__doc__ or "").split("gpu.md")[1], given)
    page.note(f"Card: {card()}.")
    with tempfile.TemporaryDirectory() as name:
        store = models.store_with(Path(name) / "store", models.RESNET, models.MLP)
        measure(Bench(given, page), store)
    page.write()


if __name__ == "__main__":
    main()
