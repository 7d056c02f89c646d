"""The certificates of two trained models on real rows: 200 applicants for credit, 100 chest X-rays.

Trains the recipes, certifies their exports, verifies the stored versions on test rows, and writes what was found to
results/certificate.md. GLASSHOUSE_DATA names the folder of data files.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import exporters
import training
from engine import InProcessEngine
from model_store import Store

# Rows, and seconds for one check of one method, after which it takes fewer.
MODELS = {"credit": (200, 120.0), "xray": (100, 30.0)}
RESULTS = Path(__file__).parent / "results" / "certificate.md"
COMMAND = "GLASSHOUSE_DATA=data OMP_NUM_THREADS=1 python -m benchmarks.certificate"


def main(names: list[str]) -> None:
    """Every model named, or all of them."""
    data = os.environ.get("GLASSHOUSE_DATA")
    if data is None:
        print("GLASSHOUSE_DATA is not set: nothing to train on")
        return
    parts = []
    engine = InProcessEngine(max_batch=256, threads=1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            for name in names or list(MODELS):
                found = certificate(name, Path(data), Store(folder), engine)
                print("\n".join(part := section(name, found)), flush=True)
                parts += part
    finally:
        engine.close()
    if not names:
        RESULTS.write_text("\n".join([*head(), *parts]) + "\n")


def certificate(name: str, data: Path, store: Store, engine: exporters.Engine) -> Mapping[str, Any]:
    """Trained, exported, registered, and verified on its test rows."""
    trained = training.train(name, data=data, progress=False)
    version = exporters.register(store, training.export(trained, engine))
    count, seconds = MODELS[name]
    rows = {key: array[:count] for key, array in trained.test_inputs.items()}

    def tell(method: str) -> None:
        print("…", name, method, file=sys.stderr, flush=True)

    return exporters.verify(version, engine, rows=rows, seconds=seconds, tell=tell)


def head() -> list[str]:
    """What stands above the tables."""
    return [
        "# Certificates on real rows",
        "",
        f"    {COMMAND}",
        "",
        "What the figures are: [certificate](../../docs/certificate.md). Judge: the worst error of the rows.",
        "Randomised: median Spearman correlation with random weights, below 0.5. Error bars: share of 95 % intervals",
        "that hold the mean over other seeds. Reasons: share of rows with the same four over 20 seeds. n: rows, fewer",
        "where a figure would have taken longer than two minutes (credit) or half a minute (xray).",
    ]


def section(name: str, found: Mapping[str, Any]) -> list[str]:
    """The table of one model."""
    slopes = found["gradients"]
    lines = [
        "",
        f"## {name}: {found['rows']['n']} rows, {found['seconds']:.0f} s, {'passed' if found['passed'] else 'FAILED'}",
        "",
        f"Parity with the source: worst {worst(found['parity'])}. Gradients: autograd {worst(slopes['autograd'])}, "
        f"finite differences {worst(slopes['finite_difference'])}.",
        "",
        "| method | judge | worst | n | gap: median | worst | n | randomised | n | error bars | reasons | n | passed |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [row(method, report) for method, report in found["methods"].items()]
    return [*lines, "", *(f"- failed: {failure}" for failure in found["failures"])]


def row(method: str, report: Mapping[str, Any]) -> str:
    """One line of it."""
    judge, gap, random, bars = (report[part] for part in ("judge", "completeness", "randomisation", "error_bars"))
    cells = [
        method,
        report["judged_by"]["name"] if report["judged_by"] else str(judge),
        number(judge, "worst"),
        number(judge, "n"),
        number(gap, "median"),
        number(gap, "worst"),
        number(gap, "n"),
        number(random, "median_spearman"),
        number(random, "n"),
        number(bars, "share"),
        number(bars["reasons"], "share") if isinstance(bars, Mapping) else "–",
        number(bars, "n"),
        {True: "yes", False: "NO", None: "–"}[report["passed"]],
    ]
    return "| " + " | ".join(cells) + " |"


def number(figure: Any, key: str) -> str:
    """A number of a figure, or a dash where nothing was judged."""
    return f"{figure[key]:.3g}" if isinstance(figure, Mapping) and key in figure else "–"


def worst(figure: Any) -> str:
    """The worst of a figure, with its tolerance."""
    return f"{figure['worst']:.2g} of {figure['tolerance']:g}" if isinstance(figure, Mapping) else str(figure)


if __name__ == "__main__":
    main(sys.argv[1:])
