"""What a request is answered when it failed: the error's number and text, a line in the log, the reason counted."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from .envelope import DECISION, DECISION_HEADER, REQUEST_ID, failure
from .errors import InvalidOutput, status_of
from .following import Followed
from .logs import log, reasons


def failed(error: Exception, environ: dict[str, Any], followed: Followed) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body. Of an answer that was recorded before it failed the headers name the decision."""
    followed.failed(error)
    status = status_of(error)
    extra = {"request_id": environ[REQUEST_ID], "error": type(error).__name__}
    if status is HTTPStatus.INTERNAL_SERVER_ERROR:
        log().error("request failed", extra=extra, exc_info=error)
    elif status > HTTPStatus.INTERNAL_SERVER_ERROR:
        # Known trouble, repeated by every probe and every request: its reasons are what helps, not where it surfaced.
        log().warning("request not served", extra={**extra, "reason": reasons(error)})
    else:
        log().debug("request refused", extra=extra)
    number, headers, content = failure(error)
    if isinstance(error, InvalidOutput) and error.decisions:
        headers[DECISION_HEADER] = environ[DECISION] = error.decisions[0].rsplit(".", 1)[0]
    return number, headers, content
