"""No rule without a test: the cases of these files, collected, name every registered operator."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import onnx
import pytest

import explain
from explain.registry import REGISTRY
from tests.explain.single import Case
from tests.explain.test_rules_quantized import TESTED as BYTES
from tests.explain.test_rules_stop import STOPS

FILES = sorted(path.stem for path in Path(__file__).parent.glob("test_rules_*.py"))


HOLDING = {"If", "Loop", "Scan"}  # test_rules_control.py


def operators_with_a_case() -> set[str]:
    """Operators of which some file of rules tests a case."""
    return {subject.op for subject in cases()} | BYTES | {"DynamicQuantizeLinear"} | HOLDING


def cases() -> list[Case]:
    modules = [import_module(f"tests.explain.{name}") for name in FILES if name != "test_rules_covered"]
    return [subject for module in modules for subject in getattr(module, "CASES", ())]


def untested(operators: set[str], tests: set[str]) -> list[str]:
    return sorted(operators - tests)


def test_every_rule_has_a_case() -> None:
    assert explain.METHODS  # importing the room has filled the registry
    assert untested({op for _, op in REGISTRY.rules}, operators_with_a_case()) == []


def test_every_stop_has_a_case() -> None:
    assert untested({op for _, op in REGISTRY.stops}, set(STOPS)) == []


def test_a_rule_without_a_case_is_named() -> None:
    assert untested({"Conv", "Wobble"}, operators_with_a_case()) == ["Wobble"]


# Operators whose dtypes the case itself states, or that exist in one precision only.
ONE_PRECISION = {"Cast", "CastLike", "Celu"}
WIDE = {"float64": onnx.TensorProto.DOUBLE, "float16": onnx.TensorProto.FLOAT}


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_every_gradient_has_the_precision_of_its_model_and_of_half_a_model_float32(dtype: str) -> None:
    for subject in cases():
        model = subject.model(dtype, items=True)
        ranks_known = all(value.type.tensor_type.HasField("shape") for value in model.graph.output)
        if subject.op in ONE_PRECISION or not ranks_known:
            continue
        program = explain.compile(model, "vjp")
        onnx.checker.check_model(program.model, full_check=True)
        kinds = {value.type.tensor_type.elem_type for value in program.model.graph.output if ".gradient" in value.name}
        assert kinds == {WIDE[dtype]} or subject.op == "Where", str(subject)
