"""The examples are as good as they claim on rows they have not seen, and can be trained again."""

import json

import numpy as np
import pytest
import torch

from training import RECIPES, InvalidSetting, train
from training.trained import predict


@pytest.fixture(scope="module")
def tumour(tmp_path_factory):
    return train("tumour", progress=False, out=tmp_path_factory.mktemp("out"))


@pytest.mark.parametrize(
    ("name", "metric", "bar"), [("tumour", "accuracy", 0.95), ("digits", "accuracy", 0.97), ("diabetes", "r2", 0.40)]
)
def test_examples_from_scikit_learn_meet_their_bars(name, metric, bar):
    trained = train(name, progress=False)
    answer = trained.source(trained.test_inputs)
    if metric == "accuracy":
        measured = float((answer.argmax(axis=1) == trained.test_labels).mean())
    else:
        error = answer[:, 0] - trained.test_labels
        measured = 1 - float((error**2).sum() / ((trained.test_labels - trained.test_labels.mean()) ** 2).sum())
    assert measured >= bar
    assert trained.metrics[f"test_{metric}"] == pytest.approx(measured, abs=1e-6)


@pytest.mark.parametrize(("name", "bar"), [("xray", 0.85), ("credit", 0.70)])
def test_examples_from_a_data_folder_meet_theirs(name, bar, real_data):
    trained = train(name, data=real_data, progress=False)
    assert (trained.source(trained.test_inputs).argmax(axis=1) == trained.test_labels).mean() >= bar


def test_two_trainings_with_one_seed_give_one_network():
    first, again = (train("diabetes", epochs=3, seed=4, progress=False) for _ in range(2))
    other = train("diabetes", epochs=3, seed=5, progress=False)
    for name, value in first.network.state_dict().items():
        assert torch.equal(value, again.network.state_dict()[name])
    assert first.metrics == again.metrics
    assert first.lineage == again.lineage
    assert np.array_equal(first.background["features"], again.background["features"])
    assert first.examples == again.examples
    assert not np.array_equal(first.test_rows, other.test_rows)


def test_the_lineage_says_how_to_train_it_again(tumour):
    lineage = tumour.lineage
    assert lineage["recipe"] == "tumour"
    assert lineage["seed"] == 0
    assert lineage["data"]["sha256"] == RECIPES["tumour"].load(None).sha256
    assert {key: lineage["split"][key] for key in ("train", "validation", "test")} == {
        "train": 370,
        "validation": 86,
        "test": 113,
    }
    assert 1 <= lineage["best_epoch"] <= lineage["epochs_run"] <= lineage["schedule"]["epochs"]
    assert {"torch", "lightning", "scikit-learn", "numpy"} <= set(lineage["versions"])


def test_scaling_saw_training_rows_only(tumour):
    rows = tumour.dataset.inputs["features"][tumour.train_rows].astype(np.float64)
    assert tumour.network.scale.mean.numpy() == pytest.approx(rows.mean(axis=0), rel=1e-6)
    assert not set(tumour.train_rows) & set(tumour.test_rows)


def test_the_background_is_drawn_from_training_rows_and_examples_from_test_rows(tumour):
    def among(row, rows):
        return (tumour.dataset.inputs["features"][rows] == row).all(axis=1).any()

    assert tumour.background["features"].shape == (100, 30)
    assert all(among(row, tumour.train_rows) for row in tumour.background["features"])
    assert not any(among(row, tumour.test_rows) for row in tumour.background["features"])
    assert len(tumour.examples) >= 5
    for example in tumour.examples:
        sent = np.array([example["instance"][feature.name] for feature in tumour.recipe.features], dtype=np.float32)
        assert among(sent, tumour.test_rows)
    assert {example["label"] for example in tumour.examples} == {"malignant", "benign"}


def test_the_source_answers_as_the_module_that_is_exported(tumour):
    inputs = tumour.test_inputs
    assert tumour.source(inputs) == pytest.approx(predict(tumour.module, [inputs["features"]]), abs=1e-6)
    assert tumour.source(inputs).sum(axis=1) == pytest.approx(1.0)


def test_the_out_folder_holds_weights_that_need_no_unpickling(tmp_path):
    trained = train("diabetes", epochs=2, progress=False, out=tmp_path / "new" / "folder")
    weights = torch.load(tmp_path / "new" / "folder" / "network.pt", weights_only=True)
    assert set(weights) == set(trained.network.state_dict())
    report = json.loads((tmp_path / "new" / "folder" / "training.json").read_text())
    assert report == {"metrics": trained.metrics, "lineage": trained.lineage}


def test_every_digit_has_an_example():
    labels = [example["label"] for example in train("digits", epochs=1, progress=False).examples]
    assert sorted(labels) == [str(digit) for digit in range(10)]


@pytest.mark.parametrize("setting", [{"epochs": 0}, {"epochs": -3}, {"seed": -1}, {"seed": 2**32}])
def test_settings_out_of_range_are_refused(setting):
    (name, value), *_ = setting.items()
    with pytest.raises(InvalidSetting, match=f"{name} is {value}"):
        train("tumour", **setting)
