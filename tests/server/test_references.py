"""What explanations compare with, feature names beside numbers, and groups as players."""

from __future__ import annotations

import dataclasses
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import pytest
from onnx import TensorProto, helper

from model_store import Baseline, ExplanationDefaults, Feature, InputSpec, Level, Manifest, OutputSpec, Store
from server import features, references
from server.errors import BadRequest
from server.loaded import LoadedModel
from server.messages import ExplainRequest, Rows


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
    weighed = references.centre(manifest, {"x": rows}, np.array([0.0] * (len(rows) - 1) + [1.0]))["x"]
    np.testing.assert_array_equal(weighed, rows[-1:])
    whole = references.centre(manifest, {"x": rows.astype(np.int64)})["x"]
    assert whole.dtype == np.int64
    assert (whole[0, 1], whole[0, 2]) == (0, 2)


def test_the_request_may_bring_its_own(flowers: LoadedModel) -> None:
    np.testing.assert_array_equal(references.baseline(flowers, [1, 2, "b"])["x"], [[1, 2, 2]])  # type: ignore[index] # there is one
    np.testing.assert_array_equal(references.baseline(flowers, 3)["x"], [[3, 3, 3]])  # type: ignore[index] # there is one
    sent = references.background(flowers, [[1, 2, "b"], [3, 4, "r"]], 5)
    np.testing.assert_array_equal(sent["background"]["x"], [[1, 2, 2], [3, 4, 0]])
    own = references.background(flowers, None, 5)
    assert own["background"].rows["x"].shape == (12, 3)
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


TABLE = np.array([[1.0, 0.0], [0.0, 2.0], [-1.0, 3.0]], dtype=np.float32)
NUMBERS_W = np.array([[2.0], [-1.0]], dtype=np.float32)
TABLE_W = np.array([[0.5], [4.0]], dtype=np.float32)


