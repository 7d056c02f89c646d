"""Requests under way: ended by whoever knows their id."""

from __future__ import annotations

from http import HTTPStatus

from flask import Blueprint, Response

from ..envelope import is_request_id
from ..errors import BadRequest
from .incoming import as_json, service

blueprint = Blueprint("cancelling", __name__)


@blueprint.delete("/v2/requests/<request_id>")
def cancel(request_id: str) -> Response:
    """Ends the work done under an ``X-Request-Id``, in whichever process it is done; an unknown id is no error."""
    if not is_request_id(request_id):
        raise BadRequest("request id", repr(request_id[:60]), "1 to 128 letters, digits and ._:-")
    service().cancel(request_id)
    response = as_json({"id": request_id})
    response.status_code = HTTPStatus.ACCEPTED
    return response
