"""Background sets as files: the rows of every input as npz, and how much each row counts."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Mapping

import numpy as np

from .errors import InvalidManifest
from .layout import Array


def weight_key(inputs: Iterable[str]) -> str:
    """The name of the weights beside the inputs: "weight", with as many marks behind it as no input is called."""
    names, key = set(inputs), "weight"
    while key in names:
        key += "'"
    return key


def pack_background(rows: Mapping[str, Array], weight: Array | None = None) -> bytes:
    """Rows by input name, [B, item...] each, and their weights [B]; equal arrays give equal bytes, as numpy stamps the
    members of an npz with a fixed date."""
    arrays = dict(rows) if weight is None else {**rows, weight_key(rows): np.asarray(weight, dtype=np.float64)}
    out = io.BytesIO()
    np.savez(out, allow_pickle=False, **{name: np.ascontiguousarray(array) for name, array in arrays.items()})
    return out.getvalue()


def read_background(data: bytes, inputs: Iterable[str], path: str) -> tuple[dict[str, Array], Array | None]:
    """The rows by input name, and their weights where the file has some.

    Raises InvalidManifest naming `path` for a file that is no npz of one array for each input, of equally many rows.
    """
    names = list(inputs)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise InvalidManifest(path, "is no npz of plain arrays") from error
    key = weight_key(names)
    weight = arrays.pop(key, None)
    if set(arrays) != set(names):
        raise InvalidManifest(path, "does not hold one array for each input")
    rows = {array.shape[:1] for array in [*arrays.values(), *([] if weight is None else [weight])]}
    if len(rows) != 1 or rows <= {(), (0,)}:
        raise InvalidManifest(path, "does not hold the same number of rows for each input, at least 1")
    return arrays, weight
