"""Tensors whose data lie beside the graph, in files of their own: referred to, and read only where they are needed.

A graph of ONNX holds at most 2 GiB. What is larger keeps the data of its tensors in files that it names; a program
refers to the same places in the same files, so that it stays small and nothing is stored or loaded twice.
"""

from __future__ import annotations

import hashlib
import math
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from .errors import InvalidModel

LARGE = 1024  # elements; what has fewer is read into the graph
LONGEST = 255
DataFiles = Mapping[str, str | os.PathLike[str]]


@dataclass(frozen=True)
class ExternalData:
    """The data files of a model: `paths` by the name under which the graph refers to them."""

    paths: Mapping[str, Path] = field(default_factory=dict)
    _known: dict[str, tuple[int, str]] = field(default_factory=dict, repr=False, compare=False)

    def array(self, tensor: onnx.TensorProto) -> np.ndarray:
        """The data of a tensor that lie outside, as a read-only array [*dims] of the tensor's dtype: mapped, so that
        memory is taken for what is looked at. Raises InvalidModel where the file does not hold them."""
        path, dtype, offset = self.place(tensor)
        if 0 in tensor.dims:
            return np.zeros(tuple(tensor.dims), dtype)
        mapped = np.memmap(path, dtype, "r", offset, tuple(tensor.dims))
        return mapped if offset % dtype.itemsize == 0 else np.array(mapped)

    def place(self, tensor: onnx.TensorProto) -> tuple[Path, np.dtype[Any], int]:
        """The file that holds a tensor, its dtype there, and at which byte it begins. Raises InvalidModel where it does
        not hold it whole."""
        name, offset, length = _span(tensor)
        if name not in self.paths:
            raise InvalidModel(f"the data of {tensor.name!r} lie in {name!r}, which is not at hand: give data_files")
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type))
        wanted, size = math.prod(tensor.dims) * dtype.itemsize, _size(name, self.paths[name])
        if tensor.data_type in _PACKED or (length is not None and length != wanted):
            raise InvalidModel(f"{tensor.name!r}: {length} bytes are no {dtype} {list(tensor.dims)} ({wanted} bytes)")
        if not 0 <= offset <= offset + wanted <= size:
            raise InvalidModel(f"{tensor.name!r}: {wanted} bytes at {offset} are not inside {name!r} of {size} bytes")
        return self.paths[name], dtype, offset

    @property
    def digests(self) -> dict[str, tuple[int, str]]:
        """Size in bytes and SHA-256 (hex) of each file, whole; computed once, and only when it is asked for."""
        for name, path in self.paths.items():
            if name not in self._known:
                with path.open("rb") as file:
                    self._known[name] = _size(name, path), hashlib.file_digest(file, "sha256").hexdigest()
        return {name: self._known[name] for name in sorted(self.paths)}

    def digest(self, graph: bytes) -> str:
        """SHA-256 (hex) of a graph and the files it refers to. Without files, that of its bytes; with files, that of
        one line for the graph's digest and one `digest size name` for each file, in the order of their names."""
        own = hashlib.sha256(graph).hexdigest()
        if not self.paths:
            return own
        lines = [f"{own}\n", *(f"{digest} {size} {name}\n" for name, (size, digest) in self.digests.items())]
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    @property
    def folder(self) -> str | None:
        """The folder in which all files lie, or folders of it; None without files."""
        parents = [path.resolve().parent for path in self.paths.values()]
        return os.path.commonpath(parents) if parents else None

    def constants(self, graph: onnx.GraphProto) -> dict[str, np.ndarray]:
        """The initializers of a graph whose data lie in the files, by name: mapped, not read. Raises InvalidModel."""
        return {tensor.name: self.array(tensor) for tensor in graph.initializer if is_external(tensor)}

    def placed(self, graph: onnx.ModelProto) -> onnx.ModelProto:
        """The graph with the files called as they lie in `folder`, which is how a runtime finds them; itself, where
        they are called so."""
        names = {name: path.resolve().relative_to(self.folder or "").as_posix() for name, path in self.paths.items()}
        if all(name == place for name, place in names.items()):
            return graph
        placed = onnx.ModelProto()
        placed.CopyFrom(graph)
        for tensor in filter(is_external, tensors_of(placed)):
            for entry in tensor.external_data:
                entry.value = names.get(entry.value, entry.value) if entry.key == "location" else entry.value
        return placed

    def of(self, tensors: Iterable[onnx.TensorProto]) -> ExternalData:
        """The same, of the files that these tensors refer to; their digests are not computed again."""
        names = {_span(tensor)[0] for tensor in tensors if is_external(tensor)}
        return ExternalData({name: path for name, path in self.paths.items() if name in names}, self._known)


