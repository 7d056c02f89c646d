"""What scikit-learn's converters write (ai.onnx.ml), in arithmetic of float32, in which these operators compute."""

import math

import numpy as np
from onnx import helper

from ...emit import Emitter
from ...graph import Node
from ...trees.ensembles import one_score, transform
from .registry import ML, expansion


def _numbers(node: Node, name: str) -> np.ndarray:
    return np.array(node.attr(name, ()), dtype=np.float32)


def _rows(emit: Emitter, node: Node) -> str:
    """The input as float32 rows."""
    if node.rank() != 2:
        raise node.refuse(f"an input with {node.rank()} axes is not covered; rows have 2")
    return emit.cast_to(node.inputs[0], "float32")


@expansion("Scaler", domain=ML)
def scaler(emit: Emitter, node: Node) -> str:
    """(x - offset) scale."""
    x = emit.cast_to(node.inputs[0], "float32")
    return emit.mul(emit.sub(x, _numbers(node, "offset")), _numbers(node, "scale"))


@expansion("Normalizer", domain=ML)
def normalizer(emit: Emitter, node: Node) -> str:
    """A row over its maximum, or its sum or root of squares of magnitudes; over 1 where that is 0."""
    x, norm = emit.cast_to(node.inputs[0], "float32"), node.attr("norm", b"MAX").decode()
    if norm not in NORMS:
        raise node.refuse(f"attribute norm={norm!r} is not covered")
    if norm == "L1" and _sums_to_one(node.graph.producers.get(node.inputs[0])):
        return node.inputs[0]  # so that what made probabilities of scores is seen as the end of the model
    size = emit.node(NORMS[norm], [x, [-1]], {"keepdims": 1})[0]
    return emit.div(x, emit.where(emit.equal(size, 0.0), np.ones((), np.float32), size))


def _sums_to_one(node: Node | None) -> bool:
    """Whether a classifier's probabilities sum to 1 already: by softmax, or as those of a score and its opposite."""
    if node is not None and node.op == "TreeEnsembleClassifier":
        return transform(node) == ("LOGISTIC" if one_score(node) else "SOFTMAX")
    if node is None or node.op != "LinearClassifier":
        return False
    count = len(node.attr("classlabels_ints") or node.attr("classlabels_strings") or ())
    weights, biases = _numbers(node, "coefficients"), _numbers(node, "intercepts")
    rows = weights.reshape(len(biases) or count, -1)
    if node.attr("post_transform", b"NONE") == b"SOFTMAX":
        return len(rows) > 1
    opposite = len(rows) == 1 or (len(rows) == 2 and not (rows.sum(axis=0).any() or biases.sum()))
    return node.attr("post_transform", b"NONE") == b"LOGISTIC" and opposite


NORMS = {"MAX": "ReduceMax", "L1": "ReduceL1", "L2": "ReduceL2"}


@expansion("Imputer", domain=ML)
def imputer(emit: Emitter, node: Node) -> str:
    """What stands for a missing value is replaced."""
    x, missing = node.inputs[0], float(node.attr("replaced_value_float", 0.0))
    if emit.dtype(x) != "float32":
        raise node.refuse(f"an input of {emit.dtype(x)} is not covered; float32 is")
    replaced = emit.is_nan(x) if math.isnan(missing) else emit.equal(x, missing)
    return emit.where(replaced, _numbers(node, "imputed_value_floats"), x)


@expansion("LinearRegressor", domain=ML)
def linear_regressor(emit: Emitter, node: Node) -> str:
    """x W + b, of which each row may be made probabilities."""
    weights = _numbers(node, "coefficients").reshape(int(node.attr("targets", 1)), -1)
    return _transformed(emit, node, _linear(emit, node, weights))


@expansion("LinearClassifier", domain=ML)
def linear_classifier(emit: Emitter, node: Node) -> tuple[str, str]:
    """The scores; labels are left to the operator. A single score s is that of the second class, 1 - s the first's."""
    count = len(node.attr("classlabels_ints") or node.attr("classlabels_strings") or ())
    biases = _numbers(node, "intercepts")
    rows = len(biases) or count
    scores = _linear(emit, node, _numbers(node, "coefficients").reshape(rows, -1))
    if rows == 1 and node.attr("post_transform", b"NONE") == b"LOGISTIC":
        return _labels(emit, node), emit.sigmoid(emit.concat(emit.neg(scores), scores, axis=1))
    if rows == 1:
        return _labels(emit, node), emit.concat(emit.sub(np.ones((), np.float32), scores), scores, axis=1)
    return _labels(emit, node), _transformed(emit, node, scores)


