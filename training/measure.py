"""How good a trained network is, on rows it has not seen."""

from __future__ import annotations

import numpy as np

from .data import Array


def softmax(logits: Array) -> Array:
    """float [N, classes] -> float64 [N, classes]; shifted by the largest logit, so that nothing overflows."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def classification(logits: Array, labels: Array) -> dict[str, float]:
    """Accuracy, mean log loss (nats), and for two classes the area under the ROC curve of the second."""
    chances = softmax(logits)
    picked = chances[np.arange(len(labels)), labels]
    figures = {
        "accuracy": float((chances.argmax(axis=1) == labels).mean()),
        "log_loss": float(-np.log(np.maximum(picked, 1e-12)).mean()),
    }
    if logits.shape[1] == 2 and 0 < labels.sum() < len(labels):
        figures["auc"] = _area(chances[:, 1], labels)
    return figures


def regression(values: Array, labels: Array) -> dict[str, float]:
    """R², mean absolute and root mean squared error, in the units of the labels."""
    error = values.astype(np.float64).ravel() - labels.astype(np.float64)
    spread = float(((labels - labels.mean()) ** 2).sum())
    return {
        "r2": 1.0 - float((error**2).sum()) / spread,
        "mae": float(np.abs(error).mean()),
        "rmse": float(np.sqrt((error**2).mean())),
    }


def _area(scores: Array, labels: Array) -> float:
    """The share of (positive, negative) pairs in the right order; a tie counts half (Mann and Whitney 1947)."""
    positive, negative = scores[labels == 1], scores[labels == 0]
    above = (positive[:, None] > negative[None, :]).mean()
    level = (positive[:, None] == negative[None, :]).mean()
    return float(above + level / 2)
