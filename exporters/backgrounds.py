"""Named background sets of an export: many rows become few that stand for them, and the manifest says how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import explain
from model_store import BackgroundSet, Feature, pack_background

from .errors import InvalidExport
from .exported import Array

MOST_ROWS = 100


@dataclass(frozen=True)
class Background:
    """Rows [B, item...] by input name that a model may be compared with, and how they become at most `size`.

    `kind`: centres of "kmeans", a "sample", or all "rows" as they are; None is centres, and where categories are among
    the features, which have no mean, a sample. `weight` [B] says how much each row counts, `note` what they are.
    """

    rows: Mapping[str, Array]
    kind: Literal["rows", "kmeans", "sample"] | None = None
    size: int = MOST_ROWS
    weight: Any = None
    note: str = ""


def background_sets(
    given: Mapping[str, Background | Mapping[str, Array]], features: Sequence[Feature]
) -> tuple[dict[str, BackgroundSet], dict[str, bytes]]:
    """What the manifest says of each set, and its file; raises InvalidExport for rows that cannot be summarised."""
    described: dict[str, BackgroundSet] = {}
    files: dict[str, bytes] = {}
    for name, each in given.items():
        asked = each if isinstance(each, Background) else Background(each)
        kind, (rows, weight) = _summarised(name, asked, features)
        count = len(weight)
        equal = bool((weight == weight[0]).all())
        described[name] = BackgroundSet(rows=count, kind=kind, weights=not equal, note=asked.note)
        files[name] = pack_background(rows, None if equal else weight)
    return described, files


def _summarised(
    name: str, asked: Background, features: Sequence[Feature]
) -> tuple[Literal["rows", "kmeans", "sample"], tuple[dict[str, Array], Array]]:
    count = len(next(iter(asked.rows.values())))
    size = count if asked.kind == "rows" else asked.size
    kind = asked.kind or ("sample" if any(feature.kind == "category" for feature in features) else "kmeans")
    try:
        found = explain.summarise(asked.rows, size, kind="sample" if kind == "rows" else kind, weights=asked.weight)
    except explain.InvalidParameter as error:
        raise InvalidExport(f"background set {name!r}: {error}") from error
    return ("rows" if count <= size else kind), found
