"""Stores of models to be served: made in a process of their own, so that torch is in no process that is measured.

python -m benchmarks.support.models FOLDER NAME...   # mlp, resnet, pair, ten
"""

from __future__ import annotations

import base64
import io
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
FEATURES, BACKGROUND, SIDE, CLASSES = 30, 100, 224, 1000
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MLP, RESNET = "mlp", "resnet"


def store_with(folder: Path, *names: str) -> Path:
    """A store in `folder` with these models: "mlp", "resnet", "pair" (two versions of mlp), "ten" (small ones)."""
    command = [sys.executable, "-m", "benchmarks.support.models", str(folder), *names]
    subprocess.run(command, cwd=ROOT, check=True)
    return folder


def model_file(store: Path, name: str, version: int | None = None) -> bytes:
    """The served ONNX file of a model."""
    from model_store import Store

    return Store(store, create=False).resolve(name, version).file("model")


def rows(count: int, seed: int = 0) -> np.ndarray:
    """Made-up rows of the perceptron, [count, 30] float32."""
    return np.random.default_rng(seed).standard_normal((count, FEATURES)).astype(np.float32)


def picture(seed: int = 0) -> bytes:
    """A JPEG of 224 x 224 with shapes and some noise, about as large as a photograph of that size."""
    from PIL import Image

    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (14, 14, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.float32)
    noisy = np.clip(smooth + random.normal(0, 12, smooth.shape), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noisy).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def pixels(seed: int = 0) -> np.ndarray:
    """An image as ResNet-18 takes it, [1, 3, 224, 224] float32."""
    return np.random.default_rng(seed).standard_normal((1, 3, SIDE, SIDE)).astype(np.float32)


def perceptron(name: str = MLP, seed: int = 0) -> Any:
    """30-64-64-2 with named features and a background of 100 rows, ready for a store."""
    import exporters
    from benchmarks.support.networks import MAKERS, make
    from model_store import Baseline, Feature, InputSpec, OutputSpec

    with tempfile.TemporaryDirectory() as folder:
        network = make(list(MAKERS)[3], Path(folder), seed)
    names = [f"f{i}" for i in range(FEATURES)]
    return exporters.describe(
        network.data,
        name=name,
        inputs=[InputSpec("x", "tabular", "float32", ["n", FEATURES], 0)],
        outputs=[OutputSpec("y", "logits", "float32", ["n", 2], 0, class_names=["no", "yes"])],
        features=[Feature(name=feature, input="x", index=i) for i, feature in enumerate(names)],
        background={"x": rows(BACKGROUND, 1)},
        baseline=Baseline("background_mean"),
        examples=[{"instance": rows(1)[0].tolist()}],
    )


def resnet(name: str = RESNET) -> Any:
    """ResNet-18 that takes pictures, scaled as those of ImageNet are."""
    import exporters
    from benchmarks.support.networks import MAKERS, make
    from model_store import Baseline, ImageSpec, InputSpec, OutputSpec

    with tempfile.TemporaryDirectory() as folder:
        network = make(next(iter(MAKERS)), Path(folder))
    scale = [1 / 255 / deviation for deviation in DEVIATION]
    offset = [-mean / deviation for mean, deviation in zip(MEAN, DEVIATION, strict=True)]
    image = ImageSpec(SIDE, SIDE, "RGB", "NCHW", scale, offset)
    return exporters.describe(
        network.data,
        name=name,
        inputs=[InputSpec("x", "image", "float32", ["n", 3, SIDE, SIDE], 0, image=image)],
        outputs=[OutputSpec("y", "logits", "float32", ["n", CLASSES], 0)],
        baseline=Baseline("constant", 0.0),
        examples=[{"instance": {"b64": base64.b64encode(picture()).decode()}}],
    )


def publish(folder: Path, names: list[str]) -> None:
    """Make the models and put them into the store."""
    import exporters
    from model_store import Store

    store = Store(folder)
    made = {
        MLP: lambda: [perceptron()],
        RESNET: lambda: [resnet()],
        "pair": lambda: [perceptron(), perceptron(seed=1)],
        "ten": lambda: [perceptron(f"small-{i}", seed=i) for i in range(10)],
    }
    for name in names:
        for exported in made[name]():
            exporters.register(store, exported)


if __name__ == "__main__":
    publish(Path(sys.argv[1]), sys.argv[2:])
