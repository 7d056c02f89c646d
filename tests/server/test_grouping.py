"""Groups and removals asked for over HTTP give what enumeration by hand gives, alike in V1, V2 and explain/."""

from __future__ import annotations

import dataclasses
import io
import json
from itertools import combinations
from math import factorial
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import pytest
from flask.testing import FlaskClient
from PIL import Image
from scipy import ndimage

import explain
from model_store import ExplanationDefaults, Feature, InputSpec, Manifest, Store
from server import drawing, grouping
from server.errors import BadRequest
from server.messages import ExplainAnswer, ExplainRequest, Rows, Runs

METHODS = ["saliency", "exact_shap", "permutation_shap", "feature_ablation", "occlusion", "partition_shap"]
PATCHES = {"patches": {"size": 2}}
QUARTERS = np.repeat(np.repeat(np.arange(4).reshape(2, 2), 2, axis=0), 2, axis=1)


@pytest.fixture
def store(models: ModuleType, own_store: Any) -> Store:
    """With ``eye``, the model of pictures that offers what removes pixels, and has no background set."""
    found = Store(own_store)
    told = ExplanationDefaults(method="saliency", methods=METHODS)
    found.publish(
        msgspec.structs.replace(models.patch(), name="eye", explanation=told), {"model": models.patch_model()}
    )
    return found


@pytest.fixture
def client(store: Store, config: Any, open_client: Any) -> FlaskClient:
    served: FlaskClient = open_client(dataclasses.replace(config, store=store.root))
    return served


def asked_by_query(client: FlaskClient, models: ModuleType, accept: str = "application/json", **asked: Any) -> Any:
    query = {name: value if isinstance(value, str) else json.dumps(value) for name, value in asked.items()}
    body = models.png(models.PIXELS)
    headers = {"Content-Type": "image/png", "Accept": accept}
    return client.post("/v1/models/eye:explain", data=body, query_string=query, headers=headers)


def logits(models: ModuleType, image: np.ndarray) -> np.ndarray:
    """What ``patch`` answers for one image [4, 4]."""
    seen = [ndimage.correlate(image, kernel, mode="constant") for kernel in models.PATCH_W[0].astype(np.float64)]
    return np.array([np.maximum(plane, 0).mean() for plane in seen])


def shapley(models: ModuleType, image: np.ndarray, groups: np.ndarray, instead: np.ndarray) -> np.ndarray:
    """Shapley values of the predicted class by enumeration: `groups` [4, 4], `instead` [4, 4] for what is removed."""
    target, count = int(logits(models, image).argmax()), int(groups.max()) + 1

    def worth(members: tuple[int, ...]) -> float:
        return float(logits(models, np.where(np.isin(groups, members), image, instead))[target])

    phi = np.zeros(count)
    for group in range(count):
        others = [other for other in range(count) if other != group]
        for size in range(count):
            share = factorial(size) * factorial(count - size - 1) / factorial(count)
            phi[group] += sum(share * (worth((*s, group)) - worth(s)) for s in combinations(others, size))
    return phi


def image_of(models: ModuleType) -> np.ndarray:
    return models.PIXELS.astype(np.float64) / 255


def test_the_numpy_model_is_the_served_one(client: FlaskClient, models: ModuleType) -> None:
    answer = asked_by_query(client, models).get_json()
    np.testing.assert_allclose(answer["predictions"][0], logits(models, image_of(models)), rtol=1e-5)
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(answer["predictions"][0], logits(models, image_of(models).T), rtol=1e-5)


def test_groups_and_removal_give_shapley_values_by_enumeration(client: FlaskClient, models: ModuleType) -> None:
    image = image_of(models)
    expected = shapley(models, image, QUARTERS, np.full((4, 4), image.mean()))
    asked = {"method": "exact_shap", "groups": PATCHES, "removal": "mean"}
    (found,) = asked_by_query(client, models, **asked).get_json()["explanations"]
    np.testing.assert_allclose([entry["attribution"] for entry in found["attributions"]], expected, atol=1e-6)
    assert [entry["feature"] for entry in found["attributions"]] == found["groups"]["names"]
    assert found["groups"]["spec"] == PATCHES
    assert found["removal"]["spec"] == "mean"
    np.testing.assert_array_equal(found["groups"]["index"]["x"], [QUARTERS])
    constant = shapley(models, image, QUARTERS, np.full((4, 4), 0.25))
    (found,) = asked_by_query(client, models, **{**asked, "removal": {"constant": 0.25}}).get_json()["explanations"]
    np.testing.assert_allclose([entry["attribution"] for entry in found["attributions"]], constant, atol=1e-6)
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(constant, expected, atol=1e-6)


