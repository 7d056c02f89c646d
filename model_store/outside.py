"""Tensors whose data lie in files beside the graph, as the gate's child sees them: where each lies, and that nothing
else does.

A file is covered by the digest whole, so nothing in it may be without a name: what no tensor holds is refused, but for
the zeros that exporters put before a tensor so that it begins at a round number.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import onnx

from .errors import shown

PADDING = 1 << 16  # exporters align at up to so many bytes
KEYS = frozenset({"location", "offset", "length", "checksum"})
LONGEST = 255
_DIGITS = 18


class Refusal(Exception):
    """Why a model is refused, as one sentence."""


@dataclass(frozen=True)
class DataFile:
    """A data file that was opened for the child: its descriptor and its size in bytes."""

    handle: int
    size: int


@dataclass(frozen=True)
class Span:
    """Where the data of a tensor lie: in which file, from which byte to which."""

    file: str
    start: int
    end: int
    place: str


class Spans:
    """What lies where in the data files, by their names; `take` and `check` raise Refusal."""

    def __init__(self, files: Mapping[str, DataFile]) -> None:
        self._files = files
        self._found: dict[int, Span] = {}
        self._kept: list[onnx.TensorProto] = []  # so that no two have the same id

    def take(self, tensor: onnx.TensorProto, place: str, size: int) -> None:
        """A tensor of `size` bytes whose data lie outside."""
        entries = {entry.key: entry.value for entry in tensor.external_data}
        if len(entries) < len(tensor.external_data) or entries.keys() - KEYS:
            raise Refusal(f"{place}: where its data lie is said twice, or in words that are not known")
        name = entries.get("location", "")
        if name not in self._files:
            raise Refusal(f"{place}: its data lie outside the file ({shown(name)}); store them inside")
        start, length = (_number(entries.get(key, default), place) for key, default in _defaults(size))
        if length != size:
            raise Refusal(f"{place}: shape {shown(list(tensor.dims))} takes {size} bytes, {length} lie outside")
        if start + size > self._files[name].size:
            raise Refusal(f"{place}: its data end behind the end of {shown(name)} ({self._files[name].size} bytes)")
        self._found[id(tensor)] = Span(name, start, start + size, place)
        self._kept.append(tensor)

    def check(self) -> None:
        """Every byte of every file is a tensor's, of one alone, or a zero before one."""
        for name, file in self._files.items():
            spans = sorted((s for s in self._found.values() if s.file == name), key=lambda span: (span.start, span.end))
            spans = [span for span in spans if span.end > span.start]
            ends = [Span(name, 0, 0, ""), *spans, Span(name, file.size, file.size, "")]
            for before, after in pairwise(ends):
                if after.start < before.end:
                    raise Refusal(f"{after.place}: its data lie over those of {before.place}")
                gap = after.start - before.end
                if gap >= PADDING or any(os.pread(file.handle, gap, before.end)):
                    raise Refusal(f"{shown(name)} has bytes {before.end} to {after.start} that no tensor holds")

    def read(self, most: int) -> None:
        """Put the data of tensors of at most `most` bytes inside, and take the references out of all others."""
        for tensor in self._kept:
            span = self._found[id(tensor)]
            del tensor.external_data[:]
            tensor.data_location = onnx.TensorProto.DEFAULT
            if span.end - span.start <= most:
                tensor.raw_data = os.pread(self._files[span.file].handle, span.end - span.start, span.start)


def is_plain(name: str) -> bool:
    """Whether a name is that of a file in the same folder, and leads nowhere else."""
    known = name not in ("", ".", "..") and name.isprintable() and not any(mark in name for mark in "/\\")
    return known and len(name.encode("utf-8", "surrogatepass")) <= LONGEST


def _defaults(size: int) -> list[tuple[str, str]]:
    return [("offset", "0"), ("length", str(size))]


def _number(text: str, place: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS):
        raise Refusal(f"{place}: {shown(text)} is no place in a file")
    return int(text)
