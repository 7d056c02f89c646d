"""What the runtime says, read."""

from __future__ import annotations

import pytest

from engine.foreign import in_short, lacks_memory


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("std::bad_alloc"),
        RuntimeError("Failed to allocate memory for requested buffer of size 5000"),
        RuntimeError("BFCArena::AllocateRawInternal Available memory of 16 is smaller than requested bytes of 32"),
        RuntimeError("CUDA failure 2: out of memory ; GPU=0 ; expr=cudaMalloc((void**)&p, size);"),
        RuntimeError("CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0"),
    ],
)
def test_that_there_is_no_memory_is_understood(error):
    assert lacks_memory(error)


@pytest.mark.parametrize("text", ["indices element out of data bounds", "invalid memory pattern", ""])
def test_other_errors_are_not_taken_for_it(text):
    assert not lacks_memory(RuntimeError(text))


def test_errors_come_in_one_line_of_bounded_length():
    assert in_short(RuntimeError("[ONNXRuntimeError] : 1 : FAIL : one\n  two")) == "one two"
    assert in_short(ValueError()) == "ValueError"
    assert len(in_short(RuntimeError("x" * 1000))) == 501
