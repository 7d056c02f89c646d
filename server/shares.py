"""What a request must not ask for beyond its share: explanations hold a part of the threads, and time is limited."""

from __future__ import annotations

import threading
import time

import engine

from .config import Config
from .errors import BadRequest, ExplanationsFull

# Ours, and the one that Envoy's proxies send; both in milliseconds.
TIMEOUT_HEADERS = {
    "HTTP_GLASSHOUSE_TIMEOUT_MS": "Glasshouse-Timeout-Ms",
    "HTTP_X_ENVOY_EXPECTED_RQ_TIMEOUT_MS": "x-envoy-expected-rq-timeout-ms",
}
MOST_DIGITS = 12


class ExplainShare:
    """How many explanations one worker process computes at a time; so threads are left for predictions."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._lock = threading.Lock()

    def take(self) -> None:
        """Raises ExplanationsFull, at once, where the share is held by others."""
        with self._lock:
            if self._held >= self._limit:
                raise ExplanationsFull(
                    f"explanations: got one more than the {self._limit} computed at a time, expected it later"
                )
            self._held += 1

    def give_back(self) -> None:
        """Ends one."""
        with self._lock:
            self._held -= 1


def explain_share(config: Config) -> ExplainShare:
    """The share that the settings allow: half of the threads, unless they say otherwise."""
    return ExplainShare(config.explain_threads or max(1, config.request_threads // 2))


def timeout_seconds(environ: dict[str, object]) -> float | None:
    """The shortest time that the request's headers allow, in seconds since it came; None where they say nothing.

    Raises:
        BadRequest: a header that is no whole number of milliseconds.
    """
    shortest = None
    for variable, header in TIMEOUT_HEADERS.items():
        text = environ.get(variable)
        if text is None:
            continue
        if not (isinstance(text, str) and text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS):
            raise BadRequest(header, repr(str(text)[:40]), "a whole number of milliseconds")
        seconds = int(text) / 1000
        if seconds > 0 and (shortest is None or seconds < shortest):  # 0 is no limit, as for Envoy
            shortest = seconds
    return shortest


def require_time(arrived: float, seconds: float | None) -> None:
    """Raises DeadlineExceeded where the time was over before the request was read."""
    if seconds is not None and arrived + seconds <= time.monotonic():
        raise engine.DeadlineExceeded("the deadline passed before the request was read")


def require_engine(runner: engine.Engine, config: Config, arrived: float, seconds: float | None) -> None:
    """Raises QueueFull where a prediction would wait for the engine until its time is over."""
    backlog = runner.backlog("predict")
    if backlog <= 0:
        return
    left = arrived + min(config.deadline_seconds, seconds or config.deadline_seconds) - time.monotonic()
    if backlog > left:
        raise engine.QueueFull(f"work for about {backlog:.1f} s waits already, expected less; try again later")