def coded(models: ModuleType) -> tuple[Manifest, dict[str, bytes]]:
    """y = x · (2, -1) + table[code] · (0.5, 4): two numbers, and a code that is looked up inside the graph."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["from_numbers"]),
        helper.make_node("Gather", ["table", "c"], ["found"]),
        helper.make_node("Flatten", ["found"], ["flat"]),
        helper.make_node("MatMul", ["flat", "v"], ["from_code"]),
        helper.make_node("Add", ["from_numbers", "from_code"], ["y"]),
    ]
    ends = [models.value("x", ["N", 2]), models.value("c", ["N", 1], TensorProto.INT64)]
    model = models.serialize(nodes, ends, [models.value("y", ["N", 1])], {"w": NUMBERS_W, "table": TABLE, "v": TABLE_W})
    levels = [Level(value=value, label=value) for value in ("none", "some", "much")]
    manifest = Manifest(
        name="coded",
        inputs=[
            models.tabular_input(2),
            InputSpec(name="c", kind="tabular", dtype="int64", shape=["N", 1], batch_axis=0),
        ],
        outputs=[OutputSpec(name="y", kind="value", dtype="float32", shape=["N", 1], batch_axis=0)],
        features=[
            models.number("a", 0),
            models.number("b", 1),
            Feature(name="savings", input="c", index=0, kind="category", levels=levels),
        ],
        explanation=ExplanationDefaults(
            method="input_x_gradient",
            methods=["saliency", "input_x_gradient", "exact_shap", "feature_ablation", "lime", "occlusion", "rise"],
            baseline=Baseline(kind="background_mean"),
        ),
    )
    background = models.npz(
        x=np.array([[0, 2], [2, 4], [4, 0]], dtype=np.float32), c=np.array([[1], [1], [2]], dtype=np.int64)
    )
    return manifest, {"model": model, "background": background}


@pytest.fixture
def client(models: ModuleType, own_store: Any, config: Any, open_client: Any) -> Any:
    Store(own_store).publish(*coded(models))
    return open_client(dataclasses.replace(config, store=own_store))


def attributed(client: Any, **asked: Any) -> tuple[list[float], dict[str, Any]]:
    response = client.post("/v1/models/coded:explain", json={"instances": [[3, 1, "much"]], **asked})
    assert response.status_code == 200, response.get_data()
    answer = response.get_json()
    return [entry["attribution"] for entry in answer["explanations"][0]["attributions"]], answer


def test_codes_are_compared_with_the_models_own_baseline(client: Any) -> None:
    """The model is linear behind its table, so the answer is what the change from (2, 2, "some") does."""
    by_hand = [2.0 * (3 - 2), -1.0 * (1 - 2), float((TABLE[2] - TABLE[1]) @ TABLE_W[:, 0])]
    values, answer = attributed(client)
    np.testing.assert_allclose(values, by_hand, atol=1e-6)
    assert len(answer["baseline_digest"]) == 64
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(values, [6.0, -1.0, by_hand[2]], atol=1e-6)


def test_a_baseline_that_was_sent_is_used_and_recorded(client: Any) -> None:
    values, answer = attributed(client, baseline=[3, 0, "none"])
    np.testing.assert_allclose(values, [0.0, -1.0, float((TABLE[2] - TABLE[0]) @ TABLE_W[:, 0])], atol=1e-6)
    record = client.get(f"/v1/decisions/{answer['decisions'][0]}").get_json()
    assert record["explanation_tensors"]["baseline.x"]["data"] == [[3, 0]]
    assert record["explanation_tensors"]["baseline.c"]["data"] == [[0]]


def test_numbers_alone_are_compared_with_zero(client: Any) -> None:
    asked = {"instances": [[1, 2, 3]], "method": "input_x_gradient"}
    (plain,) = client.post("/v1/models/price:explain", json=asked).get_json()["explanations"]
    assert [entry["attribution"] for entry in plain["attributions"]] == pytest.approx([2.0, -2.0, 1.5])
    (sent,) = client.post("/v1/models/price:explain", json={**asked, "baseline": [1, 1, 1]}).get_json()["explanations"]
    assert [entry["attribution"] for entry in sent["attributions"]] == pytest.approx([0.0, -1.0, 1.0])


def test_what_is_removed_gives_way_to_the_background_or_to_a_baseline(client: Any) -> None:
    """The model is linear behind its table: a feature is worth what its change from the reference does, on average."""
    table = (TABLE @ TABLE_W)[:, 0]
    values, answer = attributed(client, method="feature_ablation")
    np.testing.assert_allclose(values, [2.0 * (3 - 2), -1.0 * (1 - 2), table[2] - table[[1, 1, 2]].mean()], atol=1e-6)
    assert (answer["baseline_digest"], len(answer["background_digest"])) == (None, 64)
    values, answer = attributed(client, method="feature_ablation", baseline=[3, 0, "none"])
    np.testing.assert_allclose(values, [0.0, -1.0, table[2] - table[0]], atol=1e-6)
    assert (len(answer["baseline_digest"]), answer["background_digest"]) == (64, None)
    values, answer = attributed(client, method="feature_ablation", background=[[3, 0, "none"], [1, 0, "none"]])
    np.testing.assert_allclose(values, [2.0, -1.0, table[2] - table[0]], atol=1e-6)
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(values, [0.0, -1.0, table[2] - table[0]], atol=1e-6)
    for method in ("lime", "rise"):
        (_, own), (_, sent) = attributed(client, method=method), attributed(client, method=method, baseline=0)
        assert own["explanations"][0]["attributions"] != sent["explanations"][0]["attributions"]


def test_one_of_the_two_takes_the_place_of_what_is_removed(client: Any, error_of: Any) -> None:
    both = {"baseline": [0, 0, "none"], "background": [[0, 0, "none"]]}
    asked = {"instances": [[3, 1, "much"]], "method": "lime", **both}
    response = client.post("/v1/models/coded:explain", json=asked)
    assert response.status_code == 400
    assert error_of(response).startswith("background: got one beside a baseline, expected one of the two")


def pictured(models: ModuleType, **files: bytes) -> tuple[Manifest, dict[str, bytes]]:
    manifest = models.patch()
    told = msgspec.structs.replace(manifest.explanation, method="occlusion", methods=["occlusion", "feature_ablation"])
    return msgspec.structs.replace(manifest, name="pictured", explanation=told), {
        "model": models.patch_model(),
        **files,
    }


def test_a_pictures_pixels_are_replaced_by_the_baseline_before_the_background(
    models: ModuleType, own_store: Any, config: Any, open_client: Any
) -> None:
    rows = models.npz(x=np.full((3, 1, 4, 4), 0.7, dtype=np.float32))
    Store(own_store).publish(*pictured(models, background=rows))
    loaded = LoadedModel(Store(own_store).resolve("pictured"))
    asked = ExplainRequest("pictured", None, Rows([]), method="occlusion")
    found = references.compared(loaded, "occlusion", asked, 9)
    assert set(found) == {"baseline", "layouts"}
    np.testing.assert_array_equal(found["baseline"]["x"], np.zeros((1, 1, 4, 4)))
    bare = with_defaults(loaded, baseline=None)
    assert list(references.compared(bare, "occlusion", asked, 9)) == ["background", "layouts"]


def test_a_reference_that_is_lacking_can_be_sent(
    models: ModuleType, own_store: Any, config: Any, open_client: Any
) -> None:
    manifest, files = pictured(models)
    told = msgspec.structs.replace(manifest.explanation, baseline=None, method="saliency", methods=["saliency"])
    Store(own_store).publish(msgspec.structs.replace(manifest, explanation=told), files)
    client = open_client(dataclasses.replace(config, store=own_store))
    asked = {"instances": [np.zeros((1, 4, 4)).tolist()], "method": "occlusion"}
    refused = client.post("/v1/models/pictured:explain", json=asked)
    assert "it needs a background set or a baseline and the model has neither" in refused.get_data(as_text=True)
    assert client.post("/v1/models/pictured:explain", json={**asked, "baseline": 0.5}).status_code == 200
    lacking = client.post("/v1/models/pictured:explain", json={**asked, "method": "kernel_shap", "baseline": 0.5})
    assert lacking.status_code == refused.status_code


@pytest.mark.parametrize(
    ("method", "reference", "able"),
    [
        ("saliency", {"baseline": 0}, {"input_x_gradient", "integrated_gradients"}),
        ("exact_shap", {"baseline": [0, 0, "none"]}, {"input_x_gradient", "integrated_gradients"}),
        ("saliency", {"background": [[0, 0, "none"]]}, {"kernel_shap", "exact_shap"}),
        ("input_x_gradient", {"background": [[0, 0, "none"]]}, {"kernel_shap", "exact_shap"}),
    ],
)
def test_a_reference_the_method_does_not_use_is_refused(
    client: Any, error_of: Any, method: str, reference: dict[str, Any], able: set[str]
) -> None:
    asked = {"instances": [[3, 1, "much"]], "method": method, **reference}
    response = client.post("/v1/models/coded:explain", json=asked)
    assert response.status_code == 400
    said, _, listed = error_of(response).rpartition(": ")
    (name,) = reference
    assert said == f"{name}: got one, and method {method} uses none, expected none, or a method with one"
    assert able <= set(listed.split(", "))
    assert method not in listed.split(", ")
