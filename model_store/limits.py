"""How much of a model file the gate accepts. The figures are bounds for hostile files, far above what honest ones
need."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of one check. Sizes are in bytes, times in seconds, tensors in elements.

    `domains` are those whose operators may be run, beside a model's own functions; "" is ai.onnx. `max_constant` bounds
    each tensor that a runtime would compute while it loads (constant folding), `max_constants` all of them together.
    """

    max_bytes: int = 1 << 30
    max_nodes: int = 100_000
    max_depth: int = 16
    max_functions: int = 1_000
    max_call_depth: int = 32
    max_initializers: int = 100_000
    max_tensor: int = 1 << 28
    max_constant: int = 1 << 24
    max_constants: int = 1 << 26
    domains: frozenset[str] = frozenset({"", "ai.onnx", "ai.onnx.ml"})
    memory_bytes: int = 1 << 30
    memory_per_byte: int = 8
    cpu_seconds: int = 60
    wall_seconds: float = 60.0
