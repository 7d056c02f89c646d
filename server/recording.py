"""An answer on its way into the log of decisions: it may be given once it is committed, and not before."""

from __future__ import annotations

import time
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from audit import Recording

from .messages import Answer
from .metrics import Figures
from .stages import Trace

AnswerT = TypeVar("AnswerT", bound=Answer)


@dataclass(slots=True)
class Recorded(Generic[AnswerT]):
    """``recording`` is None where decisions are not recorded; ``begun``, on ``time.perf_counter``, is when it began."""

    answer: AnswerT
    recording: Recording | None
    trace: Trace
    figures: Figures
    begun: float

    @property
    def committed(self) -> Future[None] | None:
        """Ends when the answer may be given, or when it cannot be recorded; None where nothing is waited for."""
        return None if self.recording is None else self.recording.committed

    def result(self) -> AnswerT:
        """The answer with its decisions, waited for. Raises audit.CommitFailed: then nothing may be answered."""
        answer = self.answer
        if self.recording is not None:
            answer = replace(answer, decisions=tuple(self.recording.result()))
            seconds = time.perf_counter() - self.begun
            answer.runs.stage_seconds["record"] = seconds
            self.trace.passed("record", seconds)
            self.trace.say(decision_id=answer.decision)
        return self.figures.answered(answer)
