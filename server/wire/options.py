"""What an explain request may ask for beside its rows: the same members in V1, in V2's ``explain`` and in a query."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ..errors import BadRequest
from ..grouping import EXPECTED
from ..messages import ExplainRequest, PredictRequest
from ..plain import LARGEST
from . import strict_json
from .strict_json import kind_of

REFERENCES = ("baseline", "background", "groups", "group_names", "removal")
MEMBERS = ("method", "target", "output", "space", *REFERENCES, "seed", "parameters", "checks")
SPACES = ("logit", "probability", "output")
_MAX_SEED = 2**63 - 1


def explain_request(base: PredictRequest, options: Mapping[str, Any]) -> ExplainRequest:
    """The explain request of a prediction and its options.

    Raises:
        BadRequest: an unknown member, or a value of the wrong kind.
    """
    for name in options:
        if name not in MEMBERS:
            raise BadRequest(f"member {name[:60]!r}", "it", "only " + ", ".join(MEMBERS))
    for name in ("method", "output", "space"):
        if not isinstance(options.get(name), (str, type(None))):
            raise BadRequest(name, kind_of(options[name]), "a name")
    if options.get("space") not in (None, *SPACES):
        raise BadRequest("space", kind_of(options["space"]), "one of " + ", ".join(SPACES))
    seed = options.get("seed", 0)
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= _MAX_SEED:
        raise BadRequest("seed", kind_of(seed), f"a whole number from 0 to {_MAX_SEED}")
    parameters = options.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise BadRequest("parameters", kind_of(parameters), "an object of the method's parameters")
    _check_removed(options)
    common: dict[str, Any] = {entry.name: getattr(base, entry.name) for entry in dataclasses.fields(PredictRequest)}
    names = ("method", "target", "output", "space", *REFERENCES, "checks")
    chosen = {name: options.get(name) for name in names}
    return ExplainRequest(**(common | chosen), seed=seed, parameters=parameters)


def _check_removed(options: Mapping[str, Any]) -> None:
    rows = options.get("background")
    if not isinstance(rows, list | str | dict | None):
        expected = "a list of instances, the name of a background set, or an object of name, size and kind"
        raise BadRequest("background", kind_of(rows), expected)
    groups, names, removal = (options.get(name) for name in ("groups", "group_names", "removal"))
    if not isinstance(groups, str | dict | list | None):
        raise BadRequest("groups", kind_of(groups), EXPECTED)
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise BadRequest("group_names", kind_of(names), "a list of names, one for each group")
    if not isinstance(removal, str | dict | None):
        expected = "a kind of removal, alone or as the only member of an object, or one for each input"
        raise BadRequest("removal", kind_of(removal), expected)


def from_query(query: Mapping[str, str]) -> dict[str, Any]:
    """Explain options from a query string, for bodies that are no JSON; other names are the method's parameters.

    Values are JSON where they look like it (numbers, true, false, objects, lists), else text.
    """
    options: dict[str, Any] = {}
    parameters: dict[str, Any] = {}
    for name, text in query.items():
        if name in ("baseline", "parameters") or (name == "background" and text[:1] == "["):
            raise BadRequest(f"query {name}", "it", "a JSON body for this member")
        if name in MEMBERS:
            options[name] = text if name in ("method", "output", "space") else _value(text, name)
            if name == "checks" and isinstance(options[name], str):
                options[name] = [part.strip() for part in text.split(",")]
        else:
            parameters[name] = _value(text, name)
    if "target" in query and isinstance(options["target"], (bool, float, type(None))):
        options["target"] = query["target"]
    return {**options, "parameters": parameters}


def _value(text: str, name: str) -> Any:
    if text[:1] in ("{", "[") or text in ("true", "false"):
        return strict_json.loads(text.encode("utf-8", "replace"), f"query {name}")
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        if abs(number) <= LARGEST:
            return number
    return text
