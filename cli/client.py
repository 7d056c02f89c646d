"""The server's HTTP door from the command line: at an address, or in this process.

Both clients send the same requests to the same routes, so that a command answers alike with and without `--url`.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import Any, Protocol

from .errors import BadInput, ServerRefused, Unreachable
from .files import image, row
from .settings import configuration, open_store

DECISION_HEADER = "Glasshouse-Decision"
JSON = "application/json"
PICTURES = {".png": "image/png", ".svg": "image/svg+xml"}


@dataclass(frozen=True)
class Reply:
    """What came back."""

    status: int
    body: bytes
    decision: str | None

    def json(self) -> Any:
        """The body as JSON. Raises `ServerRefused` if it is none, which no Glasshouse server sends."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise ServerRefused(self.status, "the answer is no JSON; is this a Glasshouse server?") from error

    def checked(self) -> Reply:
        """This, if it is no error; else raises `ServerRefused` with the server's own message."""
        if self.status < HTTPStatus.BAD_REQUEST:
            return self
        content = self.json()
        message = content.get("error") if isinstance(content, dict) else None
        raise ServerRefused(self.status, str(message or f"the server answered {self.status}"))


class Client(Protocol):
    """Anything that answers a POST."""

    def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        """Send `body` to `path`, which is quoted and may have a query. Raises `Unreachable`."""


class RemoteClient:
    """A server at an address such as `http://127.0.0.1:8000`."""

    def __init__(self, url: str, timeout: float) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise BadInput(f"--url: got {url!r}, expected an address such as http://127.0.0.1:8000")
        self._base = url.rstrip("/")
        self._timeout = timeout

    def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        """See `Client.post`."""
        url = self._base + path
        request = urllib.request.Request(url, body, dict(headers))  # noqa: S310 - __init__ lets http and https pass only
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as answer:  # noqa: S310 - as above
                return Reply(answer.status, answer.read(), answer.headers.get(DECISION_HEADER))
        except urllib.error.HTTPError as error:
            with error:
                return Reply(error.code, error.read(), error.headers.get(DECISION_HEADER))
        except (OSError, HTTPException) as error:
            raise Unreachable(f"{self._base} does not answer: {getattr(error, 'reason', error)}") from error


class LocalClient:
    """The server's application in this process; only the model that is asked for is loaded."""

    def __init__(self, model: str, version: str | None, store: Path | None, config_file: Path | None) -> None:
        import server

        open_store(config_file, store).resolve(model, version)
        config = configuration(config_file, store=store, required_models=model)
        self._client = server.create_app(config).test_client()

    def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        """See `Client.post`."""
        answer = self._client.post(path, data=body, headers=dict(headers))
        return Reply(answer.status_code, answer.data, answer.headers.get(DECISION_HEADER))


@dataclass(frozen=True)
class Question:
    """What is sent to a model: rows as JSON, or one picture, and members beside them."""

    model: str
    version: str | None
    rows: Sequence[str]
    picture: Path | None
    members: Mapping[str, Any]
    parameters: Mapping[str, Any]

    def ask(self, client: Client, verb: str, accept: str = JSON) -> Reply:
        """POST it to the model's `verb` and return the checked reply."""
        path = f"/v1/models/{urllib.parse.quote(self.model, safe='')}"
        if self.version is not None:
            path += f"/versions/{urllib.parse.quote(self.version, safe='')}"
        path += f":{verb}"
        if self.picture is None:
            content = {"instances": [row(text) for text in self.rows], **self.members}
            if self.parameters:
                content["parameters"] = dict(self.parameters)
            body, media_type = json.dumps(content, ensure_ascii=False).encode(), JSON
        else:
            body, media_type = image(self.picture)
            query = {**self.members, **self.parameters}
            if query:
                path += "?" + urllib.parse.urlencode({name: _text(value) for name, value in query.items()})
        return client.post(path, body, {"Content-Type": media_type, "Accept": accept}).checked()


def client_of(
    model: str, version: str | None, url: str | None, timeout: float, store: Path | None, config_file: Path | None
) -> Client:
    """The server at `url`, or one in this process."""
    if url is None:
        return LocalClient(model, version, store, config_file)
    if store is not None:
        raise BadInput("--store: the server at --url has its own store; give one of the two")
    return RemoteClient(url, timeout)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
