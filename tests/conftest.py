"""What holds for every test: with GLASSHOUSE_REQUIRE_ALL=1 a skip is a failure, unless its reason begins with GPU."""

import os
from collections.abc import Generator
from typing import Any

import pytest

OPTIONAL = "GPU"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Generator[None, Any, Any]:
    report = yield
    return required(item, report)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, Any, Any]:
    report = yield
    return required(collector, report)


def required(node: pytest.Item | pytest.Collector, report: Any) -> Any:
    """The report, turned into a failure where a skip is not allowed; an expected failure is not a skip."""
    if os.environ.get("GLASSHOUSE_REQUIRE_ALL") != "1" or report.outcome != "skipped" or hasattr(report, "wasxfail"):
        return report
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if not reason.removeprefix("Skipped: ").startswith(OPTIONAL):
        report.outcome = "failed"
        report.longrepr = f"{node.nodeid} was skipped where GLASSHOUSE_REQUIRE_ALL=1 allows no skip: {reason}"
    return report
