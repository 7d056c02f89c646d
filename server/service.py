"""The story of a prediction and of an explanation, told once, without HTTP.

*Predict:* the version is resolved, the rows are decoded by its manifest, the engine runs the served file, audit/
commits the decision, the answer leaves.

*Explain:* the same, and between run and record explain/ plans, the engine runs its programs chunk by chunk in the gaps
that predictions leave, and explain/ reduces them to attributions with their quality.

Nothing is answered that could not be recorded, unless decisions are switched off.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TypeVar

import numpy as np

import engine
import explain
import model_store
from audit import AuditLog, Decision
from model_store import Decoded, Manifest, ModelVersion, Store
from pictures import Picture

from . import catalogue, drawing, methods, recorded, records, references, targets
from .config import Config
from .errors import AuditDisabled, BadRequest, BodyTooLarge, ModelUnusable, message_of
from .explained import explained_answer
from .loaded import LoadedModel, LoadedModels, naming
from .logs import log, reasons
from .messages import (
    Answer,
    Array,
    ExplainAnswer,
    ExplainRequest,
    ImageBody,
    Payload,
    PredictRequest,
    RawTensor,
    Rows,
    Runs,
)
from .runner import run_model
from .wire.tensors import BYTES, datatype_of, from_bytes, require_finite

AnswerT = TypeVar("AnswerT", bound=Answer)


@dataclass(frozen=True)
class Clock:
    """When a request came, and until when it may be worked on."""

    deadline: float
    received_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    received_ns: int = field(default_factory=time.monotonic_ns)


class Service:
    """Answers requests about the models of one store.

    Every method may be called from many threads. Errors of the rooms it enters pass through as they are.
    """

    def __init__(self, store: Store, runner: engine.Engine, log: AuditLog | None, config: Config) -> None:
        self.store = store
        self.engine = runner
        self.audit = log
        self.config = config
        self._models = LoadedModels(config.model_cache, certified=config.require_certificate)
        self._missing: dict[str, str] = {"server": "is starting"}

    def start(self) -> None:
        """Loads every required model and runs its example once, so that the first request finds it warm."""
        missing: dict[str, str] = {}
        for name in self.config.required_models or self._offering():
            try:
                self._warm_up(self.resolve(name, None))
            except (model_store.StoreError, engine.EngineError, ModelUnusable) as error:
                log().error("model not loaded", extra={"model": name, "reason": reasons(error)})
                missing[name] = message_of(error)
        self._missing = missing

    def _offering(self) -> list[str]:
        """The models of which some version is not archived; one that cannot be read is among them."""
        names = []
        for name in self.store.models():
            with contextlib.suppress(model_store.UnknownVersion):
                with contextlib.suppress(model_store.CorruptBlob, model_store.InvalidManifest):
                    self.store.resolve(name)
                names.append(name)
        return names

    def _warm_up(self, loaded: LoadedModel) -> None:
        self._open(loaded)
        instance = catalogue.example(loaded.version)
        if instance is not None:
            decoded = model_store.decode_rows(loaded.manifest, [instance], self.config.max_image_pixels)
            run_model(self.engine, loaded, decoded, time.monotonic() + self.config.deadline_seconds, Runs())

    def missing(self) -> Mapping[str, str]:
        """The required models that are not loaded, with the reason; empty means ready."""
        return self._missing

    def models(self) -> list[ModelVersion]:
        """The default version of every model that offers a readable one, by name."""
        found = []
        for name in self.store.models():
            with contextlib.suppress(model_store.UnknownVersion, model_store.CorruptBlob, model_store.InvalidManifest):
                found.append(self.store.resolve(name))
        return found

    def loaded(self, version: ModelVersion) -> LoadedModel:
        """The model of this version as it is kept in use."""
        return self._models.get(version)

    def resolve(self, name: str, version: str | None) -> LoadedModel:
        """The model of a name and a version (a number, an alias or None for the default)."""
        return self.loaded(self.store.resolve(name, version))

    def load(self, name: str, version: str | None) -> None:
        """Makes the model's session, unless it is there."""
        self._open(self.resolve(name, version))

    def _open(self, loaded: LoadedModel) -> None:
        with naming(loaded.version):
            self.engine.load(loaded.artifact)

    def index(self) -> list[dict[str, str]]:
        """Every offered version with its state, READY or UNAVAILABLE with the reason."""
        entries = []
        for name in self.store.models():
            for number in self.store.numbers(name, archived=False):
                entries.append({"name": name, "version": str(number), **self._state(name, number)})
        return entries

    def _state(self, name: str, number: int) -> dict[str, str]:
        try:
            self._open(self.loaded(self.store.resolve(name, number)))
        except (model_store.StoreError, engine.EngineError, ModelUnusable) as error:
            return {"state": "UNAVAILABLE", "reason": message_of(error)}
        return {"state": "READY", "reason": ""}

    def predict(self, request: PredictRequest) -> Answer:
        """Predicts. A NaN in an output is recorded and handed on; a wire format that cannot carry it refuses."""
        clock = self._clock(request)
        loaded = self.resolve(request.model, request.version)
        decoded = self._decode(loaded, request.payload)
        answer = self._predicted(loaded, decoded, request, clock)
        return self._recorded(answer, request, clock)

    def explain(self, request: ExplainRequest) -> ExplainAnswer:
        """Predicts and explains: the last of its `explanations`."""
        *_, answer = self.explanations(request, provisional=False)
        return answer

    def explanations(self, request: ExplainRequest, *, provisional: bool = True) -> Iterator[ExplainAnswer]:
        """Predicts and explains; every answer but the last is provisional and no decision. Closing it ends the work.

        Raises:
            InvalidOutput: the model answered a NaN or an infinity, which nothing can explain; the decision is recorded.
        """
        clock = self._clock(request)
        loaded = self.resolve(request.model, request.version)
        method = methods.choose(loaded, request)
        decoded = self._decode(loaded, request.payload)
        if decoded.rows > self.config.max_explain_rows:
            raise BodyTooLarge(f"rows: got {decoded.rows}, expected at most {self.config.max_explain_rows} to explain")
        predicted = self._predicted(loaded, decoded, request, clock)
        if records.not_finite(predicted.outputs):
            recorded = self._recorded(predicted, request, clock)
            for name, array in recorded.outputs.items():
                require_finite(array, f"output {name}", recorded.decisions)
        for answer in self._explained(loaded, decoded, predicted, request, method, clock, provisional):
            yield answer if answer.provisional else self._recorded(answer, request, clock)

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
        version = self.store.resolve(found.entry["model"]["name"], found.entry["model"]["version"])
        return drawing.picture(recorded.answer_of(found, version, self.config.max_image_pixels))

    def _log(self) -> AuditLog:
        if self.audit is None:
            raise AuditDisabled("decisions are not recorded by this server (audit = off)")
        return self.audit

    def close(self) -> None:
        """Stops the engine; what waits fails, what runs ends."""
        self.engine.close()

    def _clock(self, request: PredictRequest) -> Clock:
        seconds = self.config.deadline_seconds
        if request.timeout_seconds is not None:
            seconds = min(seconds, request.timeout_seconds)
        return Clock(time.monotonic() + seconds)

    def _decode(self, loaded: LoadedModel, payload: Payload) -> Decoded:
        manifest, limit = loaded.manifest, self.config.max_rows
        if isinstance(payload, Rows):
            if len(payload.instances) > limit:
                raise BodyTooLarge(f"rows: got {len(payload.instances)}, expected at most {limit}")
            return model_store.decode_rows(manifest, list(payload.instances), self.config.max_image_pixels)
        if isinstance(payload, ImageBody):
            return model_store.decode_image(manifest, payload.body, self.config.max_image_pixels)
        arrays = _raw_arrays(manifest, payload.body) if isinstance(payload, RawTensor) else payload.arrays
        decoded = model_store.decode_tensors(manifest, arrays)
        if decoded.rows > limit:
            raise BodyTooLarge(f"rows: got {decoded.rows}, expected at most {limit}")
        return decoded

    def _predicted(self, loaded: LoadedModel, decoded: Decoded, request: PredictRequest, clock: Clock) -> Answer:
        known = [spec.name for spec in loaded.manifest.outputs]
        for name in request.outputs or ():
            if name not in known:
                raise BadRequest("outputs", repr(name[:60]), f"names among {', '.join(known)}")
        runs = Runs()
        with naming(loaded.version):
            outputs = run_model(self.engine, loaded, decoded, clock.deadline, runs)
        labels = targets.labels(loaded.manifest, outputs, decoded.rows)
        return Answer(loaded.version, decoded.inputs, outputs, decoded.rows, labels, runs)

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
            result = self.engine.run(program, feeds, lane="explain", deadline=clock.deadline)
            predicted.runs.add(result)
            run.update(result.outputs)
        yield explained_answer(loaded, predicted, run, decoded, request, compared)

    def _recorded(self, answer: AnswerT, request: PredictRequest, clock: Clock) -> AnswerT:
        if self.audit is None:
            return answer
        image = self.config.image or None
        draft = records.draft(answer, request, self.engine.info(), clock.received_at, clock.received_ns, image)
        return replace(answer, decisions=tuple(self.audit.record(draft)))


def _raw_arrays(manifest: Manifest, body: bytes) -> dict[str, Array]:
    """The only input of a model from its bare bytes, as one item; one free size is found from the length."""
    if len(manifest.inputs) != 1:
        raise BadRequest(
            "body", "one raw tensor", f"named tensors, because the model has {len(manifest.inputs)} inputs"
        )
    spec = manifest.inputs[0]
    datatype = datatype_of(spec.dtype)
    shape = [1 if axis == spec.batch_axis else size for axis, size in enumerate(spec.shape)]
    free = [axis for axis, size in enumerate(shape) if not isinstance(size, int)]
    if len(free) > 1:
        raise BadRequest("body", "one raw tensor", "a named tensor with its shape, because several sizes are free")
    fixed = math.prod(size for size in shape if isinstance(size, int))
    for axis in free:
        shape[axis] = 1 if datatype == BYTES else len(body) // max(1, fixed * np.dtype(spec.dtype).itemsize)
    return {spec.name: from_bytes(body, datatype, [int(str(size)) for size in shape], f"input {spec.name}")}