def _labels(emit: Emitter, node: Node) -> str:
    label, scores = emit.fresh("label"), emit.fresh("scores")
    emit.take(label, "int64" if node.attr("classlabels_ints") else "string")
    emit.follow(helper.make_node(node.op, node.inputs, [label, scores], domain=ML, **node.attributes))
    return label


def _linear(emit: Emitter, node: Node, weights: np.ndarray) -> str:
    biases = _numbers(node, "intercepts")
    x = _rows(emit, node)
    return emit.gemm(x, weights, biases, transB=1) if biases.size else emit.gemm(x, weights, transB=1)


def _transformed(emit: Emitter, node: Node, scores: str) -> str:
    match node.attr("post_transform", b"NONE"):
        case b"NONE":
            return scores
        case b"LOGISTIC":
            return emit.sigmoid(scores)
        case b"SOFTMAX":
            return emit.softmax(scores, axis=-1)
        case other:
            raise node.refuse(f"attribute post_transform={other.decode()!r} is not covered")


@expansion("SVMRegressor", domain=ML)
def svm_regressor(emit: Emitter, node: Node) -> str:
    """sum_i a_i K(x, s_i) + b over the support vectors s_i; without any, a x + b."""
    if node.attr("post_transform", b"NONE") != b"NONE" or int(node.attr("one_class", 0)):
        raise node.refuse("attributes post_transform other than 'NONE' and one_class=1 are not covered")
    x, weights = _rows(emit, node), _numbers(node, "coefficients").reshape(1, -1)
    count = int(node.attr("n_supports", 0))
    features = _kernel(emit, node, x, _numbers(node, "support_vectors").reshape(count, -1)) if count else x
    return emit.gemm(features, weights, _numbers(node, "rho")[:1], transB=1)


def _kernel(emit: Emitter, node: Node, x: str, supports: np.ndarray) -> str:
    """K(x, s_i) as [N, supports]; the squared distance is |x|^2 - 2 x s + |s|^2."""
    gamma, offset, degree = (float(value) for value in (*node.attr("kernel_params", ()), 0.0, 0.0, 0.0)[:3])
    products = emit.gemm(x, supports, transB=1)
    shifted = emit.add(emit.mul(products, gamma), offset)
    match node.attr("kernel_type", b"LINEAR"):
        case b"LINEAR":
            return products
        case b"POLY":
            return emit.pow(shifted, degree)
        case b"SIGMOID":
            return emit.tanh(shifted)
        case b"RBF":
            apart = emit.sub(emit.unsqueeze(x, [1]), supports)
            return emit.exp(emit.mul(emit.reduce_sum(emit.mul(apart, apart), [2], keepdims=0), -gamma))
        case other:
            raise node.refuse(f"attribute kernel_type={other.decode()!r} is not covered")


@expansion("FeatureVectorizer", domain=ML)
def feature_vectorizer(emit: Emitter, node: Node) -> str:
    """Columns beside each other, of each input as many as are declared."""
    if any(node.rank(i) != 2 for i in range(len(node.inputs))):
        raise node.refuse("inputs with other than 2 axes are not covered")
    columns = [emit.slice(x, [0], [n], [1]) for x, n in zip(node.inputs, node.attr("inputdimensions"), strict=True)]
    return emit.concat(*(emit.cast_to(column, "float32") for column in columns), axis=1)


@expansion("ArrayFeatureExtractor", domain=ML)
def array_feature_extractor(emit: Emitter, node: Node) -> str:
    """Some columns, by their numbers; of a vector as a row."""
    x, columns = node.inputs
    taken = emit.gather(x, emit.reshape(columns, [-1]), axis=-1)
    return emit.unsqueeze(taken, [0]) if node.rank() == 1 else taken
