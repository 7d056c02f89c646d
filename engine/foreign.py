"""What ONNX Runtime says when something goes wrong, in a form that can be passed on."""

from __future__ import annotations

import re

_PREFIX = re.compile(r"\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ")
_LENGTH = 500
# Of the machine; of an arena that may not grow; of CUDA and of its libraries.
_NO_MEMORY = re.compile(
    r"failed to allocate memory|bad_alloc|bad allocation|smaller than requested bytes|out of memory|_ALLOC_FAILED",
    re.IGNORECASE,
)


def in_short(error: BaseException) -> str:
    """One line, without the runtime's prefix."""
    text = " ".join(_PREFIX.sub("", str(error)).split()) or type(error).__name__
    return text if len(text) <= _LENGTH else text[:_LENGTH] + "…"


def lacks_memory(error: BaseException) -> bool:
    """Whether it says that there is no memory, of the machine or of a device."""
    return isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)) is not None
