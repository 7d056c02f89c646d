"""What passes between the wire formats and the service: a request as meant, an answer as found.

A wire format builds one of the requests, the service answers it, and a wire format writes the answer down. Neither
side sees the other's shape: no HTTP here, no JSON text, no sessions. Arrays of answers have the rows along axis 0,
whatever layout the model itself has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt
from PIL.Image import Image

from model_store import Manifest, ModelVersion

from .stages import NO_TRACE, Trace

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]


@dataclass(frozen=True)
class Rows:
    """Instances of the V1 protocol: lists, ``{"feature": value}`` objects, text, ``{"b64": ...}`` images."""

    instances: Sequence[Any]


@dataclass(frozen=True)
class ImageBody:
    """One encoded image, as the body of a request."""

    body: bytes
    media_type: str


@dataclass(frozen=True)
class Tensors:
    """Named tensors of the V2 protocol."""

    arrays: Arrays


@dataclass(frozen=True)
class RawTensor:
    """The bytes of a model's only input, as one item; its dtype and shape are the manifest's."""

    body: bytes


Payload = Rows | ImageBody | Tensors | RawTensor


@dataclass(frozen=True)
class PredictRequest:
    """A prediction asked for.

    ``version`` is a number, an alias or None for the default; ``outputs`` names the wanted outputs, None means all;
    ``trace`` follows the request; ``arrived`` is when it came (``time.monotonic()``, None is now), from when
    ``timeout_seconds`` counts.
    """

    model: str
    version: str | None
    payload: Payload
    outputs: Sequence[str] | None = None
    route: str = ""
    request_id: str = ""
    timeout_seconds: float | None = None
    arrived: float | None = None
    trace: Trace = field(default=NO_TRACE, repr=False, compare=False)


@dataclass(frozen=True)
class ExplainRequest(PredictRequest):
    """An explanation asked for; None leaves the choice to the model's manifest.

    ``target`` is what the client wrote: a class index or name, ``{"class": a, "versus": b}``, or a list with one of
    these per row. ``baseline`` is an instance of the model, ``background`` a list of instances or a background
    set. ``groups`` says what is removed together and ``removal`` what takes its place, as specs; groups may be whole
    numbers for each input, called ``group_names``. ``checks`` is a list of names of checks, or their parameters by
    name.
    """

    method: str | None = None
    target: Any = None
    output: str | None = None
    space: str | None = None
    baseline: Any = None
    background: Any = None
    groups: Any = None
    group_names: Sequence[str] | None = None
    removal: Any = None
    seed: int = 0
    parameters: Mapping[str, Any] = field(default_factory=dict)
    checks: Any = None


@dataclass
class Runs:
    """How the engine served a request: runs, and how much others shared them.

    ``stage_seconds`` is what each stage of the request took, ``answered`` when (on ``time.perf_counter``) the service
    had its answer; ``run_rows`` how many rows of the model a run of its programs had at most; ``threads`` how many
    threads the model's tuning gives a run, None where that is the engine's to say.
    """

    count: int = 0
    shared_with_max: int = 0
    batch_items_max: int = 0
    queue_seconds: float = 0.0
    run_seconds: float = 0.0
    stage_seconds: dict[str, float] = field(default_factory=dict)
    answered: float = 0.0
    run_rows: int | None = None
    threads: int | None = None

    def add(self, result: Any) -> None:
        """Counts one :class:`engine.RunResult`."""
        self.count += 1
        self.shared_with_max = max(self.shared_with_max, int(result.shared_with))
        self.batch_items_max = max(self.batch_items_max, int(result.batch_items))
        self.queue_seconds += float(result.queue_seconds)
        self.run_seconds += float(result.run_seconds)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: ``count``, ``shared_with_max``, ``batch_items_max``, and of an explanation ``run_rows``."""
        found = {
            "count": self.count,
            "shared_with_max": self.shared_with_max,
            "batch_items_max": self.batch_items_max,
        }
        return found if self.run_rows is None else {**found, "run_rows": self.run_rows}


@dataclass(frozen=True)
class Answer:
    """A prediction: inputs and outputs by name, axis 0 = rows, and what recorded them."""

    version: ModelVersion
    inputs: Arrays
    outputs: Arrays
    rows: int
    labels: Sequence[str] | None
    runs: Runs
    decisions: Sequence[str] = ()

    @property
    def manifest(self) -> Manifest:
        """The manifest of the version that answered."""
        return self.version.manifest

    @property
    def decision(self) -> str | None:
        """The ulid that the decisions of all rows share."""
        return self.decisions[0].rsplit(".", 1)[0] if self.decisions else None


@dataclass(frozen=True)
class FeatureAttribution:
    """What one feature (or declared group) of one row contributed."""

    feature: str
    label: str
    value: Any
    shown: str
    unit: str | None
    attribution: float
    error: float | None = None
    half_width: float | None = None


@dataclass(frozen=True)
class ExplainAnswer(Answer):
    """A prediction with its explanation.

    ``values`` are the attributions by input name, axis 0 = rows, ``errors`` their errors where the method has them,
    of the kind ``error_kind`` ("standard_error" of a sample, "quadrature_error" of an adaptive rule), ``half_widths``
    those of their 95 % intervals; ``groups``, ``removal`` and ``group_index`` tell what was removed and what took its
    place (grouping.py), ``background`` which rows were compared with (backgrounds.py);
    ``approximations`` what its gradients rest on (docs/http-api.md);
    ``features`` the same per row and feature where the manifest names features, else None. ``compared`` holds the
    baseline and background the client sent itself. The other sequences have one entry per row. A ``provisional``
    answer is what was known when it was sent, and no decision; a ``cached`` one is that of an equal request before, and
    nothing was run for it.
    """

    method: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    output: str = ""
    explained_name: str = ""
    units: str = ""
    targets: Sequence[Mapping[str, Any]] = ()
    values: Arrays = field(default_factory=dict)
    errors: Arrays | None = None
    error_kind: str | None = None
    half_widths: Arrays | None = None
    groups: Sequence[Mapping[str, Any]] | None = None
    removal: Sequence[Mapping[str, Any]] | None = None
    group_index: Arrays = field(default_factory=dict)
    background: Mapping[str, Any] | None = None
    features: Sequence[Sequence[FeatureAttribution]] | None = None
    compared: Arrays = field(default_factory=dict)
    base_values: Sequence[float] | None = None
    explained_values: Sequence[float] = ()
    quality: Sequence[Mapping[str, Any]] = ()
    program_digest: str | None = None
    baseline_digest: str | None = None
    background_digest: str | None = None
    approximations: Sequence[str] = ()
    images: Sequence[Image | None] = ()
    provisional: bool = False
    cached: bool = False
