"""From any readable model to the one form that the compiler works on: see `prepare`."""

from .kinds import nothing_to_explain
from .quantized import ranges_at_run_time
from .steps import IR_VERSION, has_function_body, opset_of, prepare

__all__ = ["IR_VERSION", "has_function_body", "nothing_to_explain", "opset_of", "prepare", "ranges_at_run_time"]
