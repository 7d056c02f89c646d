"""Attributions of models in float16 and in bytes against those of their float32 originals.

A small BERT (4 layers of 256, random weights) as ONNX Runtime's tool writes it in float16, and a ResNet-18 as its
quantiser writes it in bytes: with random weights (calibrated on 16 rows of noise), and trained for a few minutes on
PneumoniaMNIST (28 x 28, shown at 64 x 64; calibrated on 64 pictures). Ranges are from the least to the largest number
of the calibration unless a percentile is named. "error" is the largest difference of an item's attributions over its
largest attribution, "L1" the sum of differences over the sum of attributions, "rank" Spearman's correlation of the
absolute attributions; each is the mean over the rows. Targets are those of the original. `completeness` is the largest
relative gap, `forward_gap` the largest difference from the reduced file's own answer, beside the largest answer. No
figure is a time.

With activations of 16 bits little is left of the differences: what 8 bits change is the network itself, of which every
Relu near 0 may decide otherwise. "nan" is where a row of noise has an answer beyond the calibrated range: it is
clipped, and so its gradient is 0 at every element.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch.nn import functional as F  # noqa: N812 - the name everybody gives it

import explain
from benchmarks.support.networks import ResNet, make
from benchmarks.support.page import Table
from benchmarks.support.timing import machine

RESULT = Path(__file__).parent / "results" / "precision.md"
HEADS = ("model", "file", "method", "error", "L1", "rank", "completeness", "forward_gap", "largest answer")
METHODS: dict[str, dict[str, Any]] = {
    "integrated_gradients": {"baseline": 0},
    "deeplift": {"baseline": 0},
    "saliency": {"absolute": False},
}
SIDE, SHOWN = 28, 64


class Sessions:
    """Programs and files on ONNX Runtime, loaded once."""

    def __init__(self) -> None:
        self.loaded: dict[str, onnxruntime.InferenceSession] = {}

    def __call__(self, program: Any, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs of a program."""
        if program.digest not in self.loaded:
            self.loaded[program.digest] = onnxruntime.InferenceSession(program.serialize())
        session = self.loaded[program.digest]
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def answers(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    """What a file says of rows, one after another."""
    session = onnxruntime.InferenceSession(model.SerializeToString())
    kind = {"tensor(float16)": np.float16}.get(session.get_inputs()[0].type, x.dtype)
    return np.concatenate([session.run(None, {"x": row[None].astype(kind)})[0] for row in x])


def compare(
    table: Table, name: str, original: onnx.ModelProto, reduced: Mapping[str, onnx.ModelProto], x: np.ndarray
) -> None:
    """A line for every reduced file and method."""
    run, expected = Sessions(), {}
    target = answers(original, x).argmax(axis=1)
    methods = {k: v for k, v in METHODS.items() if x.dtype.kind == "f" or k != "deeplift"}
    for method, options in methods.items():
        expected[method] = explain.attribute(original, {"x": x}, method=method, run=run, target=target, **options)
    for kind, model in reduced.items():
        handle, own = explain.Model(model), answers(model, x)
        for method, options in methods.items():
            outputs = {"y": own}
            given = {"target": target, "outputs": outputs, **options}
            found = explain.attribute(handle, {"x": x}, method=method, run=run, **given)
            pairs = list(zip(found.values["x"], expected[method].values["x"], strict=True))
            error = np.mean([explain.attribution_error(a, b) for a, b in pairs])
            total = np.mean([np.abs(a - b).sum() / np.abs(b).sum() for a, b in pairs])
            rank = np.mean([explain.spearman(np.abs(a).ravel(), np.abs(b).ravel()) for a, b in pairs])
            gaps = [abs(figures["completeness_gap_relative"] or 0) for figures in found.quality]
            forward = max(figures["forward_gap"] for figures in found.quality)
            complete = f"{max(gaps):.1e}" if method != "saliency" else ""
            figures = (
                f"{error:.4f}",
                f"{total:.4f}",
                f"{rank:.4f}",
                complete,
                f"{forward:.1e}",
                f"{np.abs(own).max():.2g}",
            )
            table.add(name, kind, method, *figures)


def halves(original: onnx.ModelProto) -> dict[str, onnx.ModelProto]:
    """The model in float16, by how much of it the tool leaves in float32."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    ways: dict[str, dict[str, Any]] = {
        "float16": {},
        "float16, float32 at its ends": {"keep_io_types": True},
        "float16, some operators in float32": {"op_block_list": ["Softmax", "Erf"]},
    }
    return {name: convert_float_to_float16(_copy(original), **options) for name, options in ways.items()}


def quantized(original: onnx.ModelProto, rows: np.ndarray, folder: Path) -> dict[str, onnx.ModelProto]:
    """The model in bytes, by the ways to write them."""
    from onnxruntime import quantization as tool
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Rows(tool.CalibrationDataReader):
        def __init__(self) -> None:
            self.rows: Iterator[dict[str, np.ndarray]] = iter([{"x": row[None]} for row in rows])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.rows, None)

    onnx.save(original, folder / "plain.onnx")
    quant_pre_process(folder / "plain.onnx", folder / "ready.onnx")
    percentile = {"calibrate_method": tool.CalibrationMethod.Percentile, "extra_options": {"CalibPercentile": 99.99}}
    ways: dict[str, dict[str, Any]] = {
        "QDQ": {"quant_format": tool.QuantFormat.QDQ, "per_channel": True},
        "QDQ, 99.99th percentile": {"quant_format": tool.QuantFormat.QDQ, "per_channel": True, **percentile},
        "QDQ, activations of 16 bits": {"activation_type": tool.QuantType.QUInt16, "per_channel": True},
        "QOperator": {"quant_format": tool.QuantFormat.QOperator},
    }
    found = {}
    for name, options in ways.items():
        tool.quantize_static(folder / "ready.onnx", folder / "bytes.onnx", Rows(), **options)
        found[name] = onnx.load(folder / "bytes.onnx")
    tool.quantize_dynamic(folder / "ready.onnx", folder / "bytes.onnx")
    return found | {"dynamic": onnx.load(folder / "bytes.onnx")}


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def shown(pictures: np.ndarray) -> torch.Tensor:
    """Pictures [N, 28, 28] of bytes as [N, 3, 64, 64] around 0."""
    x = torch.tensor(pictures, dtype=torch.float32)[:, None] / 127.5 - 1
    return F.interpolate(x, (SHOWN, SHOWN), mode="bilinear", align_corners=False).repeat(1, 3, 1, 1)


def trained(epochs: int) -> tuple[onnx.ModelProto, np.ndarray, np.ndarray, float]:
    """ResNet-18 on PneumoniaMNIST: the file, pictures to calibrate and to explain, and its accuracy on the test set."""
    data = np.load(Path(os.environ["GLASSHOUSE_DATA"]) / "pneumoniamnist.npz")
    x, labels = shown(data["train_images"]), torch.tensor(data["train_labels"][:, 0], dtype=torch.long)
    torch.manual_seed(0)
    network = ResNet((2, 2, 2, 2), False)
    network.head = torch.nn.Linear(512, 2)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(network(x[rows]), labels[rows]).backward()
            optimizer.step()
    network.eval()
    test = shown(data["test_images"])
    with torch.no_grad():
        right = torch.cat([network(part).argmax(1) for part in test.split(64)])
    accuracy = float((right.numpy() == data["test_labels"][:, 0]).mean())
    return exported(network, x[:2]), x[:64].numpy(), test[:6].numpy(), accuracy


def exported(network: torch.nn.Module, rows: torch.Tensor) -> onnx.ModelProto:
    """The network as a file, with its rows counted by the first axis."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path, axes = Path(folder) / "network.onnx", {"x": {0: "n"}, "y": {0: "n"}}
        names: dict[str, Any] = {"input_names": ["x"], "output_names": ["y"], "dynamic_axes": axes}
        torch.onnx.export(network, (rows,), path, dynamo=False, opset_version=17, **names)
        return onnx.load(path)


def main() -> None:
    """BERT in float16, then ResNet-18 in bytes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a short run that shows it works; prints, writes nothing")
    quick = parser.parse_args().quick
    logging.disable(logging.WARNING)
    random, table = np.random.default_rng(0), Table(HEADS)
    with tempfile.TemporaryDirectory() as folder:
        bert = onnx.load_model_from_string(make("BERT 4 x 256, 128 tokens", Path(folder)).data)
        compare(table, "BERT", bert, halves(bert), random.integers(1, 30000, (2 if quick else 8, 128)))
        if not quick:
            network = onnx.load_model_from_string(make("ResNet-18", Path(folder)).data)
            rows = random.standard_normal((18, 3, 224, 224)).astype(np.float32)
            compare(table, "ResNet-18, random", network, quantized(network, rows[2:], Path(folder)), rows[:2])
        network, calibrate, x, accuracy = trained(1 if quick else 4)
        compare(table, "ResNet-18, trained", network, quantized(network, calibrate, Path(folder)), x)
    about = (__doc__ or "").split("\n\n", 1)[1].strip()
    said = f"The trained ResNet-18 is right on {accuracy:.1%} of its test set."
    parts = ["# Attributions of reduced models", machine(torch.get_num_threads()), about, said, str(table)]
    if not quick:
        RESULT.write_text("\n\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
