"""What the server counts itself: plain numbers under one lock, a few additions for each request."""

from __future__ import annotations

import math
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, TypeVar

from engine import Spread

from ..messages import Answer, ExplainAnswer
from .samples import Labels, Samples, Value
from .table import EVALUATIONS, GAPS, SECONDS

STAGES = ("decode", "queue", "run", "record", "encode")
FINISHED = "finished"
FRONT = "front"
AnswerT = TypeVar("AnswerT", bound=Answer)


class _Answers:
    """The answers of one operation and model."""

    __slots__ = ("rows", "stages")

    def __init__(self) -> None:
        self.rows = 0
        self.stages = {stage: Spread(SECONDS) for stage in STAGES}


class _Explained:
    """The rows explained of one model by one method."""

    __slots__ = ("evaluations", "forward", "gap", "stopped")

    def __init__(self) -> None:
        self.stopped: dict[str, int] = defaultdict(int)
        self.evaluations, self.gap, self.forward = Spread(EVALUATIONS), Spread(GAPS), Spread(GAPS)

    def add(self, quality: Mapping[str, Any]) -> None:
        self.stopped[quality.get("stopped_by") or FINISHED] += 1
        for name, spread in (
            ("evaluations", self.evaluations),
            ("completeness_gap_relative", self.gap),
            ("forward_gap", self.forward),
        ):
            value = quality.get(name)
            if value is not None and math.isfinite(value):
                spread.add(abs(value))


class Figures:
    """The figures of one worker. Every method may be called from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._in_flight = 0
        self._requests: dict[tuple[str, str, int], int] = defaultdict(int)
        self._errors: dict[Labels, int] = defaultdict(int)
        self._waits = Spread(SECONDS)
        self._seconds: dict[Labels, Spread] = defaultdict(lambda: Spread(SECONDS))
        self._answers: dict[Labels, _Answers] = defaultdict(_Answers)
        self._explained: dict[Labels, _Explained] = defaultdict(_Explained)

    def began(self) -> None:
        """A request is being answered."""
        with self._lock:
            self._in_flight += 1

    def abandoned(self) -> None:
        """A request is answered elsewhere, as if it had not begun."""
        with self._lock:
            self._in_flight -= 1

    def refused(self, status: int, error: str) -> None:
        """A request was refused before its address was looked at."""
        with self._lock:
            self._requests[FRONT, "", status] += 1
            self._errors[FRONT, "", error] += 1

    def ended(
        self, route: str, model: str, status: int, seconds: float, waited: float, error: str | None = None
    ) -> None:
        """A request was answered; ``waited`` is how many of the ``seconds`` passed before it was begun, ``error`` the
        type of what went wrong, ``model`` empty or of the store."""
        with self._lock:
            self._in_flight -= 1
            self._waits.add(waited)
            self._requests[route, model, status] += 1
            self._seconds[route, model].add(seconds)
            if error is not None:
                self._errors[route, model, error] += 1

    def answered(self, answer: AnswerT) -> AnswerT:
        """The service has an answer: where its time went so far, and how its rows were explained.

        What was kept from an equal request was neither run nor explained again.
        """
        runs, explained = answer.runs, isinstance(answer, ExplainAnswer)
        seconds = runs.stage_seconds
        with self._lock:
            answers = self._answers["explain" if explained else "predict", answer.version.name]
            answers.rows += answer.rows
            stages = answers.stages
            if runs.count:
                stages["queue"].add(runs.queue_seconds)
                stages["run"].add(runs.run_seconds)
            for stage in ("decode", "record"):
                if stage in seconds:
                    stages[stage].add(seconds[stage])
            if isinstance(answer, ExplainAnswer) and not answer.cached:
                rows = self._explained[answer.version.name, answer.method]
                for quality in answer.quality:
                    rows.add(quality)
        runs.answered = time.perf_counter()
        return answer

    def encoded(self, answer: Answer) -> float:
        """The wire format has written the answer down; gives the seconds since the service had it."""
        operation = "explain" if isinstance(answer, ExplainAnswer) else "predict"
        seconds = time.perf_counter() - answer.runs.answered
        with self._lock:
            self._answers[operation, answer.version.name].stages["encode"].add(seconds)
        return seconds

    def samples(self) -> Samples:
        """Everything counted so far."""
        with self._lock:
            answers, explained = dict(self._answers), dict(self._explained)
            found: dict[str, dict[Labels, Value]] = {
                "glasshouse_requests": {
                    (route, model, str(status)): count for (route, model, status), count in self._requests.items()
                },
                "glasshouse_request_errors": dict(self._errors),
                "glasshouse_request_seconds": {key: spread.frozen() for key, spread in self._seconds.items()},
                "glasshouse_request_wait_seconds": {(): self._waits.frozen()},
                "glasshouse_requests_in_flight": {(): self._in_flight},
                "glasshouse_rows": {key: entry.rows for key, entry in answers.items()},
                "glasshouse_stage_seconds": {
                    (*key, stage): spread.frozen()
                    for key, entry in answers.items()
                    for stage, spread in entry.stages.items()
                    if any(spread.counts)
                },
                "glasshouse_explanations": {
                    (*key, why): count for key, entry in explained.items() for why, count in entry.stopped.items()
                },
            }
            for name, part in (
                ("glasshouse_explanation_evaluations", "evaluations"),
                ("glasshouse_explanation_completeness_gap_ratio", "gap"),
                ("glasshouse_explanation_forward_gap", "forward"),
            ):
                found[name] = {key: getattr(entry, part).frozen() for key, entry in explained.items()}
        return found
