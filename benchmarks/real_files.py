"""Files that nobody made for us: whether they are explained, and whether the gradient is what differences say.

    python -m benchmarks.real_files model.onnx ... --free 4000   # prints a table

One row of random numbers (sizes that a file leaves open are `--free`, those of batches 1); a random direction in each
floating-point input, and in the output random weights: the directional derivative by the compiled gradient beside
central differences of the file itself in ONNX Runtime, the best of several steps. What is refused says why.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

import explain

STEPS = (3e-2, 1e-2, 3e-3, 1e-3, 3e-4)
Feeds = dict[str, np.ndarray]


def feeds_for(session: Any, free: int, rng: np.random.Generator) -> Feeds:
    """A row for every input: floats are random, whole numbers the size that is free, so that lengths fit."""
    found: Feeds = {}
    for each in session.get_inputs():
        ones = [axis == 0 or str(size).startswith("batch") for axis, size in enumerate(each.shape)]
        sizes = [s if isinstance(s, int) else 1 if one else free for s, one in zip(each.shape, ones, strict=True)]
        if "float" in each.type:
            found[each.name] = 0.1 * rng.normal(size=sizes).astype(np.float32)
        else:
            found[each.name] = np.full(sizes, free, np.int64 if "int64" in each.type else np.int32)
    return found


def rows(path: Path, free: int) -> Iterator[tuple[str, ...]]:
    """One line for each floating-point input, or one that says why there is none."""
    rng, served = np.random.default_rng(0), onnxruntime.InferenceSession(str(path))
    model = explain.Model(path)
    covered = explain.coverage(model)
    if not covered.differentiable:
        first = covered.blocking[0]
        yield path.name, "", f"{first.op}: {first.reason}", "", str(len(covered.methods))
        return
    program, output = explain.compile(model, "vjp"), covered.explained.output
    feeds = feeds_for(served, free, rng)
    value = served.run([output], feeds)[0]
    weights = rng.normal(size=value.shape).astype(np.float32)
    compiled = onnxruntime.InferenceSession(program.serialize())
    cotangent = next(name for name in program.inputs if name.endswith(".cotangent"))
    names = [name for name in program.outputs if name.endswith(".gradient")]
    if all(feeds[name.removesuffix(".gradient")].dtype != np.float32 for name in names):
        yield path.name, ", ".join(feeds), "codes, explained at their encoding", "", str(len(covered.methods))
    for name, gradient in zip(names, compiled.run(names, feeds | {cotangent: weights}), strict=True):
        leaf = name.removesuffix(".gradient")
        if feeds[leaf].dtype != np.float32:
            continue
        way = rng.normal(size=feeds[leaf].shape).astype(np.float32)
        slope = float((gradient.astype(np.float64) * way).sum())

        def f(step: float, leaf: str = leaf, way: np.ndarray = way) -> float:
            moved = served.run([output], feeds | {leaf: feeds[leaf] + np.float32(step) * way})[0]
            return float((moved.astype(np.float64) * weights).sum())

        errors = [abs((f(step) - f(-step)) / (2 * step) - slope) / max(abs(slope), 1e-9) for step in STEPS]
        shape = f"{leaf} {list(feeds[leaf].shape)}"
        yield path.name, shape, f"{slope:.4g}", f"{min(errors):.0e}", str(len(covered.methods))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--free", type=int, default=1, help="what sizes are that a file leaves open")
    given = parser.parse_args()
    onnxruntime.set_default_logger_severity(3)
    print("| file | input | slope along a direction, or why not | differences off by | methods |")
    print("|---|---|---|---|---|")
    for path in given.files:
        try:
            for row in rows(path, given.free):
                print(f"| {' | '.join(row)} |", flush=True)
        except explain.ExplainError as error:
            print(f"| {path.name} | | {error} | | |", flush=True)


if __name__ == "__main__":
    main()
