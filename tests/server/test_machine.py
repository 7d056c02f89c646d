"""The processor, as different kernels describe it."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path

import pytest

from server import machine


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    machine.cpu.cache_clear()
    yield
    machine.cpu.cache_clear()


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (
            "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel\t\t: 143\nmodel name\t: Intel(R)  Xeon(R) 8481C\n\n" * 2,
            "Intel(R) Xeon(R) 8481C (here)",
        ),
        ("processor\t: 0\nBogoMIPS\t: 243.75\nCPU implementer\t: 0x41\n", "a chip (here)"),
        ("processor : 0\ncpu : POWER9, altivec supported\n", "POWER9, altivec supported (here)"),
        ("", "a chip (here)"),
        (None, "a chip (here)"),
    ],
)
def test_the_model_is_found(written: str | None, shown: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    if written is not None:
        file.write_text(written)
    monkeypatch.setattr(machine, "CPU_INFO", file)
    monkeypatch.setattr(platform, "processor", lambda: "a chip")
    monkeypatch.setattr(platform, "machine", lambda: "here")
    assert machine.cpu() == shown


def test_what_is_not_known_is_not_made_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "CPU_INFO", tmp_path / "none")
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert machine.cpu() == "arm64"
    machine.cpu.cache_clear()
    monkeypatch.setattr(platform, "machine", lambda: "")
    assert machine.cpu() is None
