"""docs/groups.md: every kind is there, and every example does what it says on an input of its kind."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from explain import InvalidParameter, removal, segments
from tests.explain.graphs import numbers

PAGE = (Path(__file__).parents[2] / "docs" / "groups.md").read_text("utf-8")
IMAGE, SERIES = {"x": numbers(2, 3, 32, 32)}, {"x": numbers(2, 3, 40)}
IDS, ROWS = {"x": np.arange(10).reshape(2, 5)}, {"x": numbers(2, 5)}
INPUTS = {"windows": SERIES, "tokens": IDS, "words": IDS, "token": IDS, "blocks": ROWS, "background": ROWS}
INPUTS["superpixels"] = {"x": np.kron(numbers(2, 3, 8, 8), np.ones((1, 1, 4, 4)))}


def examples(heading: str) -> dict[str, list[Any]]:
    """Of the first table under a heading, the examples of each kind."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (`[\"{].*?`) \|", section, re.MULTILINE)
    return {kind: [json.loads(text) for text in re.findall(r"`([^`]+)`", cell)] for kind, cell in rows}


def kinds(schema: Any) -> list[str]:
    """The kinds that a schema names."""
    return [next(iter(one["properties"])) for one in schema["anyOf"] if "required" in one]


GROUPS, PLACES = examples("Groups"), examples("What takes their place")


def test_every_kind_is_there() -> None:
    assert sorted(GROUPS) == sorted(kinds(segments.SCHEMA))
    assert sorted(PLACES) == sorted(kinds(removal.SCHEMA))


@pytest.mark.parametrize(("kind", "spec"), [(kind, spec) for kind, specs in GROUPS.items() for spec in specs])
def test_examples_of_groups(kind: str, spec: Any) -> None:
    assert segments.resolve(spec, INPUTS.get(kind, IMAGE)).count > 0


@pytest.mark.parametrize(("kind", "spec"), [(kind, spec) for kind, specs in PLACES.items() for spec in specs])
def test_examples_of_what_takes_their_place(kind: str, spec: Any) -> None:
    inputs = INPUTS.get(kind, IMAGE)
    groups = segments.resolve({"patches": {"count": 4}}, inputs) if inputs is IMAGE else None
    found = removal.resolve(spec, inputs, segments=groups, background={"x": numbers(3, 5)})
    assert np.isfinite(found.rows["x"]).all()


@pytest.mark.parametrize("word", ["input", "layout", "axis", "rest", "size", "count", "keep", "group"])
def test_every_option_is_there(word: str) -> None:
    assert f"`{word}`" in PAGE


def test_examples_that_are_wrong_would_be_seen() -> None:
    with pytest.raises(InvalidParameter):
        test_examples_of_groups("patches", {"patches": {"sizes": 3}})
    with pytest.raises(InvalidParameter):
        test_examples_of_what_takes_their_place("mean", "means")
