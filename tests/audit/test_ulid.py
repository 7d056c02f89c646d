"""Identifiers sort by time, never repeat, and keep rising when the clock does not."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from audit.ulid import ALPHABET, UlidFactory, encode


def decode(text: str) -> int:
    value = 0
    for digit in text:
        value = value * 32 + ALPHABET.index(digit)
    return value


def test_encode_agrees_with_horner() -> None:
    for value in (0, 1, 31, 32, 2**80, 2**128 - 1, 0x0123456789ABCDEF0123456789ABCDEF):
        assert decode(encode(value)) == value
    assert encode(2**128 - 1) == "7" + "Z" * 25


def test_starts_with_the_time_in_milliseconds() -> None:
    before = time.time_ns() // 1_000_000
    made = decode(UlidFactory()()) >> 80
    assert before <= made <= time.time_ns() // 1_000_000


@pytest.mark.parametrize("step_ms", [0, -5000])
def test_rises_when_the_clock_stands_still_or_goes_back(monkeypatch: pytest.MonkeyPatch, step_ms: int) -> None:
    clock = iter(1_700_000_000_000_000_000 + step_ms * 1_000_000 * i for i in range(50))
    monkeypatch.setattr(time, "time_ns", lambda: next(clock))
    factory = UlidFactory()
    made = [factory() for _ in range(50)]
    assert made == sorted(set(made))


def test_unique_across_threads() -> None:
    factory = UlidFactory()
    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(lambda _: factory(), range(4000)))
    assert len(set(made)) == 4000


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_a_forked_child_does_not_repeat_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    factory = UlidFactory()
    monkeypatch.setattr(time, "time_ns", lambda: 1_700_000_000_000_000_000)
    factory()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, factory().encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 64).decode() != factory()
    os.close(read)
    os.close(write)
