"""What the command itself refuses, and the one place where any room's error becomes an exit code.

    CliError                 exit code
    ├── BadInput             2   an argument or file that cannot be used
    ├── ShadowedRoom         1   a room is loaded from somewhere else than the others, or not at all
    ├── ProblemsFound        1   a check ran and found something
    ├── Unreachable          5   no server answers at the address
    └── ServerRefused            a server answered with an error; the code says of which kind

Exit codes: 0 done, 1 failed, 2 bad usage or bad input, 3 not found, 4 refused (a model or method that is not
supported), 5 not available now, 70 a fault of ours, 130 interrupted.
"""

from __future__ import annotations

import sys
from http import HTTPStatus

FAILED, BAD_INPUT, NOT_FOUND, REFUSED, UNAVAILABLE, OUR_FAULT, INTERRUPTED = 1, 2, 3, 4, 5, 70, 130


class CliError(Exception):
    """Whatever this room refuses; its text is one line for the person at the terminal."""

    exit_code = FAILED


class BadInput(CliError):
    """An argument or file that cannot be used: names it, what came and what was expected."""

    exit_code = BAD_INPUT


class ShadowedRoom(CliError):
    """A room does not come from where the others come from."""


class ProblemsFound(CliError):
    """A check found something; what it found is printed already."""


class Unreachable(CliError):
    """No server answers at the address."""

    exit_code = UNAVAILABLE


class ServerRefused(CliError):
    """A server answered with an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = _of_status(status)


# By room and error, the errors a room's root does not speak for first; a subclass has the code of its nearest base.
EXIT_CODES: dict[str, dict[str, int]] = {
    "model_store": {
        "NotFound": NOT_FOUND,
        "InvalidInput": BAD_INPUT,
        "InvalidManifest": BAD_INPUT,
        "InvalidName": BAD_INPUT,
        "TooLarge": BAD_INPUT,
        "Conflict": BAD_INPUT,
        "RefusedModel": REFUSED,
        "StoreUnavailable": UNAVAILABLE,
        "StoreError": FAILED,
    },
    "explain": {
        "InvalidParameter": BAD_INPUT,
        "InvalidTarget": BAD_INPUT,
        "InvalidInputs": BAD_INPUT,
        "InvalidModel": REFUSED,
        "UnsupportedOperator": REFUSED,
        "MethodUnavailable": REFUSED,
        "ExplainError": FAILED,
    },
    "engine": {
        "InvalidFeeds": BAD_INPUT,
        "InvalidSettings": BAD_INPUT,
        "LoadFailed": REFUSED,
        "QueueFull": UNAVAILABLE,
        "DeadlineExceeded": UNAVAILABLE,
        "EngineClosed": UNAVAILABLE,
        "EngineError": FAILED,
    },
    "audit": {"UnknownDecision": NOT_FOUND, "AuditError": FAILED},
    "pictures": {"PictureError": FAILED},
    "exporters": {
        "InvalidImport": BAD_INPUT,
        "UnsupportedModel": REFUSED,
        "ParityFailed": REFUSED,
        "VariantRefused": REFUSED,
        "CertificateFailed": REFUSED,
        "ExportError": FAILED,
    },
    "training": {
        "UnknownRecipe": NOT_FOUND,
        "MissingData": NOT_FOUND,
        "BadData": BAD_INPUT,
        "InvalidSetting": BAD_INPUT,
        "TrainingError": FAILED,
    },
    "server": {"ConfigError": BAD_INPUT, "ServerError": FAILED},
}


def exit_code(error: BaseException) -> int | None:
    """The code of an error that a room raises on purpose; None for any other."""
    if isinstance(error, CliError):
        return error.exit_code
    for kind in type(error).__mro__:
        # An error can only be a room's if that room is imported already.
        for room, codes in EXIT_CODES.items():
            if kind.__name__ in codes and getattr(sys.modules.get(room), kind.__name__, None) is kind:
                return codes[kind.__name__]
    return None


def _of_status(status: int) -> int:
    known = {
        HTTPStatus.NOT_FOUND: NOT_FOUND,
        HTTPStatus.UNPROCESSABLE_ENTITY: REFUSED,
        HTTPStatus.TOO_MANY_REQUESTS: UNAVAILABLE,
        HTTPStatus.BAD_GATEWAY: UNAVAILABLE,
        HTTPStatus.SERVICE_UNAVAILABLE: UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT: UNAVAILABLE,
    }
    if status in known:
        return known[HTTPStatus(status)]
    return BAD_INPUT if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR else FAILED
