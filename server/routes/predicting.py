"""``infer`` and ``predict``: from a WSGI environ to body and headers of the answer.

The Flask routes in v1.py and v2.py answer with them and, without Flask around them, `direct.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from ..errors import BadRequest
from ..following import Followed
from ..messages import Answer, PredictRequest
from ..recording import Recorded
from ..wire import binary, negotiation, strict_json, v1, v2
from .exchange import Environ, admit, refuse_query, told

HEADER_LENGTH = "HTTP_" + binary.HEADER.upper().replace("-", "_")
Written = tuple[bytes, dict[str, str]]


@dataclass(slots=True)
class Predicted:
    """A prediction that is found and not yet written down; ``write`` gives body and headers of the answer."""

    environ: Environ
    followed: Followed
    recorded: Recorded[Answer]
    write: Callable[[Answer], Written]

    @property
    def committed(self) -> Future[None] | None:
        """What it waits for; None where nothing is recorded."""
        return self.recorded.committed

    def written(self) -> Written:
        """Body and headers of the answer, waited for until it is committed. Raises what the rooms raise."""
        answer = self.recorded.result()
        content, headers = self.write(answer)
        return content, told(self.environ, self.followed, answer, headers)


def infer(
    environ: Environ,
    followed: Followed,
    body: Callable[[], bytes],
    name: str,
    version: str | None,
    *,
    held: bool = False,
) -> Predicted:
    """Tensors in, tensors out. Raises what the rooms raise.

    ``held``: nobody waits in this thread for the decision to be committed.
    """
    asked, framing = read(environ, followed, body, name, version, "v2.infer")
    if framing.explain:
        raise BadRequest("explain", "it", "the address ending in /explain for this member")
    recorded = followed.service.predicted(asked, held=held)
    return Predicted(environ, followed, recorded, lambda answer: v2.infer_answer(answer, framing))


def predict(
    environ: Environ,
    followed: Followed,
    body: Callable[[], tuple[bytes, str]],
    name: str,
    version: str | None,
    *,
    held: bool = False,
) -> Predicted:
    """Rows, or one image, in; predictions out. ``body`` gives it with its media type. Otherwise as `infer`."""
    refuse_query(environ, "no query on a predict request")
    fields = admit(environ, followed.service, followed.trace, "v1.predict")
    payload, more = v1.read(*body(), {})
    v1.no_options(more)
    recorded = followed.service.predicted(PredictRequest(name, version, payload, **fields), held=held)
    return Predicted(environ, followed, recorded, _rows_out)


def _rows_out(answer: Answer) -> Written:
    return strict_json.dumps(v1.predict_answer(answer)), {"Content-Type": negotiation.JSON}


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
