"""The figures agree with scikit-learn's."""

import numpy as np
import pytest
from sklearn import metrics

from training.measure import classification, regression, softmax


@pytest.mark.parametrize("seed", [0, 1])
def test_classification(seed):
    random = np.random.default_rng(seed)
    logits, labels = random.normal(size=(300, 2)).astype(np.float32).round(1), random.integers(0, 2, 300)
    chances = softmax(logits)
    found = classification(logits, labels)
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(labels, logits.argmax(axis=1)))
    assert found["log_loss"] == pytest.approx(metrics.log_loss(labels, chances))
    assert found["auc"] == pytest.approx(metrics.roc_auc_score(labels, chances[:, 1]))


def test_more_classes_have_no_curve():
    assert set(classification(np.eye(3, dtype=np.float32), np.arange(3))) == {"accuracy", "log_loss"}


def test_regression():
    random = np.random.default_rng(2)
    values, labels = random.normal(size=(50, 1)).astype(np.float32), random.normal(size=50).astype(np.float32)
    found = regression(values, labels)
    assert found["r2"] == pytest.approx(metrics.r2_score(labels, values[:, 0]), rel=1e-5)
    assert found["mae"] == pytest.approx(metrics.mean_absolute_error(labels, values[:, 0]), rel=1e-5)
    assert found["rmse"] == pytest.approx(metrics.root_mean_squared_error(labels, values[:, 0]), rel=1e-5)


def test_large_logits_do_not_overflow():
    assert softmax(np.array([[1e4, 0.0], [-1e4, 0.0]])).tolist() == [[1.0, 0.0], [0.0, 1.0]]
