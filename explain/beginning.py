"""The start of an explanation: what was asked is checked and made precise, and a `Run` is begun; `attribute` is the
loop over it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .arrays import Arrays, check_inputs
from .coverage import judged
from .errors import InvalidInputs, InvalidParameter, MethodUnavailable
from .groups import resolve_groups
from .methods import METHODS, Method
from .model import Explained, Model, ModelLike
from .programs.draft import item_shape
from .quality import resolve_checks
from .references import References, check_references, replacement_of
from .removal import Replacement
from .removal import resolve as resolve_removal
from .request import Request, resolve_target
from .run import Attribution, Run, RunProgram
from .segments import Segments


def begin(
    model: ModelLike,
    inputs: Mapping[str, Any],
    *,
    method: str,
    outputs: Mapping[str, Any] | None = None,
    target: Any = None,
    output: str | None = None,
    space: str | None = None,
    baseline: Any = None,
    background: Any = None,
    background_weight: Any = None,
    groups: Any = None,
    group_names: Any = None,
    removal: Any = None,
    layouts: Mapping[str, str] | None = None,
    seed: int = 0,
    checks: Any = None,
    **parameters: Any,
) -> Run:
    """Begin an explanation of `inputs` (by name, [N, item...]) by one of `METHODS`.

    `outputs` are the model's own, if already computed. `target`: None for the predicted class, an index, N indices, a
    tuple of D indices, {"class": a, "versus": b}, or a `Target`. `output` and `space` ("logit", "probability",
    "output") say what is explained. `baseline` ([N, item...], one item, or a number) and `background` ([B, item...])
    by input name, or one array for a model with one input; `background_weight` [B] says how much each row counts. A
    background that is used again and again is best prepared once, by `Background.of`.
    Methods that remove groups of elements take `groups`, a spec (segments/) or by input the group of each element, and
    `removal`, what takes their place: a spec (removal/); without one the rows of the background do, or the baseline.
    `layouts` says by input what the axes of an item are ("CHW", "HWC", "TC"), where specs do not and ranks mislead;
    `checks` are names of `CHECKS` to be made of the answer, or their parameters by name.
    Raises InvalidInputs, InvalidParameter, InvalidTarget, MethodUnavailable, UnsupportedOperator.
    """
    handle, chosen = Model.of(model), _method(method, seed)
    explained, settings = handle.explained(output, space), chosen.resolve(parameters)
    arrays = check_inputs(handle, inputs)
    compared = check_references(handle, arrays, baseline, background, background_weight)
    players = resolve_groups(arrays, groups, group_names, layouts, handle.held)
    replacement = _replacement(chosen, removal, layouts, arrays, players, compared)
    asked = resolve_checks(checks, chosen, settings, _check_needs(handle, explained, chosen, compared, removal))

    def complete(own: Arrays) -> Request:
        _check_outputs(handle, explained, own, arrays)
        aim = resolve_target(explained, own, target, len(next(iter(arrays.values()))))
        references = (compared.baseline, compared.background, compared.weight, replacement)
        return Request(handle, explained, arrays, own, aim, *references, players, seed, settings, compared.prepared)

    run = Run(chosen, complete, handle, arrays, asked)
    run.predict_first() if outputs is None else run.know(outputs)
    return run


def _method(name: str, seed: Any) -> Method:
    """The method of a name, and a seed that is one."""
    if name not in METHODS:
        raise InvalidParameter(f"method: came {name!r}, expected one of {', '.join(METHODS)}")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InvalidParameter(f"seed: came {seed!r}, expected a whole number of at least 0")
    return METHODS[name]


def _replacement(
    method: Method,
    removal: Any,
    layouts: Mapping[str, str] | None,
    inputs: Arrays,
    groups: Segments,
    given: References,
) -> Replacement | None:
    """What takes the place of removed groups: as `removal` says, else the background, else the baseline."""
    background, weight = given.background, given.weight
    if removal is None:
        return replacement_of(background, weight, given.baseline)
    if not method.removes:
        raise InvalidParameter(f"removal: came {removal!r}, and method {method.name} removes nothing")
    counted = weight if background else None
    return resolve_removal(
        removal, inputs, segments=groups, layouts=layouts, background=background, background_weight=counted
    )


def _check_needs(model: Model, explained: Explained, method: Method, compared: References, removal: Any) -> set[str]:
    """Which references were given. Refuse a method that lacks what it needs; a removal stands for the background of
    those that remove groups."""
    given = {"baseline": compared.baseline, "background": compared.background, "removal": removal}
    references = {role for role, value in given.items() if value is not None}
    for role in ("baseline", "background"):
        if role in method.needs and not references & {role, "removal"}:
            raise MethodUnavailable(f"method {method.name} needs a {role}, and none was given")
    if "reference" in method.needs and not references:
        expected = "a background, a baseline or a removal"
        raise MethodUnavailable(f"method {method.name} needs {expected}, and none was given")
    reason = judged(model, explained).refused.get(method.name)
    if reason is not None:
        raise MethodUnavailable(f"method {method.name} is not offered for this model: {reason}")
    return references


def _check_outputs(model: Model, explained: Explained, outputs: Arrays, inputs: Arrays) -> None:
    name, items = explained.output, len(next(iter(inputs.values())))
    if name not in outputs:
        raise InvalidInputs(f"outputs: nothing came for {name!r}, the output that is explained")
    expected, found = (items, *item_shape(model, name)), outputs[name]
    fits = all(not isinstance(want, int) or have == want for have, want in zip(found.shape, expected, strict=False))
    if found.dtype.kind != "f" or found.ndim != len(expected) or not fits:
        spelled = ", ".join("?" if dim is None else str(dim) for dim in expected)
        raise InvalidInputs(f"outputs: came {found.dtype} {found.shape} for {name!r}, expected floats [{spelled}]")


def attribute(
    model: ModelLike, inputs: Mapping[str, Any], *, method: str, run: RunProgram, **options: Any
) -> Attribution:
    """Explain `inputs` by running programs with `run(program, feeds) -> outputs`; options as for `begin`."""
    running = begin(model, inputs, method=method, **options)
    while (step := running.chunk()) is not None:
        running.update(run(*step))
    return running.result()
