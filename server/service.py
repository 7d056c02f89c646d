"""The story of a prediction and of an explanation, told once, without HTTP.

*Predict:* the version is resolved, the rows are decoded by its manifest, the engine runs the served file, audit/
commits the decision, the answer leaves.

*Explain:* the same, and between run and record explain/ plans, the engine runs its programs chunk by chunk in the gaps
that predictions leave, and explain/ reduces them to attributions with their quality. What was explained before and is
kept (results.py), or is being explained by an equal request (flights.py), is answered, and recorded, without a run.

Nothing is answered that could not be recorded, unless decisions are switched off.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import engine
import explain
from audit import AuditLog, Decision
from model_store import Decoded, Store
from pictures import Picture

from . import drawing, methods, quantum, recorded, records, references, results, targets
from .config import Config
from .decoding import decode
from .errors import AuditDisabled, BadRequest, BodyTooLarge
from .explained import explained_answer, kept_answer
from .flights import Flight, Flights
from .loaded import LoadedModel, naming
from .messages import Answer, ExplainAnswer, ExplainRequest, PredictRequest, Runs
from .metrics import Figures, Siblings
from .pool import step_aside
from .recording import Recorded
from .repository import Entry, Repository, worst
from .runner import run_model
from .traces import Traces
from .wire.tensors import require_finite

AnswerT = TypeVar("AnswerT", bound=Answer)


@dataclass(frozen=True)
class Clock:
    """When a request came, until when it may be worked on, and how its time is spent."""

    deadline: float
    received_ns: int
    runs: Runs = field(default_factory=Runs)

    @property
    def received_at(self) -> datetime:
        """When it came, by the calendar."""
        return datetime.now(UTC) - timedelta(microseconds=(time.monotonic_ns() - self.received_ns) / 1000)

    def within(self, seconds: float | None) -> Clock:
        """The same, unless a model's own deadline comes sooner."""
        own = self.deadline if seconds is None else self.received_ns / 1e9 + seconds
        return self if self.deadline <= own else replace(self, deadline=own)


