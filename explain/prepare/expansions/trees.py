"""Tree ensembles (ai.onnx.ml) whose scores become probabilities: the sums over the trees, and what is done to them."""

from __future__ import annotations

import onnx

from ...dtypes import elem_type
from ...emit import Emitter
from ...graph import Node
from ...trees.ensembles import class_count, one_score, transform
from .registry import ML, expansion


@expansion("TreeEnsembleRegressor", "TreeEnsemble", domain=ML)
def tree_ensemble(emit: Emitter, node: Node) -> str:
    """The sums [N, C], squashed."""
    return _squashed(emit, node, _typed(emit, _plain(emit, node)[-1], int(node.attr("n_targets", 1))))


@expansion("TreeEnsembleClassifier", domain=ML)
def tree_ensemble_classifier(emit: Emitter, node: Node) -> tuple[str, str]:
    """The sums, squashed; labels are left to the operator. A single score s is that of the second class, -s the
    first's."""
    if one_score(node) and transform(node) == "SOFTMAX":
        raise node.refuse("a single score is left as it is by attribute post_transform='SOFTMAX'")
    label, scores = _plain(emit, node)  # two outputs: this operator has always had both
    scores = _typed(emit, scores, class_count(node))
    if one_score(node):
        second = emit.slice(scores, [1], [2], [1])
        scores = emit.concat(emit.neg(second), second, axis=1)
    squashed = _squashed(emit, node, scores)
    labels, unused = emit.fresh("label"), emit.fresh("probabilities")
    emit.take(labels, emit.dtype(label))
    emit.follow(_copied(node, (labels, unused)))
    return labels, squashed


def _plain(emit: Emitter, node: Node) -> tuple[str, ...]:
    """The operator without its post_transform."""
    if transform(node) not in ("LOGISTIC", "SOFTMAX"):
        raise node.refuse(f"attribute post_transform={transform(node)!r} is not covered")
    names = tuple(emit.fresh("trees") for _ in node.outputs)
    if len(names) > 1:
        emit.take(names[0], "int64" if node.attr("classlabels_int64s") else "string")
    emit.take(names[-1], "float64" if emit.dtype(node.outputs[-1]) == "float64" else "float32")
    plain = _copied(node, names)
    kept = [attribute for attribute in plain.attribute if attribute.name != "post_transform"]
    del plain.attribute[:]
    plain.attribute.extend(kept)
    emit.follow(plain)
    return names


def _typed(emit: Emitter, scores: str, count: int) -> str:
    """The scores with dtype and shape stated: onnx's inference finds neither behind an operator of this domain."""
    return emit.reshape(emit.cast(scores, to=elem_type(emit.dtype(scores))), [-1, count])


def _copied(node: Node, outputs: tuple[str, ...]) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node.proto)
    copy.name, copy.output[:] = "", outputs
    return copy


def _squashed(emit: Emitter, node: Node, scores: str) -> str:
    return emit.sigmoid(scores) if transform(node) == "LOGISTIC" else emit.softmax(scores, axis=-1)
