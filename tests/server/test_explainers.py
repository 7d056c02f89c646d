"""What is said of each method: what meets its needs, what it takes, and what is taken if nothing is sent."""

from __future__ import annotations

import dataclasses
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from flask.testing import FlaskClient
from onnx import TensorProto, helper

from model_store import Baseline, ExplanationDefaults, InputSpec, Manifest, OutputSpec, Store
from server import methods
from server.loaded import LoadedModel


def entries(client: FlaskClient, model: str) -> dict[str, Any]:
    return {entry["name"]: entry for entry in client.get(f"/v2/models/{model}/explainers").get_json()["explainers"]}


def test_needs_are_met_by_what_the_model_has(client: FlaskClient) -> None:
    told = entries(client, "flowers")
    assert told["saliency"]["met"] == {"gradient": "the operators of the model have gradients"}
    assert told["integrated_gradients"]["met"]["baseline"] == "the constant 0"
    assert told["exact_shap"]["met"] == {"background": "the background set of 12 rows", "masks": 'groups: "elements"'}
    assert told["exact_shap"]["takes"] == ["groups", "removal", "background"]
    assert told["integrated_gradients"]["takes"] == ["baseline"]
    assert told["saliency"]["takes"] == []
    assert (told["exact_shap"]["groups"], told["exact_shap"]["removal"]) == ("elements", None)
    assert told["saliency"]["groups"] is None
    assert told["exact_shap"]["evaluations"] == 6 * 12 + 12 + 1


def described(models: ModuleType, store: Any, files: dict[str, bytes] | None = None, **changes: Any) -> dict[str, Any]:
    wanted = ["kernel_shap", "feature_ablation", "occlusion", "integrated_gradients"]
    told = ExplanationDefaults(**{"methods": wanted, **changes})
    manifest = msgspec.structs.replace(models.patch(), name="told", explanation=told)
    Store(store).publish(manifest, {"model": models.patch_model(), **(files or {})})
    answer = methods.describe(LoadedModel(Store(store).resolve("told")))
    return {entry["name"]: entry for entry in answer["explainers"]}


def test_defaults_of_the_manifest_are_told(models: ModuleType, own_store: Any) -> None:
    told = described(models, own_store, groups={"patches": {"count": 4}}, removal={"blur": {"sigma": 2}})
    assert told["kernel_shap"]["groups"] == {"patches": {"count": 4}}
    assert told["kernel_shap"]["removal"] == {"blur": {"sigma": 2}}
    assert told["kernel_shap"]["met"]["background"] == 'removal: {"blur": {"sigma": 2}}'
    assert told["kernel_shap"]["evaluations"] == 2**4 - 2 + 2
    assert told["integrated_gradients"]["met"]["baseline"] is None
    assert told["occlusion"]["groups"] is None


def test_a_reference_is_the_baseline_of_a_picture_or_its_background(models: ModuleType, own_store: Any) -> None:
    told = described(models, own_store, baseline=Baseline("constant", 0.5))
    assert told["feature_ablation"]["met"]["reference"] == "the constant 0.5"
    assert told["feature_ablation"]["evaluations"] == 16 + 1
    assert (told["kernel_shap"]["met"]["background"], told["kernel_shap"]["evaluations"]) == (None, None)
    rows = {"background": models.npz(x=np.zeros((3, 1, 4, 4), dtype=np.float32))}
    told = described(models, own_store, rows)
    assert told["feature_ablation"]["met"]["reference"] == "the background set of 3 rows"
    assert told["feature_ablation"]["evaluations"] == 3 * 16 + 1
    told = described(models, own_store, rows, baseline=Baseline("background_mean"))
    assert told["integrated_gradients"]["met"]["baseline"] == "the centre of the background set of 3 rows"
    assert told["feature_ablation"]["evaluations"] == 16 + 1
    told = described(models, own_store, rows, removal="background")
    assert told["feature_ablation"]["evaluations"] == 3 * 16 + 1


def test_a_background_that_cannot_be_read_is_no_background(models: ModuleType, own_store: Any) -> None:
    told = described(models, own_store, {"background": b"no npz"})
    assert (told["kernel_shap"]["met"]["background"], told["kernel_shap"]["evaluations"]) == (None, None)


def forest() -> onnx.ModelProto:
    """y = 1 where x0 > 0, and 2 more where x1 > 0: two stumps."""
    node = helper.make_node(
        "TreeEnsembleRegressor",
        ["x"],
        ["y"],
        domain="ai.onnx.ml",
        n_targets=1,
        nodes_treeids=[0, 0, 0, 1, 1, 1],
        nodes_nodeids=[0, 1, 2] * 2,
        nodes_featureids=[0, 0, 0, 1, 0, 0],
        nodes_values=[0.0] * 6,
        nodes_modes=["BRANCH_GT", "LEAF", "LEAF"] * 2,
        nodes_truenodeids=[1, 0, 0] * 2,
        nodes_falsenodeids=[2, 0, 0] * 2,
        target_treeids=[0, 1],
        target_nodeids=[1, 1],
        target_ids=[0, 0],
        target_weights=[1.0, 2.0],
    )
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", size]) for name, size in (("x", 2), ("y", 1))]
    graph = helper.make_graph([node], "forest", ends[:1], ends[1:])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


@pytest.fixture
def trees(models: ModuleType, own_store: Any, config: Any, open_client: Any) -> FlaskClient:
    manifest = Manifest(
        name="trees",
        inputs=[InputSpec("x", "tabular", "float32", ["N", 2], 0)],
        outputs=[OutputSpec("y", "value", "float32", ["N", 1], 0)],
        features=[models.number("a", 0), models.number("b", 1)],
        explanation=ExplanationDefaults(method="tree_shap", methods=["tree_shap", "tree_shap_interactions"]),
    )
    rows = models.npz(x=np.array([[-1, -1], [1, -1], [-1, 1], [-1, -1]], dtype=np.float32))
    Store(own_store).publish(manifest, {"model": forest().SerializeToString(), "background": rows})
    client: FlaskClient = open_client(dataclasses.replace(config, store=own_store))
    return client


def test_trees_share_out_among_features_or_groups(trees: FlaskClient) -> None:
    """The model is a sum of two steps: each is worth its own step less its mean over the background."""
    told = entries(trees, "trees")["tree_shap"]
    assert (told["takes"], told["evaluations"]) == (["groups", "background"], None)
    assert told["met"] == {
        "background": "the background set of 4 rows",
        "trees": "the explained value is a sum over trees",
    }
    asked = {"instances": [[2, 3]]}
    (found,) = trees.post("/v1/models/trees:explain", json=asked).get_json()["explanations"]
    assert [entry["attribution"] for entry in found["attributions"]] == pytest.approx([0.75, 1.5])
    whole = {**asked, "groups": "inputs"}
    (found,) = trees.post("/v1/models/trees:explain", json=whole).get_json()["explanations"]
    assert [(e["feature"], e["attribution"]) for e in found["attributions"]] == [("x", pytest.approx(2.25))]
    assert (found["groups"]["spec"], found["removal"]) == ("inputs", None)


def test_pairs_of_features_are_no_features(trees: FlaskClient) -> None:
    asked = {"instances": [[2, 3]], "method": "tree_shap_interactions"}
    response = trees.post("/v1/models/trees:explain", json=asked)
    (found,) = response.get_json()["explanations"]
    np.testing.assert_allclose(found["attributions"]["x"], [[0.75, 0], [0, 1.5]], atol=1e-6)
    picture = trees.post("/v1/models/trees:explain", json=asked, headers={"Accept": "image/png"})
    assert picture.status_code == 406