class Service:
    """Answers requests about the models of one store.

    Every method may be called from many threads. Errors of the rooms it enters pass through as they are.
    """

    def __init__(
        self,
        store: Store,
        runner: engine.Engine,
        log: AuditLog | None,
        config: Config,
        shared: Path | None = None,
    ) -> None:
        self.engine = runner
        self.audit = log
        self.config = config
        self.models = Repository(store, runner, config, shared)
        self.results = results.Results(config.cache_mib * 1024 * 1024)
        self.flights = Flights(self.results)
        self.figures = Figures()
        self.siblings: Siblings | None = None
        self.traces: Traces | None = None

    def predict(self, request: PredictRequest) -> Answer:
        """Predicts. A NaN in an output is recorded and handed on; a wire format that cannot carry it refuses."""
        return self.predicted(request).result()

    def predicted(self, request: PredictRequest, *, held: bool = False) -> Recorded[Answer]:
        """The same, not waiting for the commit; with ``held`` nobody is going to wait for it in this thread."""
        clock = self._clock(request)
        loaded = self.models.resolve(request.model, request.version, clock.deadline)
        clock = clock.within(loaded.tuning.deadline_seconds)
        decoded = self._decoded(loaded, request, clock)
        answer = self._predicted(loaded, decoded, request, clock)
        if not held and self.audit is not None:
            step_aside()
        return self._begun(answer, request, clock)

    def explain(self, request: ExplainRequest) -> ExplainAnswer:
        """Predicts and explains: the last of its `explanations`."""
        *_, answer = self.explanations(request, provisional=False)
        return answer

    def explanations(self, request: ExplainRequest, *, provisional: bool = True) -> Iterator[ExplainAnswer]:
        """Predicts and explains; every answer but the last is provisional and no decision. Closing it ends the work.

        Raises:
            InvalidOutput: the model answered a NaN or an infinity, which nothing can explain; the decision is recorded.
        """
        step_aside()
        clock = self._clock(request)
        loaded = self.models.resolve(request.model, request.version, clock.deadline)
        clock = clock.within(loaded.tuning.deadline_seconds)
        method = methods.choose(loaded, request)
        request.trace.say(method=method)
        decoded = self._decoded(loaded, request, clock)
        if decoded.rows > self.config.max_explain_rows:
            raise BodyTooLarge(f"rows: got {decoded.rows}, expected at most {self.config.max_explain_rows} to explain")
        _require_outputs(loaded, request)
        with naming(loaded.version):
            quantum.decide(self.engine, loaded, decoded, self.config, clock.deadline)
        with self._flight(loaded, decoded, request, method, clock, alone=provisional) as flight:
            if flight.kept is not None:
                _require_time(clock)
                answer = kept_answer(loaded, decoded, flight.kept, clock.runs)
                yield self._recorded(answer, request, clock)
                return
            predicted = self._predicted(loaded, decoded, request, clock, "explain")
            if records.not_finite(predicted.outputs):
                recorded = self._recorded(predicted, request, clock)
                for name, array in recorded.outputs.items():
                    require_finite(array, f"output {name}", recorded.decisions)
            for answer in self._explained(loaded, decoded, predicted, request, method, clock, provisional):
                if not answer.provisional:
                    flight.finish(answer)
                    answer = self._recorded(answer, request, clock)
                yield answer

    def index(self) -> list[Entry]:
        """Every offered version with its state: of what the workers say of it, the worst."""
        others = self.siblings.others() if self.siblings is not None else []
        return worst([self.models.index(), *others])

    def cancel(self, request_id: str) -> None:
        """Ends what is done for the request of this id: it is answered with an error. An unknown id is no error."""
        self.flights.cancel(request_id)
        self.engine.cancel(request_id)

    def decision(self, decision_id: str) -> Decision:
        """A recorded decision, its digests checked."""
        return self._log().get(decision_id)

    def decisions(self, request_id: str) -> list[str]:
        """The ids of all decisions of one answer, by the part they share."""
        return self._log().ids(request_id)

    def picture_of(self, decision_id: str) -> Picture:
        """The picture of a recorded decision, drawn from its record and the manifest that answered.

        Raises:
            NotAcceptable: the record has nothing to draw; the message says why.
            NotFound: no such decision, or its model is no longer in the store.
        """
        found = self.decision(decision_id)
        recorded.require_drawable(found)
        model = found.entry["model"]
        version = self.models.store.resolve(model["name"], model["version"]).running(model["model_digest"])
        return drawing.picture(recorded.answer_of(found, version, self.config.max_image_pixels))

    def _log(self) -> AuditLog:
        if self.audit is None:
            raise AuditDisabled("decisions are not recorded by this server (audit = off)")
        return self.audit

    def close(self) -> None:
        """Stops the engine; what waits fails, what runs ends. Sends the traces that are left."""
        self.models.close()
        self.engine.close()
        for left in (self.siblings, self.traces):
            if left is not None:
                left.close()

    def _clock(self, request: PredictRequest) -> Clock:
        seconds = self.config.deadline_seconds
        if request.timeout_seconds is not None:
            seconds = min(seconds, request.timeout_seconds)
        came = time.monotonic() if request.arrived is None else request.arrived
        return Clock(came + seconds, int(came * 1e9))

    def _decoded(self, loaded: LoadedModel, request: PredictRequest, clock: Clock) -> Decoded:
        request.trace.say(model=loaded.version.name, version=loaded.version.version)
        clock.runs.threads = loaded.tuning.threads
        with request.trace.stage("decode", clock.runs.stage_seconds):
            return decode(loaded, request.payload, self.config)

    def _predicted(
        self,
        loaded: LoadedModel,
        decoded: Decoded,
        request: PredictRequest,
        clock: Clock,
        lane: engine.Lane = "predict",
    ) -> Answer:
        _require_outputs(loaded, request)
        runs = clock.runs
        with naming(loaded.version), request.trace.stage("predict", runs.stage_seconds):
            outputs = run_model(self.engine, loaded, decoded, clock.deadline, runs, request.request_id, lane)
        labels = targets.labels(loaded.manifest, outputs, decoded.rows)
        return Answer(loaded.version, decoded.inputs, outputs, decoded.rows, labels, runs)

    def _flight(
        self,
        loaded: LoadedModel,
        decoded: Decoded,
        request: ExplainRequest,
        method: str,
        clock: Clock,
        *,
        alone: bool,
    ) -> AbstractContextManager[Flight]:
        """Where its result is kept, made by an equal request meanwhile, or handed to; nowhere where none are kept."""
        if not self.results.limit:
            return nullcontext(Flight(lambda _: None))
        key = results.key_of(loaded, decoded, request, method, self.engine.info(), self.config.max_explain_evals)
        return self.flights.board(key.digest(), clock.deadline, request.request_id, alone=alone or key.hurried)

    def _explained(
        self,
        loaded: LoadedModel,
        decoded: Decoded,
        predicted: Answer,
        request: ExplainRequest,
        method: str,
        clock: Clock,
        provisional: bool,
    ) -> Iterator[ExplainAnswer]:
        """Answers so far, where they are wanted, and at last the finished one."""
        predicted.runs.run_rows = loaded.run_rows
        spec = targets.output_spec(loaded.manifest, request.output)
        compared = references.compared(loaded, method, request, self.config.max_rows)
        run = explain.begin(
            loaded.source,
            dict(decoded.inputs),
            method=method,
            outputs=dict(predicted.outputs),
            target=targets.resolve_target(request.target, spec, decoded.rows, predicted.outputs[spec.name]),
            output=spec.name,
            space=request.space,
            seed=request.seed,
            **compared,
            **methods.asked(loaded, method, request, self.config.max_explain_evals),
        )
        while (chunk := run.chunk()) is not None:
            if provisional and run.ready:
                yield replace(explained_answer(loaded, predicted, run, decoded, request, compared), provisional=True)
            program, feeds = chunk
            with request.trace.stage("explain chunk", predicted.runs.stage_seconds) as stage:
                result = self.engine.run(
                    loaded.running(program), feeds, lane="explain", deadline=clock.deadline, tag=request.request_id
                )
                stage.say(program=program.digest, batch_items=result.batch_items, queue_seconds=result.queue_seconds)
            predicted.runs.add(result)
            run.update(result.outputs)
        yield explained_answer(loaded, predicted, run, decoded, request, compared)

    def _recorded(self, answer: AnswerT, request: PredictRequest, clock: Clock) -> AnswerT:
        """The answer as it may be given: committed."""
        if self.audit is not None:
            step_aside()
        return self._begun(answer, request, clock).result()

    def _begun(self, answer: AnswerT, request: PredictRequest, clock: Clock) -> Recorded[AnswerT]:
        """The answer on its way into the log, where decisions are recorded."""
        begun, recording = time.perf_counter(), None
        if self.audit is not None:
            image = self.config.image or None
            draft = records.draft(answer, request, self.engine.info(), clock.received_at, clock.received_ns, image)
            recording = self.audit.begin(draft)
        return Recorded(answer, recording, request.trace, self.figures, begun)


def _require_outputs(loaded: LoadedModel, request: PredictRequest) -> None:
    """Raises BadRequest for a wanted output that the model does not have."""
    known = [spec.name for spec in loaded.manifest.outputs]
    for name in request.outputs or ():
        if name not in known:
            raise BadRequest("outputs", repr(name[:60]), f"names among {', '.join(known)}")


def _require_time(clock: Clock) -> None:
    """Raises DeadlineExceeded where nobody waits for the answer any more."""
    if clock.deadline <= time.monotonic():
        raise engine.DeadlineExceeded("the deadline passed before the answer was found")