def test_v1_v2_and_explain_say_the_same(client: FlaskClient, store: Store, models: ModuleType) -> None:
    image = image_of(models).astype(np.float32).reshape(1, 1, 4, 4)
    asked = {"method": "permutation_shap", "groups": {"superpixels": {"count": 4}}, "removal": "inpaint", "seed": 3}
    (v1,) = asked_by_query(client, models, **asked).get_json()["explanations"]
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 1, 4, 4], "data": image.ravel().tolist()}
    v2 = client.post("/v2/models/eye/explain", json={"inputs": [tensor], "explain": asked}).get_json()["explanation"]
    model = explain.Model(store.resolve("eye").file("model"))
    direct = explain.attribute(model, {"x": image}, run=runner(), **asked)
    groups = direct.values["groups"][0]
    np.testing.assert_allclose([entry["attribution"] for entry in v1["attributions"]], groups, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(v2["attributions"][0]["data"], groups, rtol=1e-5, atol=1e-7)
    further = {tensor["name"]: tensor for tensor in v2["tensors"]}
    assert set(further) == {"groups.standard_error", "groups.half_width", "x.groups"}
    assert direct.errors is not None
    assert direct.half_widths is not None
    for name, kind, theirs in (
        ("groups.standard_error", "standard_error", direct.errors["groups"][0]),
        ("groups.half_width", "half_width", direct.half_widths["groups"][0]),
    ):
        np.testing.assert_allclose(further[name]["data"], theirs, rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose([entry[kind] for entry in v1["attributions"]], theirs, rtol=1e-3, atol=1e-6)
    assert further["x.groups"]["datatype"] == "INT64"
    np.testing.assert_array_equal(np.reshape(further["x.groups"]["data"], [1, 1, 4, 4]), [v1["groups"]["index"]["x"]])
    assert v2["groups"] == [{name: v1["groups"][name] for name in ("spec", "names", "digest")}]
    assert v2["removal"] == [v1["removal"]]
    assert [entry["feature"] for entry in v2["features"]] == v1["groups"]["names"]


def runner() -> Any:
    onnxruntime = pytest.importorskip("onnxruntime")

    def run(program: explain.Program, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        session = onnxruntime.InferenceSession(program.serialize(), providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, feeds), strict=True))

    return run


def test_groups_may_be_numbers_by_pixel_or_by_element(client: FlaskClient, models: ModuleType) -> None:
    image = image_of(models)
    halves = np.repeat([[0, 0, 1, 1]], 4, axis=0)
    expected = shapley(models, image, halves, np.full((4, 4), image.mean()))
    rows = [image.reshape(1, 4, 4).tolist()]
    asked = {"instances": rows, "method": "exact_shap", "removal": "mean", "group_names": ["left", "right"]}
    for groups in (halves.tolist(), {"x": halves.tolist()}, {"x": [halves.tolist()]}, {"x": [[halves.tolist()]]}):
        (found,) = client.post("/v1/models/eye:explain", json={**asked, "groups": groups}).get_json()["explanations"]
        assert [entry["feature"] for entry in found["attributions"]] == ["left", "right"]
        np.testing.assert_allclose([entry["attribution"] for entry in found["attributions"]], expected, atol=1e-6)
        assert found["groups"]["spec"] is None
        np.testing.assert_array_equal(found["groups"]["index"]["x"], [halves])


def test_items_with_different_numbers_of_groups_name_their_own(client: FlaskClient, models: ModuleType) -> None:
    first, second = np.zeros((4, 4), dtype=int), QUARTERS
    rows = [image_of(models).reshape(1, 4, 4).tolist()] * 2
    asked = {"instances": rows, "method": "exact_shap", "removal": "mean"}
    answer = client.post("/v1/models/eye:explain", json={**asked, "groups": [first.tolist(), second.tolist()]})
    one, four = answer.get_json()["explanations"]
    assert (len(one["attributions"]), len(four["attributions"])) == (1, 4)
    assert (len(one["groups"]["names"]), len(four["groups"]["names"])) == (1, 4)
    assert one["groups"]["digest"] != four["groups"]["digest"]
    np.testing.assert_allclose(
        one["attributions"][0]["attribution"], one["explained_value"] - one["base_value"], atol=1e-6
    )


def test_a_decision_records_groups_and_removal_and_is_drawn_again(client: FlaskClient, models: ModuleType) -> None:
    asked = {"method": "permutation_shap", "groups": {"superpixels": {"count": 4}}, "removal": "mean"}
    drawn = asked_by_query(client, models, "image/png", **asked)
    assert drawn.status_code == 200
    decision = f"{drawn.headers['Glasshouse-Decision']}.0"
    record = client.get(f"/v1/decisions/{decision}").get_json()
    (answer,) = asked_by_query(client, models, **asked).get_json()["explanations"]
    told = {name: answer["groups"][name] for name in ("spec", "names", "digest")}
    assert record["explanation"]["groups"] == told
    assert record["explanation"]["removal"] == answer["removal"]
    assert record["explanation_tensors"]["groups.x"]["data"] == [answer["groups"]["index"]["x"]]
    widths = [entry["half_width"] for entry in answer["attributions"]]
    np.testing.assert_allclose(record["explanation_tensors"]["half_width.groups"]["data"], [widths], rtol=1e-6)
    again = client.get(f"/v1/decisions/{decision}/picture")
    assert again.get_data() == drawn.get_data()


def test_groups_of_a_picture_are_painted(client: FlaskClient, models: ModuleType) -> None:
    asked = {"method": "exact_shap", "groups": PATCHES, "removal": "mean"}
    drawn = asked_by_query(client, models, "image/png", **asked)
    assert Image.open(io.BytesIO(drawn.get_data())).format == "PNG"
    drawing = asked_by_query(client, models, "image/svg+xml", **asked).get_data(as_text=True)
    assert "attribution of each group to the logit" in drawing


def test_groups_of_columns_are_a_waterfall(client: FlaskClient) -> None:
    asked = {"instances": [[1.5, -0.5, "w"]], "method": "exact_shap"}
    blocks = {"blocks": {"colour": [2], "size": [0, 1]}}
    found = client.post("/v1/models/flowers:explain", json={**asked, "groups": blocks})
    (explanation,) = found.get_json()["explanations"]
    assert [entry["feature"] for entry in explanation["attributions"]] == ["colour", "size"]
    assert "index" not in explanation["groups"]
    picture = client.post(
        "/v1/models/flowers:explain", json={**asked, "groups": blocks}, headers={"Accept": "image/svg+xml"}
    )
    assert "colour" in picture.get_data(as_text=True)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"method": "saliency", "groups": "positions"}, "groups: got some, and method saliency uses none"),
        ({"method": "occlusion", "groups": "positions"}, "groups: got some, and method occlusion uses none"),
        ({"method": "saliency", "group_names": ["a"]}, "group_names: got some, and method saliency uses none"),
        ({"method": "saliency", "removal": "mean"}, "removal: got one, and method saliency uses none"),
        (
            {"method": "exact_shap", "groups": 7, "removal": "mean"},
            "groups: got the number 7, expected a kind of groups",
        ),
        ({"method": "exact_shap", "removal": ["mean"]}, "removal: got a list of 1, expected a kind of removal"),
        ({"method": "exact_shap", "groups": "slices", "removal": "mean"}, "groups: came 'slices', expected one of"),
        ({"method": "exact_shap", "groups": PATCHES, "removal": "zeros"}, "expected one of mean, blur, inpaint"),
        ({"method": "exact_shap", "groups": PATCHES, "removal": "background"}, "there is no background for this input"),
        ({"method": "exact_shap", "groups": "declared", "removal": "mean"}, "groups: got 'declared', and the model"),
        (
            {"method": "exact_shap", "groups": PATCHES, "group_names": ["a"]},
            "group_names: got some, expected groups as",
        ),
        ({"method": "exact_shap", "groups": PATCHES, "group_names": "a"}, "group_names: got the text 'a', expected"),
        ({"method": "occlusion", "removal": "mean", "baseline": 0}, "removal: got one beside a baseline, expected one"),
        (
            {"method": "exact_shap", "removal": "mean", "background": [np.zeros((1, 4, 4)).tolist()]},
            "background: got one beside a removal, expected one of the two",
        ),
        ({"method": "exact_shap", "removal": "mean", "groups": [[0, 1]]}, "groups of 'x': came shape [1, 2], expected"),
        ({"method": "exact_shap", "removal": "mean", "groups": [[0], [1, 2]]}, "groups of 'x': came no whole numbers"),
        (
            {"method": "exact_shap", "removal": "mean", "parameters": {"removal": "mean"}},
            "this member beside parameters",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(
    client: FlaskClient, error_of: Any, asked: dict[str, Any], said: str
) -> None:
    response = client.post("/v1/models/eye:explain", json={"instances": [np.zeros((1, 4, 4)).tolist()], **asked})
    assert response.status_code == 400, response.get_data()
    assert said in error_of(response)


def test_exact_shap_is_for_few_groups_only(
    models: ModuleType, store: Store, config: Any, open_client: Any, error_of: Any
) -> None:
    """A model that does not offer it because it has too many elements answers where the request names few groups."""
    told = ExplanationDefaults(method="saliency", methods=["saliency"], refused={"exact_shap": "16 are more than 12"})
    manifest = msgspec.structs.replace(models.patch(), name="wide", explanation=told)
    store.publish(manifest, {"model": models.patch_model()})
    client = open_client(dataclasses.replace(config, store=store.root))
    asked = {"instances": [np.zeros((1, 4, 4)).tolist()], "method": "exact_shap"}
    found = client.post("/v1/models/wide:explain", json={**asked, "groups": PATCHES, "removal": "mean"})
    assert found.status_code == 200
    refused = client.post("/v1/models/wide:explain", json={**asked, "groups": PATCHES})
    assert "16 are more than 12" in error_of(refused)
    for groups in ("elements", None):
        many = client.post("/v1/models/wide:explain", json={**asked, "groups": groups, "removal": "mean"})
        assert many.status_code in (400, 422)


def test_what_the_manifest_says_is_used_unless_the_request_says_more(
    models: ModuleType, store: Store, config: Any, open_client: Any
) -> None:
    told = ExplanationDefaults(method="exact_shap", methods=["exact_shap", "saliency"], groups=PATCHES, removal="mean")
    manifest = msgspec.structs.replace(models.patch(), name="told", explanation=told)
    store.publish(manifest, {"model": models.patch_model()})
    client = open_client(dataclasses.replace(config, store=store.root))
    asked = {"instances": [image_of(models).reshape(1, 4, 4).tolist()]}
    (own,) = client.post("/v1/models/told:explain", json=asked).get_json()["explanations"]
    assert (own["groups"]["spec"], own["removal"]["spec"]) == (PATCHES, "mean")
    two = {"patches": {"size": [4, 2]}}
    (other,) = client.post("/v1/models/told:explain", json={**asked, "groups": two}).get_json()["explanations"]
    assert (len(other["attributions"]), other["removal"]["spec"]) == (2, "mean")
    (zero,) = client.post("/v1/models/told:explain", json={**asked, "removal": {"constant": 0}}).get_json()[
        "explanations"
    ]
    assert zero["removal"]["digest"] != own["removal"]["digest"]


def columns(*groups: str | None) -> Manifest:
    features = [Feature(name=f"f{i}", input="x", index=i, group=group) for i, group in enumerate(groups)]
    spec = InputSpec(name="x", kind="tabular", dtype="float32", shape=["N", len(groups)], batch_axis=0)
    return Manifest(name="m", inputs=[spec], outputs=[], features=features)


def test_declared_groups_can_be_asked_for_and_put_aside() -> None:
    def found(manifest: Manifest, groups: Any) -> dict[str, Any]:
        return grouping.groups_of(manifest, ExplainRequest("m", None, Rows([]), groups=groups))

    manifest = columns("a", None, "a")
    assert found(manifest, None) == {}
    declared = found(manifest, "declared")
    assert declared["group_names"] == ["a", "f1"]
    np.testing.assert_array_equal(declared["groups"]["x"], [0, 1, 0])
    wanting = msgspec.structs.replace(manifest, explanation=ExplanationDefaults(groups=True))
    assert found(wanting, None)["group_names"] == ["a", "f1"]
    assert found(wanting, "elements") == {"groups": "elements"}
    with pytest.raises(BadRequest, match="the model declares none"):
        found(columns(None, None), "declared")


def test_one_list_of_numbers_is_for_one_input() -> None:
    first, second = columns("a").inputs[0], msgspec.structs.replace(columns("a").inputs[0], name="y")
    manifest = Manifest(name="m", inputs=[first, second], outputs=[])
    request = ExplainRequest("m", None, Rows([]), groups=[0])
    with pytest.raises(BadRequest, match="inputs x, y, by name"):
        grouping.groups_of(manifest, request)


def painted(models: ModuleType, index: np.ndarray, values: list[float], layout: str = "NCHW") -> np.ndarray:
    """What is drawn for one picture whose groups have these values."""
    manifest = models.patch()
    image = msgspec.structs.replace(manifest.inputs[0].image, layout=layout)
    changed = msgspec.structs.replace(manifest, inputs=[msgspec.structs.replace(manifest.inputs[0], image=image)])
    version = dataclasses.make_dataclass("Version", ["manifest"])(changed)
    figures = {"values": {"groups": np.array([values])}, "group_index": {"x": index[np.newaxis]}}
    answer = ExplainAnswer(version, {}, {}, 1, None, Runs(), **figures)
    return drawing._painted(answer, "x")


def test_each_pixel_is_painted_with_the_value_of_its_group(models: ModuleType) -> None:
    index = np.array([[0, 0, 1], [-1, 2, 1]])
    expected = np.array([[5.0, 5, -2], [0, 7, -2]])
    for layout, axis in (("NCHW", 0), ("NHWC", -1)):
        whole = painted(models, np.stack([index] * 3, axis=axis), [5.0, -2, 7], layout)
        np.testing.assert_allclose(whole.sum(axis=axis), expected)
        apart = painted(models, np.stack([index, index * 0, index * 0], axis=axis), [5.0, -2, 7], layout)
        np.testing.assert_allclose(apart.sum(axis=axis), expected + 10)
