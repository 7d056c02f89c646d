"""What goes wrong in the server, and the only place where an error becomes an HTTP number.

::

    ServerError
    ├── ConfigError          a setting that is not understood
    ├── BadRequest           the request is malformed: names the field, what came and what was expected
    ├── UnsupportedMedia     a body or content coding that this route does not read
    ├── BodyTooLarge         more bytes or rows than the limits allow
    ├── BodyTooSlow          a body that did not arrive in time
    ├── Overloaded           more requests under way than the server takes
    ├── ExplanationsFull     more explanations at a time than their share of the threads
    ├── MethodNotOffered     a method this model does not offer, and why
    ├── NotAcceptable        the asked-for form of the answer cannot be made of this request
    ├── InvalidOutput        the model or an explanation answered a value that is not a number
    ├── AuditDisabled        a decision was asked for, but decisions are not recorded
    ├── NoCertificate        a certificate was asked for, and the model has none
    ├── ModelUnusable        a model that cannot be loaded, with the reason where it can be told
    │   └── NotCertified     this server requires a certificate that passed, and the model has none
    └── NotReady             a required model is not loaded

The errors of the other rooms pass through the server unchanged and are given their number here, by type. Every
failure is answered with one JSON shape, ``{"error": "<message>"}``. Messages of the client's own mistakes are passed
on; messages of our failures are replaced by fixed texts, so that no path, name or trace leaves the process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from http import HTTPStatus


class ServerError(Exception):
    """Base of what the server itself raises."""


class ConfigError(ServerError):
    """A setting, or a configuration file, that is not understood."""


class BadRequest(ServerError):
    """A malformed request."""

    def __init__(self, field: str, came: str, expected: str) -> None:
        super().__init__(f"{field}: got {came}, expected {expected}")
        self.field = field


class UnsupportedMedia(ServerError):
    """A body of a type or coding that is not read here."""


class BodyTooLarge(ServerError):
    """More bytes or rows than the limits allow."""


class BodyTooSlow(ServerError):
    """A body of which a part had not arrived when its time was up."""


class Overloaded(ServerError):
    """More requests are being answered and wait for a thread than may."""


class ExplanationsFull(ServerError):
    """More explanations are being computed than may be at a time."""


class MethodNotOffered(ServerError):
    """A method that exists, but not for this model; the message gives the reason."""


class NotAcceptable(ServerError):
    """The asked-for form cannot be made; the message names what to choose."""


class InvalidOutput(ServerError):
    """A NaN or infinite value that JSON cannot carry.

    ``decisions`` are the ids under which it was recorded.
    """

    def __init__(self, what: str, row: int, decisions: Sequence[str] = ()) -> None:
        super().__init__(
            f"{what}, row {row}: NaN or infinite, which JSON cannot carry (binary tensor data carries an output)"
        )
        self.what, self.row = what, row
        self.decisions = tuple(decisions)


class AuditDisabled(ServerError):
    """Decisions are not recorded by this server."""


class ModelUnusable(ServerError):
    """A model of the store that cannot be loaded; the message names it and its file."""


class NotCertified(ModelUnusable):
    """A model without a certificate that passed, on a server that requires one; the message says what failed."""


class NoCertificate(ServerError):
    """A version that has no certificate."""


class NotReady(ServerError):
    """A required model is not loaded."""


RETRY_AFTER_SECONDS = 1
BROKEN = "the server failed on this request; its log has the details under this request's id"
FIXED_MESSAGES: Mapping[str, str] = {
    "StoreUnavailable": "the model store cannot be read",
    "RunFailed": "the model could not be run on this input",
    "LoadFailed": "the explanation's program could not be loaded",
    "EngineClosed": "the server is stopping",
    "CommitFailed": "the decision could not be recorded, so no answer is given",
    "CorruptDecision": "the record of this decision is damaged: its contents do not match their digests",
}


@lru_cache(maxsize=1)
def statuses() -> Mapping[type[BaseException], HTTPStatus]:
    """The number of each error type; a subclass takes that of its nearest base.

    Built on first use, because naming another room's errors imports that room.
    """
    import audit
    import engine
    import explain
    import model_store
    import pictures

    return {
        BadRequest: HTTPStatus.BAD_REQUEST,
        UnsupportedMedia: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        BodyTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        BodyTooSlow: HTTPStatus.REQUEST_TIMEOUT,
        Overloaded: HTTPStatus.SERVICE_UNAVAILABLE,
        ExplanationsFull: HTTPStatus.TOO_MANY_REQUESTS,
        MethodNotOffered: HTTPStatus.UNPROCESSABLE_ENTITY,
        NotAcceptable: HTTPStatus.NOT_ACCEPTABLE,
        InvalidOutput: HTTPStatus.UNPROCESSABLE_ENTITY,
        AuditDisabled: HTTPStatus.NOT_FOUND,
        ModelUnusable: HTTPStatus.SERVICE_UNAVAILABLE,
        NotCertified: HTTPStatus.CONFLICT,
        NoCertificate: HTTPStatus.NOT_FOUND,
        NotReady: HTTPStatus.SERVICE_UNAVAILABLE,
        model_store.NotFound: HTTPStatus.NOT_FOUND,
        model_store.InvalidInput: HTTPStatus.BAD_REQUEST,
        model_store.TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        model_store.InvalidName: HTTPStatus.NOT_FOUND,
        model_store.StoreError: HTTPStatus.SERVICE_UNAVAILABLE,
        explain.InvalidParameter: HTTPStatus.BAD_REQUEST,
        explain.InvalidTarget: HTTPStatus.BAD_REQUEST,
        explain.InvalidInputs: HTTPStatus.BAD_REQUEST,
        explain.MethodUnavailable: HTTPStatus.UNPROCESSABLE_ENTITY,
        explain.UnsupportedOperator: HTTPStatus.UNPROCESSABLE_ENTITY,
        explain.ExplainError: HTTPStatus.UNPROCESSABLE_ENTITY,
        pictures.PictureError: HTTPStatus.UNPROCESSABLE_ENTITY,
        engine.QueueFull: HTTPStatus.TOO_MANY_REQUESTS,
        engine.DeadlineExceeded: HTTPStatus.GATEWAY_TIMEOUT,
        engine.Cancelled: HTTPStatus.CONFLICT,
        engine.InvalidFeeds: HTTPStatus.BAD_REQUEST,
        engine.RunFailed: HTTPStatus.INTERNAL_SERVER_ERROR,
        engine.EngineError: HTTPStatus.SERVICE_UNAVAILABLE,
        audit.UnknownDecision: HTTPStatus.NOT_FOUND,
        audit.CommitFailed: HTTPStatus.SERVICE_UNAVAILABLE,
        audit.AuditError: HTTPStatus.INTERNAL_SERVER_ERROR,
    }


def status_of(error: BaseException) -> HTTPStatus:
    """The HTTP status of any error; what is not known is our own failure."""
    table = statuses()
    for kind in type(error).__mro__:
        if kind in table:
            return table[kind]
    return HTTPStatus.INTERNAL_SERVER_ERROR


def message_of(error: BaseException) -> str:
    """What the client is told; see the module's docstring."""
    for kind in type(error).__mro__:
        if kind.__name__ in FIXED_MESSAGES:
            return FIXED_MESSAGES[kind.__name__]
    if status_of(error) is HTTPStatus.INTERNAL_SERVER_ERROR:
        return BROKEN
    return " ".join(str(error).split())


def headers_of(status: int) -> dict[str, str]:
    """Extra headers of an error answer."""
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        return {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return {}
