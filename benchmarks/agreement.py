"""How far the compiled explanations of the example models are from Captum on the PyTorch originals, over all test rows.

    python benchmarks/agreement.py            # writes benchmarks/results/agreement.md

Attribution error of a row: max|phi - phi'| / max|phi'|. Captum runs twice, in float32 and in float64: where the two
differ from each other, a point of the path lies within rounding of a kink of a Relu, and neither is more right.
"""

from __future__ import annotations

import datetime
import platform
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

import explain
import training
from exporters import export_torch

RESULT = Path(__file__).parent / "results" / "agreement.md"
BAR = 1e-4


def by_row(found: np.ndarray, judged: np.ndarray) -> np.ndarray:
    """The attribution error of every row."""
    return np.array([explain.attribution_error(a, b) for a, b in zip(found, judged, strict=True)])


def runner() -> Callable[[explain.Program, dict[str, np.ndarray]], dict[str, np.ndarray]]:
    """Runs programs, one session each."""
    sessions: dict[str, Any] = {}

    def run(program: explain.Program, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if program.digest not in sessions:
            sessions[program.digest] = onnxruntime.InferenceSession(program.serialize())
        names = list(program.outputs)
        return dict(zip(names, sessions[program.digest].run(names, feeds), strict=True))

    return run


def judges(
    trained: training.TrainedModel, x: np.ndarray, base: np.ndarray, dtype: torch.dtype
) -> dict[str, np.ndarray]:
    """Captum's answers for the predicted class of every row, in one precision."""
    from captum.attr import IntegratedGradients, LayerGradCam, Saliency

    network = trained.network.to(dtype).eval()
    rows, start = torch.tensor(x, dtype=dtype), torch.tensor(base, dtype=dtype)[None]
    target = network(rows).argmax(dim=1)
    found = {
        "saliency": Saliency(network).attribute(rows.requires_grad_(), target=target),
        "integrated_gradients": IntegratedGradients(network).attribute(rows, start, target=target, n_steps=50),
    }
    if trained.recipe.name == "digits":
        last = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)][-1]
        found["grad_cam"] = LayerGradCam(network, last).attribute(rows, target=target, relu_attributions=True)[:, 0]
    return {name: value.detach().numpy().astype(np.float64) for name, value in found.items()}


def compare(name: str) -> list[str]:
    """Rows of the table for one model."""
    trained = training.train(name, progress=False)
    (key,) = trained.recipe.input_names
    x, background = trained.test_inputs[key], trained.background[key]
    base = (
        np.zeros(x.shape[1:], np.float32) if name == "digits" else background.mean(axis=0, dtype=np.float64).astype("f")
    )
    model = explain.Model(export_torch(trained.module, [x[:4]], [key], ["probabilities"]))
    single, double = (judges(trained, x, base, dtype) for dtype in (torch.float32, torch.float64))
    lines, run = [], runner()
    for method, judged in double.items():
        options = {"baseline": {key: base}} if method == "integrated_gradients" else {}
        found = explain.attribute(model, {key: x}, method=method, run=run, **options).values[key]
        ours, theirs = by_row(found, judged), by_row(single[method], judged)
        close = np.minimum(ours, by_row(found, single[method]))
        cells = [
            name,
            method,
            str(len(x)),
            f"{np.median(ours):.1e}",
            f"{ours.max():.1e}",
            f"{(ours <= BAR).mean():.1%}",
        ]
        cells += [f"{theirs.max():.1e}", f"{(theirs <= BAR).mean():.1%}", f"{(close <= BAR).mean():.1%}"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    """Compare, print and write the table."""
    warnings.simplefilter("ignore")
    head = [
        "model",
        "method",
        "rows",
        "median",
        "worst",
        f"≤ {BAR:g}",
        "Captum fp32 worst",
        f"≤ {BAR:g}",
        "ours ≤ to either",
    ]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name in ("tumour", "digits"):
        lines += compare(name)
    where = f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}"
    versions = f"onnxruntime {onnxruntime.__version__}, torch {torch.__version__.split('+')[0]}"
    text = "# Agreement with Captum\n\n" + (__doc__ or "").split("\n\n", 2)[2]
    text += (
        f"\nErrors against Captum in float64. {where}, {versions}, {datetime.date.today()}.\n\n"
        + "\n".join(lines)
        + "\n"
    )
    RESULT.write_text(text, "utf-8")
    print(text)


if __name__ == "__main__":
    main()
