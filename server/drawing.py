"""The picture of an explanation: a heatmap over the image as it was sent, or a waterfall (or bars) of features."""

from __future__ import annotations

import numpy as np

import pictures
from model_store import ImageSpec

from .errors import NotAcceptable
from .features import GROUPS
from .messages import Array, ExplainAnswer, Payload, Rows
from .wire import negotiation

FORMATS = (negotiation.PNG, negotiation.SVG)
TEXT_INSTEAD = "ask for application/json instead"
# The parameters that leave a method only values without a sign.
UNSIGNED = {"saliency": "absolute", "grad_cam": "relu"}


def require_one_row(payload: Payload, form: str) -> None:
    """Refuses a picture of several rows before any work is done for it.

    Raises:
        NotAcceptable: a picture is asked for and the request has several rows.
    """
    if form in FORMATS and isinstance(payload, Rows) and len(payload.instances) != 1:
        raise NotAcceptable(_one_row(len(payload.instances)))


def render(answer: ExplainAnswer, form: str) -> bytes:
    """The picture as PNG or SVG bytes; raises as :func:`picture`."""
    return written(picture(answer), form)


def written(drawn: pictures.Picture, form: str) -> bytes:
    """A picture as PNG or SVG bytes."""
    return drawn.png() if form == negotiation.PNG else drawn.svg().encode("utf-8")


def _one_row(rows: int) -> str:
    return f"picture: got {rows} rows, expected one row; send one, or {TEXT_INSTEAD}"


def picture(answer: ExplainAnswer) -> pictures.Picture:
    """The picture of an answer with one row.

    Raises:
        NotAcceptable: several rows, or an explanation that has no picture; the message says what to choose.
    """
    if answer.rows != 1:
        raise NotAcceptable(_one_row(answer.rows))
    specs = {spec.name: spec.image for spec in answer.manifest.inputs if spec.image is not None}
    for name, image in specs.items():
        if name in answer.group_index:
            return _of_image(answer, _painted(answer, name), image, name)
    if answer.features is not None:
        return _of_features(answer)
    for name, image in specs.items():
        if name in answer.values:
            return _of_image(answer, answer.values[name][0], image, name)
    raise NotAcceptable(f"picture: this explanation is neither of an image nor of named features; {TEXT_INSTEAD}")


def _painted(answer: ExplainAnswer, name: str) -> Array:
    """The value of its group at each element of one item; 0 where it has none.

    Where a pixel's channels are one group, they share its value, so that their sum over the pixel is the group's.
    """
    index, values = answer.group_index[name][0], answer.values[GROUPS][0]
    painted = np.where(index >= 0, values[index], 0.0)
    spec = next(spec.image for spec in answer.manifest.inputs if spec.name == name)
    axis = -1 if spec is not None and spec.layout == "NHWC" else 0
    whole = index.ndim == 3 and bool((index == index.take([0], axis)).all())
    return painted / index.shape[axis] if whole else painted


def _title(answer: ExplainAnswer) -> str:
    label = answer.labels[0] if answer.labels else None
    name = str(answer.targets[0]["name"])
    likely = _probability(answer)
    if label == name:
        return f"{answer.version.name}: {label}" + (f", probability {likely:.3g}" if likely is not None else "")
    return f"{answer.version.name}: why {name}"


def _probability(answer: ExplainAnswer) -> float | None:
    """The probability of the explained class, where the explained output holds probabilities of classes."""
    spec = next((spec for spec in answer.manifest.outputs if spec.name == answer.output), None)
    index = answer.targets[0]["index"]
    if spec is None or spec.kind != "probabilities" or not isinstance(index, int) or spec.name not in answer.outputs:
        return None
    row = answer.outputs[spec.name][0].reshape(-1)
    return float(row[index]) if len(row) > 1 else None


def _explained(answer: ExplainAnswer) -> str:
    """What is explained, in words: "logit of malignant"; a value in units of its own is just named."""
    name = str(answer.targets[0]["name"])
    return f"{answer.units} of {name}" if answer.units in ("logit", "probability") else name


def _caption(answer: ExplainAnswer) -> str:
    unit = "" if answer.units in ("logit", "probability") else f" {answer.units}"
    value = f"{_explained(answer)}: {answer.explained_values[0]:.4g}{unit}"
    gap = answer.quality[0].get("completeness_gap_relative")
    figures = [value] if gap is None else [value, f"completeness gap {gap:.2g}"]
    figures.append(f"model {answer.version.model_digest[:12]}")
    return " · ".join(figures)


def _of_features(answer: ExplainAnswer) -> pictures.Picture:
    entries = (answer.features or [[]])[0]
    names = [entry.label for entry in entries]
    values = [entry.shown or None for entry in entries]
    contributions = [entry.attribution for entry in entries]
    units = [entry.unit for entry in entries]
    if answer.base_values is None:
        return pictures.bars(
            names,
            values,
            contributions,
            title=_title(answer),
            units=f"gradient of the {answer.units}" if answer.method == "saliency" else answer.units,
            target_name=str(answer.targets[0]["name"]),
            feature_units=units,
            subtitle=answer.method.replace("_", " "),
            caption=_caption(answer),
        )
    return pictures.waterfall(
        names,
        values,
        contributions,
        answer.base_values[0],
        answer.explained_values[0],
        title=_title(answer),
        units=answer.units,
        target_name=str(answer.targets[0]["name"]),
        feature_units=units,
        subtitle=answer.method.replace("_", " "),
        caption=_caption(answer),
    )


def _of_image(answer: ExplainAnswer, values: Array, spec: ImageSpec, name: str) -> pictures.Picture:
    original = answer.images[0] if answer.images else None
    if original is None:
        raise NotAcceptable(
            f"picture: input {name} came as a tensor, expected a PNG or JPEG; send one, or {TEXT_INSTEAD}"
        )
    if values.ndim == 3 and spec.layout == "NHWC":
        values = np.moveaxis(values, -1, 0)
    signed = not answer.parameters.get(UNSIGNED.get(answer.method, ""), False)
    return pictures.heatmap(
        values,
        original,
        title=_title(answer),
        caption=_caption(answer),
        legend=f"attribution {'of each group ' if name in answer.group_index else ''}to the {_explained(answer)}",
        signed=signed,
        subtitle=answer.method.replace("_", " "),
    )
