"""The errors of this room.

ExplainError
├── InvalidModel          the file is no model this room can read
├── UnsupportedOperator   an operator, attribute or opset that no rule covers, named with its node
├── InvalidParameter      a parameter of a method or program: name, what came, what would be right
├── InvalidTarget         a target that the explained output does not have
├── InvalidInputs         arrays that do not fit the model or each other
├── MethodUnavailable     a method this model cannot offer, and why
└── RegistrationError     a rule registered twice or with a wrong signature (raised at import)
"""


class ExplainError(Exception):
    """Whatever this room refuses; its text is one sentence fit for the person who asked."""


class InvalidModel(ExplainError):
    """The bytes or the proto are no model this room can read."""


class UnsupportedOperator(ExplainError):
    """An operator (or one of its attributes) that stands in the way of the gradient."""

    def __init__(self, op: str, node: str, opset: int, reason: str) -> None:
        """Name the operator, its node, the model's opset, and what is missing."""
        super().__init__(f"operator {op} (node {node!r}, opset {opset}): {reason}")
        self.op, self.node, self.opset, self.reason = op, node, opset, reason


class InvalidParameter(ExplainError):
    """A parameter is unknown or its value is not allowed."""


class InvalidTarget(ExplainError):
    """The target does not exist in the explained output."""


class InvalidInputs(ExplainError):
    """Inputs, baselines or backgrounds whose names, dtypes or shapes do not fit."""


class MethodUnavailable(ExplainError):
    """The method exists, but not for this model or not with what was given."""


class RegistrationError(ExplainError):
    """A differentiation rule was registered twice or has a wrong signature."""
