"""No rule without a test: the cases of these files, collected, name every registered operator."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import explain
from explain.registry import REGISTRY
from tests.explain.test_rules_stop import STOPS

FILES = sorted(path.stem for path in Path(__file__).parent.glob("test_rules_*.py"))


def operators_with_a_case() -> set[str]:
    """Operators of which some file of rules tests a case."""
    modules = [import_module(f"tests.explain.{name}") for name in FILES if name != "test_rules_covered"]
    return {subject.op for module in modules for subject in getattr(module, "CASES", ())}


def untested(operators: set[str], tests: set[str]) -> list[str]:
    return sorted(operators - tests)


def test_every_rule_has_a_case() -> None:
    assert explain.METHODS  # importing the room has filled the registry
    assert untested({op for _, op in REGISTRY.rules}, operators_with_a_case()) == []


def test_every_stop_has_a_case() -> None:
    assert untested({op for _, op in REGISTRY.stops}, set(STOPS)) == []


def test_a_rule_without_a_case_is_named() -> None:
    assert untested({"Conv", "Wobble"}, operators_with_a_case()) == ["Wobble"]
