"""What explanations compare with, feature names beside numbers, and groups as players."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import pytest

from model_store import Baseline, ExplanationDefaults, Feature, Manifest, Store
from server import features, references
from server.errors import BadRequest
from server.loaded import LoadedModel


@pytest.fixture
def flowers(store_path: Any) -> LoadedModel:
    return LoadedModel(Store(store_path).resolve("flowers"))


def with_defaults(loaded: LoadedModel, **changes: Any) -> LoadedModel:
    explanation = msgspec.structs.replace(loaded.manifest.explanation, **changes)
    other = LoadedModel(loaded.version)
    other.manifest = msgspec.structs.replace(loaded.manifest, explanation=explanation)
    return other


def test_the_models_own_baseline_is_a_constant_or_the_centre(flowers: LoadedModel, models: ModuleType) -> None:
    np.testing.assert_array_equal(references.baseline(flowers, None)["x"], [[0, 0, 0]])  # type: ignore[index] # there is one
    constant = with_defaults(flowers, baseline=Baseline(kind="constant", value=2.5))
    np.testing.assert_array_equal(references.baseline(constant, None)["x"], [[2.5, 2.5, 2.5]])  # type: ignore[index] # there is one
    centre = references.baseline(with_defaults(flowers, baseline=Baseline(kind="background_mean")), None)
    assert centre is not None
    np.testing.assert_allclose(centre["x"][0, :2], models.BACKGROUND[:, :2].mean(axis=0), rtol=1e-6)
    assert centre["x"][0, 2] in (0, 1, 2)
    assert centre["x"].dtype == np.float32
    assert references.baseline(with_defaults(flowers, baseline=None), None) is None


def test_categories_and_whole_numbers_take_the_commonest_value(models: ModuleType) -> None:
    manifest = models.flowers()
    rows = np.array([[0, 0, 2], [1, 0, 2], [5, 3, 0]], dtype=np.float32)
    np.testing.assert_array_equal(references.centre(manifest, {"x": rows})["x"], [[2, 1, 2]])
    whole = references.centre(manifest, {"x": rows.astype(np.int64)})["x"]
    assert whole.dtype == np.int64
    assert (whole[0, 1], whole[0, 2]) == (0, 2)


def test_the_request_may_bring_its_own(flowers: LoadedModel) -> None:
    np.testing.assert_array_equal(references.baseline(flowers, [1, 2, "b"])["x"], [[1, 2, 2]])  # type: ignore[index] # there is one
    np.testing.assert_array_equal(references.baseline(flowers, 3)["x"], [[3, 3, 3]])  # type: ignore[index] # there is one
    sent = references.background(flowers, [[1, 2, "b"], [3, 4, "r"]], 5)
    assert sent is not None
    np.testing.assert_array_equal(sent["x"], [[1, 2, 2], [3, 4, 0]])
    own = references.background(flowers, None, 5)
    assert own is not None
    assert own["x"].shape == (12, 3)
    for wrong in ([], "x", 3, [[1, 2, "b"]] * 6):
        with pytest.raises(BadRequest, match="background"):
            references.background(flowers, wrong, 5)


def grouped(models: ModuleType, groups: bool) -> Manifest:
    manifest = models.flowers()
    size = [msgspec.structs.replace(feature, group="size") for feature in manifest.features[:2]]
    defaults = ExplanationDefaults(method="exact_shap", methods=["exact_shap", "saliency"], groups=groups)
    return Manifest(
        name="grouped",
        inputs=manifest.inputs,
        outputs=manifest.outputs,
        features=[*size, manifest.features[2]],
        explanation=defaults,
    )


def test_declared_groups_are_players(models: ModuleType) -> None:
    declared = features.declared_groups(grouped(models, True))
    assert declared["group_names"] == ["size", "Colour"]
    np.testing.assert_array_equal(declared["groups"]["x"], [0, 0, 1])
    assert features.declared_groups(grouped(models, False)) == {}


def test_groups_are_explained_and_answered_by_name(
    models: ModuleType, own_store: Any, config: Any, open_client: Any
) -> None:
    import dataclasses

    store = Store(own_store)
    files = {"model": models.tabular_model(), "background": store.resolve("flowers").file("background")}
    store.publish(grouped(models, True), files)
    client = open_client(dataclasses.replace(config, store=own_store))
    asked = {"instances": [[1.5, -0.5, "w"]]}
    answer = client.post("/v1/models/grouped:explain", json=asked).get_json()["explanations"][0]
    assert [entry["feature"] for entry in answer["attributions"]] == ["size", "Colour"]
    total = sum(entry["attribution"] for entry in answer["attributions"]) + answer["base_value"]
    assert total == pytest.approx(answer["explained_value"], rel=1e-5)
    gradient = client.post("/v1/models/grouped:explain", json={**asked, "method": "saliency"}).get_json()
    assert len(gradient["explanations"][0]["attributions"]) == 3
    picture = client.post("/v1/models/grouped:explain", json=asked, headers={"Accept": "image/svg+xml"})
    assert picture.status_code == 200
    assert "Colour" in picture.get_data(as_text=True)


@pytest.mark.parametrize(
    ("raw", "value", "shown"), [(0.0, "r", "red"), (2, "b", "blue"), (7.0, 7.0, "7"), (float("nan"), None, "nan")]
)
def test_a_category_is_shown_by_its_label(models: ModuleType, raw: float, value: Any, shown: str) -> None:
    feature: Feature = models.flowers().features[2]
    found, text = features.client_value(feature, raw)
    assert text == shown
    assert value is None or found == value


def test_numbers_are_shown_short(models: ModuleType) -> None:
    feature: Feature = models.flowers().features[0]
    assert features.client_value(feature, 0.1234567890123) == (0.1234567890123, "0.123457")
    assert features.client_value(feature, 3) == (3, "3")


def test_kinds_of_models(store_path: Any) -> None:
    store = Store(store_path)
    kinds = {name: features.kind_of_model(store.resolve(name).manifest) for name in store.models()}
    assert kinds == {
        "flowers": "tabular",
        "patch": "image",
        "price": "tabular",
        "broken": "tensor",
        "single": "tabular",
    }
