"""Groups: each item's own are those of the item alone, -1 stays, what makes no sense is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import explain
from explain.groups import resolve_groups
from tests.explain.games import shapley, worth_of
from tests.explain.graphs import attribute, made, mlp, mlp_twin, numbers, tensor

X, BACKGROUND = numbers(4, 4, seed=580), numbers(3, 4, seed=581)
OWN = np.array([[0, 1, 2, 1], [1, 0, 0, 2], [0, 0, 1, 1], [2, 1, -1, 0]])  # the third item has two groups
METHODS: dict[str, dict[str, Any]] = {
    "exact_shap": {},
    "kernel_shap": {},
    "permutation_shap": {"averaged": True, "n_permutations": 5},
    "sampling_shap": {"n_permutations": 30},
    "partition_shap": {},
    "lime": {"n_samples": 50},
    "feature_ablation": {},
    "rise": {"n_masks": 50},
}


def predict(rows: np.ndarray) -> np.ndarray:
    return np.asarray(mlp_twin(tensor(rows))[:, 0].numpy())


@pytest.mark.parametrize("reference", ["background", "baseline"])
@pytest.mark.parametrize("method", METHODS)
def test_groups_of_each_item_are_those_of_the_item_alone(method: str, reference: str) -> None:
    if reference == "baseline" and "background" in explain.METHODS[method].needs:
        given: dict[str, Any] = {"removal": {"constant": 0.3}}
    else:
        given = {"background": BACKGROUND} if reference == "background" else {"baseline": X[::-1]}
    model, options = explain.Model(mlp("Softmax")), METHODS[method] | {"target": 0}
    together = attribute(model, {"x": X}, method, groups={"x": OWN}, **given, **options)
    assert together.values["groups"].shape == (4, 3)
    assert together.group_names == ("group 0", "group 1", "group 2")
    for item in range(4):
        alone_given = {k: (v[item : item + 1] if k == "baseline" else v) for k, v in given.items()}
        alone = attribute(
            model, {"x": X[item : item + 1]}, method, groups={"x": OWN[item]}, **alone_given, **options
        ).values["groups"][0]
        found = together.values["groups"][item]
        assert explain.attribution_error(found[: len(alone)], alone) <= 2e-6
        assert not found[len(alone) :].any()
    other = attribute(model, {"x": X}, method, groups={"x": OWN[[1, 0, 2, 3]]}, **given, **options).values["groups"]
    assert explain.attribution_error(other[:2], together.values["groups"][:2]) > 1e-3


def test_groups_of_each_item_by_enumeration() -> None:
    found = attribute(mlp(), {"x": X}, "exact_shap", background=BACKGROUND, target=0, groups={"x": OWN})
    for item, x in enumerate(X):
        count = int(OWN[item].max()) + 1
        expected = shapley(worth_of(predict, x, BACKGROUND, OWN[item]), count)
        assert explain.attribution_error(found.values["groups"][item, :count], expected) <= 1e-5


@pytest.mark.parametrize("method", METHODS)
def test_what_belongs_to_no_group_is_never_replaced(method: str) -> None:
    """The third feature of the reference could be anything."""
    groups = {"x": np.array([0, 1, -1, 1])}
    moved = BACKGROUND.copy()
    moved[:, 2] = 1e3
    pairs = [
        attribute(mlp(), {"x": X}, method, background=rows, target=0, groups=groups, **METHODS[method])
        for rows in (BACKGROUND, moved)
    ]
    assert explain.attribution_error(pairs[1].values["groups"], pairs[0].values["groups"]) <= 1e-6
    everything = attribute(mlp(), {"x": X}, method, background=moved, target=0, groups={"x": [0, 1, 1, 1]},
                           **METHODS[method])  # fmt: skip
    assert explain.attribution_error(everything.values["groups"], pairs[0].values["groups"]) > 1e-3


def test_one_input_may_have_groups_of_each_item_and_another_those_of_all() -> None:
    nodes: Any = [("Concat", ["a", "b"], ["x"], {"axis": 1}), ("Softmax", ["x"], ["s"]), ("MatMul", ["s", "w"], ["y"])]
    specs: Any = {"a": ("float32", ["n", 2]), "b": ("float32", ["n", 2])}
    model = made(nodes, specs, {"y": ("float32", ["n", 1])}, {"w": numbers(4, 1, seed=582)})
    inputs = {"a": X[:, :2], "b": X[:, 2:]}
    rows = {"a": BACKGROUND[:, :2], "b": BACKGROUND[:, 2:]}
    own = np.array([[0, 1], [1, 0], [0, 1], [1, 1]])
    found = attribute(model, inputs, "exact_shap", background=rows, groups={"a": own, "b": np.array([0, 2])})
    for item in range(4):
        part = {name: array[item : item + 1] for name, array in inputs.items()}
        each = {"a": own[item], "b": np.array([0, 2])}
        alone = attribute(model, part, "exact_shap", background=rows, groups=each)
        assert explain.attribution_error(alone.values["groups"][0], found.values["groups"][item]) <= 2e-6


REFUSED: list[tuple[Any, str]] = [
    ({"y": [0, 0, 0, 0]}, "groups"),
    ({"x": [0, 1, 2]}, r"groups of 'x': came shape \[3\], expected whole numbers of shape \[4\]"),
    ({"x": [0.0, 1, 2, 3]}, "groups of 'x': came no whole numbers"),
    ({"x": [[0, 1, 2, 3]] * 3}, r"groups of 'x': came shape \[3, 4\]"),
    ({"x": [0, 2, 2, 3]}, r"groups: came numbers \[0, 2, 3\], expected 0 to G-1 without gaps"),
    ({"x": [-1, -1, -1, -1]}, r"groups: came numbers \[\], expected 0 to G-1"),
    ({"x": [0, 1, -2, 1]}, r"groups: came numbers \[-2, 0, 1\]"),
    ({"x": [[0, 1], [2, 3, 4], 1, 2]}, "groups of 'x': came no whole numbers"),
    ([0, 1, 2, 3], "groups: came"),
    ({}, "groups: came nothing, expected one array for each of x"),
]


@pytest.mark.parametrize(("groups", "sentence"), REFUSED)
def test_what_are_no_groups_is_refused(groups: Any, sentence: str) -> None:
    with pytest.raises(explain.InvalidParameter, match=sentence):
        attribute(mlp(), {"x": X}, "exact_shap", background=BACKGROUND, target=0, groups=groups)


@pytest.mark.parametrize("names", [["one"], "ab", 3, ["a", "b", "c"]])
def test_as_many_names_as_groups(names: Any) -> None:
    with pytest.raises(explain.InvalidParameter, match=r"group_names: came .*, expected 2 names"):
        resolve_groups({"x": X}, {"x": [0, 1, 1, 0]}, names)
    assert resolve_groups({"x": X}, {"x": [0, 1, 1, 0]}, ["a", 7]).names == ("a", "7")
    with pytest.raises(explain.InvalidParameter, match="group_names: came without groups"):
        resolve_groups({"x": X}, None, names)


def test_without_groups_every_element_is_one() -> None:
    found = resolve_groups({"a": np.zeros((2, 2, 3)), "b": np.zeros((2, 1))}, None, None)
    np.testing.assert_array_equal(found.index["a"], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(found.index["b"], [6])
    assert (found.count, found.names, found.per_item, found.all_masked) == (7, None, False, True)
