"""What there is to know about the server and its models."""

from __future__ import annotations

from flask import Blueprint, Response

from .. import catalogue, certified, methods
from ..errors import BadRequest
from ..wire import strict_json
from .incoming import as_json, body, no_query, service

blueprint = Blueprint("metadata", __name__)


@blueprint.get("/v2")
def server() -> Response:
    """Name, version and extensions."""
    return as_json(catalogue.server_metadata(service().engine.info()))


@blueprint.get("/v1/models")
@blueprint.get("/v2/models")
def models() -> Response:
    """The names of the models."""
    return as_json({"models": [version.name for version in service().models.offered()]})


@blueprint.get("/v2/models/<name>")
@blueprint.get("/v2/models/<name>/versions/<version>")
def model(name: str, version: str | None = None) -> Response:
    """Inputs, outputs and versions of a model."""
    found = service().models.version(name, version)
    return as_json(catalogue.model_metadata(found, service().models.store.numbers(name, archived=False)))


@blueprint.get("/v2/models/<name>/config")
@blueprint.get("/v2/models/<name>/versions/<version>/config")
def config(name: str, version: str | None = None) -> Response:
    """The model configuration that Triton's clients read."""
    loaded = service().models.resolve(name, version)
    return as_json(catalogue.model_config(loaded, loaded.tuning.max_batch or service().config.max_batch))


@blueprint.get("/v2/models/<name>/stats")
@blueprint.get("/v2/models/<name>/versions/<version>/stats")
def model_statistics(name: str, version: str | None = None) -> Response:
    """Counts and times of one model."""
    found = service().models.version(name, version)
    return as_json({"model_stats": [catalogue.statistics(found, service().engine.statistics())]})


@blueprint.get("/v2/models/stats")
def statistics() -> Response:
    """Counts and times of all models."""
    figures = service().engine.statistics()
    return as_json({"model_stats": [catalogue.statistics(version, figures) for version in service().models.offered()]})


@blueprint.get("/v2/models/<name>/explainers")
@blueprint.get("/v2/models/<name>/versions/<version>/explainers")
def explainers(name: str, version: str | None = None) -> Response:
    """The methods a model offers with their parameters, and why it does not offer the others."""
    return as_json(methods.describe(service().models.resolve(name, version)))


@blueprint.get("/v2/models/<name>/certificate")
@blueprint.get("/v2/models/<name>/versions/<version>/certificate")
def certificate(name: str, version: str | None = None) -> Response:
    """The latest certificate of a model, the very bytes that its digest is of."""
    found = service().models.version(name, version)
    return Response(certified.certificate_bytes(found), content_type="application/json")


@blueprint.post("/v2/repository/index")
def index() -> Response:
    """Every model with its state; ``{"ready": true}`` leaves out those that are not."""
    no_query("no query here; members stand in the JSON")
    content = body()
    asked = strict_json.loads(content) if content.strip() else {}
    if not isinstance(asked, dict) or not isinstance(asked.get("ready", False), bool):
        raise BadRequest("ready", strict_json.kind_of(asked), "true or false, in an object")
    for name in asked.keys() - {"ready"}:
        raise BadRequest(f"member {name[:60]!r}", "it", "only ready")
    entries = service().index()
    return as_json([entry for entry in entries if entry["state"] == "READY" or not asked.get("ready")])


@blueprint.post("/v2/repository/models/<name>/load")
def load(name: str) -> Response:
    """Has the model answer with what the store says now, and waits for it."""
    _no_parameters()
    service().models.load(name)
    return as_json({"name": name, "load": True})


@blueprint.post("/v2/repository/models/<name>/unload")
def unload(name: str) -> Response:
    """Takes the model out of service until it is loaded again; nothing depends on a model, so nothing goes with it."""
    _no_parameters("unload_dependents")
    service().models.unload(name)
    return as_json({"name": name, "unload": True})


def _no_parameters(*harmless: str) -> None:
    """Refuses by name what Triton's clients may send along: models come from the store, never out of a request."""
    no_query("no query here; members stand in the JSON")
    content = body()
    asked = strict_json.loads(content) if content.strip() else {}
    if not isinstance(asked, dict):
        raise BadRequest("body", strict_json.kind_of(asked), "an object, or nothing")
    for name in asked.keys() - {"parameters"}:
        raise BadRequest(f"member {name[:60]!r}", "it", "only parameters")
    parameters = asked.get("parameters", {})
    if not isinstance(parameters, dict):
        raise BadRequest("parameters", strict_json.kind_of(parameters), "an empty object, or nothing")
    for name in sorted(parameters.keys() - set(harmless)):
        raise BadRequest(f"parameters.{name[:60]}", "it", "no parameters: what is loaded is what the store holds")