_PACKED = {TensorProto.STRING, TensorProto.INT4, TensorProto.UINT4, TensorProto.FLOAT4E2M1}


def external_data(given: DataFiles) -> ExternalData:
    """Data files by name, where they are given as anything that is a path."""
    return ExternalData({name: Path(path) for name, path in given.items()})


def is_external(tensor: onnx.TensorProto) -> bool:
    """Whether the data of a tensor lie in a file of their own."""
    return bool(tensor.data_location == TensorProto.EXTERNAL)


def located(model: onnx.ModelProto, folder: Path) -> dict[str, Path]:
    """The data files that a model refers to, beside it in `folder`. Raises InvalidModel where a name is not that of an
    ordinary file in there: paths lead elsewhere, and so do links."""
    found = {}
    for tensor in tensors_of(model):
        if is_external(tensor) and (name := _span(tensor)[0]) not in found:
            found[name] = folder / name
            _size(name, found[name])
    return found


def attach(model: onnx.ModelProto, given: DataFiles) -> ExternalData:
    """Check that all data of a model are at hand, and read into it (in place) what is small or not in the graph's own
    initializers and constants. Raises InvalidModel."""
    data = external_data(given)
    outside = [tensor for tensor in tensors_of(model) if is_external(tensor)]
    used = data.of(outside)
    kept = [tensor for tensor in _own(model.graph) if math.prod(tensor.dims) > LARGE]
    ids = {id(tensor) for tensor in kept}  # of the same objects as long as both lists hold them
    for tensor in outside:
        data.place(tensor)
        if id(tensor) not in ids:
            array = data.array(tensor)
            del tensor.external_data[:]
            tensor.data_location = TensorProto.DEFAULT
            tensor.raw_data = array.tobytes()
    return used


def tensors_of(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of a model: of its graph, the graphs inside of nodes, and its functions."""
    yield from _tensors(model.graph)
    for function in model.functions:
        yield from _attributes(function.node)


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    yield from _attributes(graph.node)


def _attributes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for attribute in (attribute for node in nodes for attribute in node.attribute):
        yield from ([attribute.t] if attribute.HasField("t") else [])
        yield from attribute.tensors
        for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            yield from _tensors(inner)


def _own(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """What becomes an initializer of the prepared graph."""
    yield from graph.initializer
    for node in graph.node:
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
            yield from (attribute.t for attribute in node.attribute if attribute.HasField("t"))


def _span(tensor: onnx.TensorProto) -> tuple[str, int, int | None]:
    """Name of the file, offset and length (None: not said) of the data of a tensor, in bytes."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    name = entries.get("location", "")
    if name in ("", ".", "..") or len(name) > LONGEST or any(mark in name for mark in "/\\\0"):
        raise InvalidModel(f"the data of {tensor.name!r} lie in {name!r}, which is not a file beside the model")
    try:
        length = entries.get("length")
        return name, int(entries.get("offset", 0)), None if length is None else int(length)
    except ValueError as error:
        raise InvalidModel(f"{tensor.name!r}: offset and length of its data are no numbers") from error


def _size(name: str, path: Path) -> int:
    """Bytes of an ordinary file."""
    try:
        found = path.lstat()
    except OSError as error:
        raise InvalidModel(f"the data file {name!r} could not be read: {error.strerror}") from error
    if not stat.S_ISREG(found.st_mode):
        raise InvalidModel(f"the data file {name!r} is a link, a folder or a device; expected an ordinary file")
    return found.st_size
