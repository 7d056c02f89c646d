"""Which explanation method is used, and whether the model offers it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import explain
from model_store import DEFAULT_BACKGROUND

from . import backgrounds, certified, checks, explainers, grouping
from .errors import BadRequest, MethodNotOffered
from .loaded import LoadedModel
from .messages import ExplainRequest

# What a method can compare with, but does not need: x minus a baseline in place of x.
TAKEN = ("groups", "removal", "background", "baseline")
OPTIONAL = {"input_x_gradient": ("baseline",)}


def choose(loaded: LoadedModel, request: ExplainRequest) -> str:
    """The name of the method: the one asked for, else the manifest's default.

    Raises:
        BadRequest: no method of this name, none asked for where the model has no default, or a baseline or background
            that the method would not use.
        MethodNotOffered: the model does not offer it; the message says why and what it offers.
    """
    offered = loaded.manifest.explanation.methods
    method = request.method or loaded.manifest.explanation.method
    if method is None:
        came = "none, and the model has no default"
        raise BadRequest("method", came, f"one of {', '.join(offered) or 'none: the model offers no explanations'}")
    if method not in explain.METHODS:
        raise BadRequest("method", repr(method[:60]), f"one of {', '.join(explain.METHODS)}")
    if method not in offered and not _brought(loaded, method, request):
        listed = ", ".join(offered) or "none"
        raise MethodNotOffered(
            f"method {method}: not offered by this model: {reason(loaded, method)}; offered: {listed}"
        )
    _refuse_unused(method, request)
    return method


def takes(method: str, reference: str) -> bool:
    """Whether a method compares with a "baseline" or "background", because it must or because it can, removes "groups",
    or takes a "removal"."""
    needs = explain.METHODS[method].needs
    if reference == "groups":
        return bool(needs & grouping.GROUPED)
    if reference == "removal":
        return explain.METHODS[method].removes
    return reference in needs or "reference" in needs or reference in OPTIONAL.get(method, ())


def _refuse_unused(method: str, request: ExplainRequest) -> None:
    named = "groups" if request.group_names is None else "group_names"
    members = (
        ("baseline", "baseline", "one", None if checks.remove(request) else request.baseline),
        ("background", "background", "one", request.background),
        ("removal", "removal", "one", request.removal),
        (named, "groups", "some", request.group_names if request.groups is None else request.groups),
    )
    for member, reference, some, sent in members:
        if sent is not None and not takes(method, reference):
            able = ", ".join(name for name in explain.METHODS if takes(name, reference))
            raise BadRequest(member, f"{some}, and method {method} uses none", f"none, or a method with {some}: {able}")


def _brought(loaded: LoadedModel, method: str, request: ExplainRequest) -> bool:
    """Whether the request itself brings the background, baseline, removal or few groups whose absence is why the
    method is not offered."""
    lacks = _lacks(loaded, method)
    instead = explain.METHODS[method].removes and request.removal is not None
    if lacks and request.background is None and not instead:
        return lacks == "reference" and request.baseline is not None
    few = request.groups not in (None, grouping.ELEMENTS)
    return lacks is not None or (method == "exact_shap" and few)


def _lacks(loaded: LoadedModel, method: str) -> str | None:
    """What a method needs and the model does not have: "background", "reference", or None."""
    needs, default = explain.METHODS[method].needs, loaded.manifest.explanation.baseline
    if DEFAULT_BACKGROUND in loaded.backgrounds.names:
        return None
    if explain.METHODS[method].removes and loaded.manifest.explanation.removal is not None:
        return None
    if "background" in needs:
        return "background"
    return "reference" if "reference" in needs and (default is None or default.kind != "constant") else None


def reason(loaded: LoadedModel, method: str) -> str:
    """Why a model does not offer a method."""
    given = loaded.manifest.explanation.refused.get(method)
    if given:
        return given
    return {
        "background": "it needs a background set and the model has none (send one as background)",
        "reference": "it needs a background set or a baseline and the model has neither (send one or a removal)",
    }.get(_lacks(loaded, method) or "", "the model's manifest does not list it")


def asked(loaded: LoadedModel, method: str, request: ExplainRequest, limit: int) -> dict[str, Any]:
    """The method's parameters and the checks as ``explain.begin`` takes them; raises BadRequest."""
    return {"checks": checks.asked(request, limit), **parameters(loaded, method, request.parameters, limit)}


def parameters(loaded: LoadedModel, method: str, given: Mapping[str, Any], limit: int) -> dict[str, Any]:
    """The method's parameters as asked for, the manifest's layer where none is named, and no number beyond the limit.

    Raises:
        BadRequest: a number larger than ``limit``.
    """
    for name, value in given.items():
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) > limit:
            raise BadRequest(f"parameters.{name[:60]}", f"{value:g}"[:40], f"at most {limit}")
        if name in RESERVED:
            raise BadRequest(f"parameters.{name}", "it", "this member beside parameters, not inside")
    known = explain.METHODS[method].parameters["properties"]
    axes = grouping.layouts(loaded.manifest)
    told = {"layer": loaded.manifest.explanation.layer, "layout": next(iter(axes.values())) if len(axes) == 1 else None}
    return {name: value for name, value in told.items() if value is not None and name in known} | dict(given)


RESERVED = frozenset(
    {
        "model",
        "inputs",
        "method",
        "outputs",
        "target",
        "output",
        "space",
        "baseline",
        "background",
        "background_weight",
        "seed",
        "groups",
        "group_names",
        "removal",
        "layouts",
        "checks",
    }
)


def describe(loaded: LoadedModel) -> dict[str, Any]:
    """What ``/explainers`` answers: the methods offered with their parameters, the refused with their reasons."""
    offered = [name for name in loaded.manifest.explanation.methods if name in explain.METHODS]
    refused = [name for name in explain.METHODS if name not in offered]
    certificate = certified.certificate_of(loaded.version)
    return {
        "name": loaded.version.name,
        "version": str(loaded.version.version),
        "default": loaded.manifest.explanation.method,
        "explainers": [
            {
                "name": name,
                "summary": explain.METHODS[name].summary,
                "parameters": explain.METHODS[name].parameters,
                "needs": sorted(explain.METHODS[name].needs),
                **explainers.told(loaded, name, [member for member in TAKEN if takes(name, member)]),
                "cost": explain.METHODS[name].passes,
                "caution": explain.METHODS[name].caution,
                "certificate": certified.of_method(certificate, loaded.version, name),
            }
            for name in offered
        ],
        "checks": checks.describe(),
        "backgrounds": backgrounds.describe(loaded.manifest),
        "refused": [{"name": name, "reason": reason(loaded, name)} for name in refused],
    }
