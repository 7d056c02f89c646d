"""Every error of every room has one number, and messages of our own failures say nothing of the inside."""

from __future__ import annotations

import pytest

import audit
import engine
import explain
import model_store
import pictures
from server import errors

EXPECTED = [
    (errors.BadRequest("field", "x", "y"), 400, "field: got x, expected y"),
    (errors.UnsupportedMedia("why"), 415, "why"),
    (errors.BodyTooLarge("why"), 413, "why"),
    (errors.BodyTooSlow("why"), 408, "why"),
    (errors.Overloaded("why"), 503, "why"),
    (errors.ExplanationsFull("why"), 429, "why"),
    (errors.NotAcceptable("why"), 406, "why"),
    (errors.MethodNotOffered("why"), 422, "why"),
    (errors.InvalidOutput("output y", 3), 422, "output y, row 3"),
    (errors.NotReady("why"), 503, "why"),
    (model_store.UnknownModel("m"), 404, "'m'"),
    (model_store.InvalidName("model", "..", "a name"), 404, "'..'"),
    (model_store.InvalidInput("f", "x", "y"), 400, "f: got x"),
    (model_store.TooLarge("f", "x", "y"), 413, "limit"),
    (model_store.CorruptBlob("ab", "blobs/ab", "bit"), 503, "blobs/ab"),
    (model_store.StoreUnavailable("/secret"), 503, "cannot be read"),
    (explain.InvalidParameter("p"), 400, "p"),
    (explain.InvalidTarget("t"), 400, "t"),
    (explain.InvalidInputs("i"), 400, "i"),
    (explain.MethodUnavailable("m"), 422, "m"),
    (explain.InvalidModel("m"), 422, "m"),
    (pictures.InvalidRows("r"), 422, "r"),
    (engine.QueueFull("q"), 429, "q"),
    (engine.DeadlineExceeded("d"), 504, "d"),
    (engine.RunFailed("/secret"), 500, "could not be run"),
    (engine.LoadFailed("/secret"), 503, "could not be loaded"),
    (engine.EngineClosed("/secret"), 503, "stopping"),
    (audit.UnknownDecision("x"), 404, "'x'"),
    (audit.CommitFailed("/secret"), 503, "recorded"),
    (audit.CorruptDecision("x", ["y"]), 500, "damaged"),
    (audit.ReadFailed("/secret"), 500, "failed on this request"),
    (ZeroDivisionError("/secret"), 500, "failed on this request"),
    (KeyError("/secret"), 500, "failed on this request"),
]


@pytest.mark.parametrize(("error", "status", "said"), EXPECTED, ids=lambda value: type(value).__name__)
def test_each_error_has_its_number_and_its_words(error: Exception, status: int, said: str) -> None:
    assert errors.status_of(error) == status
    message = errors.message_of(error)
    assert said in message
    assert "secret" not in message
    assert ("Retry-After" in errors.headers_of(status)) == (status in (429, 503))


def all_kinds(kind: type[Exception]) -> list[type[Exception]]:
    return [kind, *(deeper for below in kind.__subclasses__() for deeper in all_kinds(below))]


def test_no_error_of_a_room_is_unknown() -> None:
    roots = [model_store.StoreError, engine.EngineError, explain.ExplainError, audit.AuditError, pictures.PictureError]
    for kind in [below for root in roots for below in all_kinds(root)]:
        assert any(base in errors.statuses() for base in kind.__mro__), kind


def test_messages_are_one_line() -> None:
    assert errors.message_of(errors.NotAcceptable("a\r\nb\tc")) == "a b c"
