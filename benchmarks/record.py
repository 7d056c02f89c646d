"""What recording a decision costs: commits per second and milliseconds each, by rows of a request and by threads.

Prints one line per case and writes them to benchmarks/results/record.json with the machine they were measured on.
The disk decides: every request waits for its own commit to be on it (synchronous=FULL).
"""

import itertools
import json
import platform
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

import audit

RESULTS = Path(__file__).parent / "results" / "record.json"
REQUESTS = 200


def draft(rows: int) -> audit.DecisionDraft:
    """A request of explained rows with 30 features."""
    x = np.zeros((1, 30), np.float32)
    explanation = {"method": "kernel_shap", "seed": 0, "base_value": 0.5, "explained_value": 1.5}
    row = audit.RowDraft(inputs={"x": x}, outputs={"y": x[:, :2]}, explanation=explanation, attributions={"x": x})
    model = {"name": "bench", "version": 1, "digest": "0" * 64, "model_digest": "0" * 64}
    return audit.DecisionDraft(
        model=model, route="bench", principal=None, received_at=datetime.now(UTC), rows=[row] * rows, runtime={}
    )


def measure(folder: Path, rows: int, threads: int) -> dict[str, float]:
    """Record REQUESTS requests and say how long each took and how many a second were done."""
    engine = audit.open_database(folder / f"{rows}-{threads}.db")
    audit.migrate(engine)
    log = audit.AuditLog(engine)

    def one(_: int) -> float:
        start = time.perf_counter()
        log.record(draft(rows))
        return time.perf_counter() - start

    one(0)
    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        each = list(pool.map(one, range(REQUESTS)))
    elapsed = time.perf_counter() - start
    engine.dispose()
    return {
        "rows": rows,
        "threads": threads,
        "requests_per_second": round(REQUESTS / elapsed, 1),
        "median_ms": round(statistics.median(each) * 1e3, 3),
        "p99_ms": round(statistics.quantiles(each, n=100)[98] * 1e3, 3),
    }


def main() -> None:
    """Measure every case."""
    with tempfile.TemporaryDirectory(dir=RESULTS.parents[1]) as folder:
        cases = [measure(Path(folder), rows, threads) for rows, threads in itertools.product((1, 16, 256), (1, 16))]
    for case in cases:
        print("  ".join(f"{name} {value:g}" for name, value in case.items()))
    RESULTS.parent.mkdir(exist_ok=True)
    machine = {"processor": platform.processor() or platform.machine(), "system": platform.platform()}
    RESULTS.write_text(json.dumps({"machine": machine, "cases": cases}, indent=2) + "\n")


if __name__ == "__main__":
    main()
