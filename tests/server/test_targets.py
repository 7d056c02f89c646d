"""Targets: what a client writes, the positions meant, and the names shown."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import explain
from model_store import Manifest, OutputSpec
from server.errors import BadRequest
from server.targets import describe_target, labels, output_spec, resolve_target


def output(
    kind: Any = "logits", shape: tuple[Any, ...] = ("N", 3), names: tuple[str, ...] = ("a", "b", "7")
) -> OutputSpec:
    return OutputSpec(
        name="y", kind=kind, dtype="float32", shape=list(shape), batch_axis=0, class_names=list(names), label="Y"
    )


@pytest.mark.parametrize(
    ("target", "rows", "resolved"),
    [
        (None, 1, None),
        ("predicted", 1, None),
        (2, 1, 2),
        ("b", 1, 1),
        ("7", 1, 2),
        ("0", 1, 0),
        ({"class": "a", "versus": 2}, 1, {"class": 0, "versus": 2}),
        ({"index": [1]}, 1, (1,)),
        ([0, "b"], 2, [0, 1]),
        (["predicted"], 1, None),
        (["predicted", "predicted"], 2, None),
        (["a", "predicted"], 2, [0, 2]),
    ],
)
def test_what_is_written_is_what_is_meant(target: Any, rows: int, resolved: Any) -> None:
    values = np.array([[0.0, 5.0, 1.0], [0.0, 1.0, 7.0]])[:rows]
    assert resolve_target(target, output(), rows, values) == resolved


def test_classes_and_contrasts_may_differ_by_row() -> None:
    found = resolve_target(["b", {"class": "a", "versus": "b"}], output(), 2)
    assert isinstance(found, explain.Target)
    f = [(found.weight[row] * np.array([10.0, 20.0, 30.0])[found.index[row, :, 0]]).sum() for row in range(2)]
    assert f == [20.0, 10.0 - 20.0]


@pytest.mark.parametrize(
    "target",
    [3, -1, "c", "9", 1.0, True, [], [0, 1], {"class": 0}, {"index": 1}, {"index": [True]}, {"versus": 1}, [{}]],
)
def test_what_is_not_there_is_refused(target: Any) -> None:
    with pytest.raises(BadRequest, match="target"):
        resolve_target(target, output(), 1)


def test_only_classes_are_predicted() -> None:
    assert resolve_target(None, output("value", ("N", 1), ()), 1) is None
    assert resolve_target(None, output("value", ("N",), ()), 1) is None
    for spec in (
        output("value", ("N", 3), ()),
        output("tensor", ("N", None), ()),
        output("reconstruction", ("N", 4), ()),
    ):
        with pytest.raises(BadRequest, match="several values"):
            resolve_target(None, spec, 1)
        assert resolve_target(2, spec, 1) == 2
        for listed in (["predicted"], ["predicted", 1]):
            with pytest.raises(BadRequest, match="several values"):
                resolve_target(listed, spec, len(listed), np.zeros((2, 4)))
    with pytest.raises(BadRequest, match=r"target\[1\]: got 'predicted', and the output has several axes"):
        resolve_target([0, "predicted"], output("logits", ("N", 9, 3)), 2, np.zeros((2, 9, 3)))


@pytest.mark.parametrize(
    ("index", "weight", "spec", "shown"),
    [
        ([[1]], [1.0], output(), {"index": 1, "name": "b"}),
        ([[1], [1]], [1.0, 0.0], output(), {"index": 1, "name": "b"}),
        ([[0], [2]], [1.0, -1.0], output(), {"index": [[0], [2]], "weight": [1.0, -1.0], "name": "a versus 7"}),
        ([[0]], [1.0], output("value", ("N", 1), ()), {"index": 0, "name": "Y"}),
        ([[2]], [1.0], output("value", ("N", 4), ()), {"index": 2, "name": "Y[2]"}),
        ([[4, 1]], [1.0], output("logits", ("N", 9, 3)), {"index": [4, 1], "name": "b"}),
        ([[4, 1]], [1.0], output("tensor", ("N", 9, 3), ()), {"index": [4, 1], "name": "Y[4, 1]"}),
        ([[0]], [1.0], output("logits", ("N", 1), ("no", "yes")), {"index": 0, "name": "yes"}),
        ([[0], [1]], [0.5, 0.5], output(), {"index": [[0], [1]], "weight": [0.5, 0.5], "name": "0.5·a + 0.5·b"}),
    ],
)
def test_a_target_has_a_name(index: Any, weight: Any, spec: OutputSpec, shown: dict[str, Any]) -> None:
    assert describe_target(np.array(index), np.array(weight), spec) == shown


def manifest(*outputs: OutputSpec) -> Manifest:
    from model_store import InputSpec

    inputs = [InputSpec(name="x", kind="tensor", dtype="float32", shape=["N", 2], batch_axis=0)]
    return Manifest(name="m", inputs=inputs, outputs=list(outputs))


@pytest.mark.parametrize(
    ("spec", "values", "found"),
    [
        (output(), [[0, 5, 1], [9, 5, 1]], ["b", "a"]),
        (output("probabilities", ("N", 1), ("no", "yes")), [[0.4], [0.5]], ["no", "yes"]),
        (output("logits", ("N", 1), ("no", "yes")), [[-0.1], [0.0]], ["no", "yes"]),
        (output("logits", ("N",), ("no", "yes")), [-0.1, 3], ["no", "yes"]),
        (output("value", ("N", 1), ()), [[1.0]], None),
    ],
)
def test_labels(spec: OutputSpec, values: Any, found: list[str] | None) -> None:
    array = np.array(values, dtype=np.float32)
    assert labels(manifest(spec), {"y": array}, len(array)) == found


def test_a_threshold_of_the_manifest_decides() -> None:
    import msgspec

    spec = msgspec.structs.replace(output("probabilities", ("N", 1), ("no", "yes")), threshold=0.2)
    assert labels(manifest(spec), {"y": np.array([[0.1], [0.3]])}, 2) == ["no", "yes"]


def test_the_explained_output() -> None:
    import msgspec

    first, second = output(), msgspec.structs.replace(output(), name="z")
    both = manifest(first, second)
    assert output_spec(both, None).name == "y"
    assert output_spec(both, "z").name == "z"
    with pytest.raises(BadRequest, match="one of y, z"):
        output_spec(both, "q")
