"""``infer`` of the Open Inference Protocol: from a WSGI environ to body and headers of the answer.

The Flask route in v2.py answers with it and, without Flask around it, `direct.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from ..errors import BadRequest
from ..following import Followed
from ..messages import Answer, PredictRequest
from ..recording import Recorded
from ..wire import binary, v2
from .exchange import Environ, admit, refuse_query, told

HEADER_LENGTH = "HTTP_" + binary.HEADER.upper().replace("-", "_")


@dataclass(frozen=True)
class Inferred:
    """A prediction that is found and not yet written down."""

    environ: Environ
    followed: Followed
    framing: v2.InferBody
    recorded: Recorded[Answer]

    @property
    def committed(self) -> Future[None] | None:
        """What it waits for; None where nothing is recorded."""
        return self.recorded.committed

    def written(self) -> tuple[bytes, dict[str, str]]:
        """Body and headers of the answer, waited for until it is committed. Raises what the rooms raise."""
        answer = self.recorded.result()
        content, headers = v2.infer_answer(answer, self.framing)
        return content, told(self.environ, self.followed, answer, headers)


def infer(
    environ: Environ,
    followed: Followed,
    body: Callable[[], bytes],
    name: str,
    version: str | None,
    *,
    held: bool = False,
) -> Inferred:
    """Tensors in, tensors out. Raises what the rooms raise.

    ``held``: nobody waits in this thread for the decision to be committed.
    """
    asked, framing = read(environ, followed, body, name, version, "v2.infer")
    if framing.explain:
        raise BadRequest("explain", "it", "the address ending in /explain for this member")
    return Inferred(environ, followed, framing, followed.service.predicted(asked, held=held))


def read(
    environ: Environ, followed: Followed, body: Callable[[], bytes], name: str, version: str | None, route: str
) -> tuple[PredictRequest, v2.InferBody]:
    """The request as meant, and how its answer is to be framed; ``body`` is read when the rest was found good."""
    refuse_query(environ, "no query here; members stand in the JSON")
    fields = admit(environ, followed.service, followed.trace, route)
    framing = v2.read(body(), environ.get(HEADER_LENGTH))
    if framing.timeout_seconds is not None:
        own = fields["timeout_seconds"]
        fields["timeout_seconds"] = framing.timeout_seconds if own is None else min(own, framing.timeout_seconds)
    return PredictRequest(name, version, framing.payload, outputs=framing.outputs, **fields), framing
