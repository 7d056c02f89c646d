"""Inputs that are no features, over HTTP: taken as they come, never attributed, a cache of no steps too."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from flask.testing import FlaskClient
from onnx import TensorProto, helper, numpy_helper

import explain
from model_store import Baseline, ExplanationDefaults, InputSpec, Manifest, OutputSpec, Store
from server import Config, Service, create_app, open_service
from tests.explain.test_inputs_held import HELD, WIDTH, T, feeds_of, formula, model, shapley

METHODS = ["input_x_gradient", "integrated_gradients", "exact_shap"]
STEPS, INNER = "steps", 2
Ask = Callable[..., Any]


def recurrent(operator: str = "GRU", inside: bool = False) -> bytes:
    """y [N, 2] = x [N, 2] and the last state of a recurrent operator over steps [N, P, 4], which may lie in an If."""
    draw, gates = np.random.default_rng(3), {"GRU": 3, "LSTM": 4, "RNN": 1}[operator]
    weights = {
        "w": draw.normal(size=(1, gates * INNER, WIDTH)).astype(np.float32),
        "r": draw.normal(size=(1, gates * INNER, INNER)).astype(np.float32),
        "front": np.array([0]),
        "yes": np.array(True),
    }
    over = helper.make_node(operator, ["first", "w", "r"], ["", "h"], hidden_size=INNER)
    nodes = [helper.make_node("Transpose", [STEPS], ["first"], perm=[1, 0, 2])]
    if inside:
        last = helper.make_tensor_value_info("h", TensorProto.FLOAT, None)
        body = helper.make_graph([over], "body", [], [last])
        nodes.append(helper.make_node("If", ["yes"], ["h"], then_branch=body, else_branch=body))
    else:
        nodes.append(over)
    nodes += [helper.make_node("Squeeze", ["h", "front"], ["last"]), helper.make_node("Add", ["x", "last"], ["y"])]
    ends = {"x": ["N", INNER], STEPS: ["N", "P", WIDTH], "y": ["N", INNER]}
    x, steps, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in ends.items())
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "g", [x, steps], [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()


def spec(name: str, shape: list[Any], dtype: str = "float32") -> InputSpec:
    return InputSpec(name=name, kind="tensor", dtype=dtype, shape=shape, batch_axis=0)


def manifest(name: str, inputs: list[InputSpec], held: list[str], width: int) -> Manifest:
    return Manifest(
        name=name,
        inputs=inputs,
        outputs=[OutputSpec(name="y", kind="value", dtype="float32", shape=["N", width], batch_axis=0)],
        explanation=ExplanationDefaults(
            method="integrated_gradients", methods=METHODS, held=held, baseline=Baseline(kind="constant", value=0.0)
        ),
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("held") / "store"
    own = [
        spec("x", ["N", T, WIDTH]),
        spec("attention_mask", ["N", "S"], "int64"),
        spec("positions", ["N", "T"], "int64"),
    ]
    attention = manifest("attention", [*own, spec("past", ["N", "P", WIDTH])], list(HELD), 1)
    Store(root).publish(attention, {"model": model()})
    for operator in ("GRU", "LSTM", "RNN", "inside"):
        file = recurrent("GRU", inside=True) if operator == "inside" else recurrent(operator)
        inputs = [spec("x", ["N", INNER]), spec(STEPS, ["N", "P", WIDTH])]
        Store(root).publish(manifest(operator.lower(), inputs, [STEPS], INNER), {"model": file})
    return root


@pytest.fixture(scope="module", params=["inside", "process"])
def service(request: pytest.FixtureRequest, store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """With an engine in this process, and with one of its own."""
    import engine

    config = Config(store=store, database=tmp_path_factory.mktemp("records") / "decisions.sqlite", threads=1)
    if request.param == "inside":
        opened = open_service(config)
        yield opened
        opened.close()
        return
    processes = engine.EngineProcesses([engine.EngineSettings(threads=1)], {"predict": 4, "explain": 2})
    opened = open_service(
        dataclasses.replace(config, database=config.database.with_name("other.sqlite")), processes.places
    )
    yield opened
    opened.close()
    processes.close()


@pytest.fixture
def client(service: Service) -> FlaskClient:
    return create_app(service.config, service).test_client()


def posted(client: FlaskClient, path: str, feeds: dict[str, np.ndarray], binary: bool, **more: Any) -> Any:
    """The answer to tensors of a V2 request, as JSON or as binary tensor data."""
    names = {"float32": "FP32", "int64": "INT64"}
    tensors, parts = [], []
    for name, array in feeds.items():
        tensor = {"name": name, "datatype": names[array.dtype.name], "shape": list(array.shape)}
        parts.append(array.tobytes())
        content = {"parameters": {"binary_data_size": len(parts[-1])}} if binary else {"data": array.ravel().tolist()}
        tensors.append(tensor | content)
    head = json.dumps({"inputs": tensors, **more}).encode()
    if not binary:
        return client.post(path, data=head)
    headers = {"Inference-Header-Content-Length": str(len(head))}
    return client.post(path, data=head + b"".join(parts), headers=headers)


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("cached", [0, 2])
def test_a_cache_of_any_length_is_predicted_with(client: FlaskClient, cached: int, binary: bool) -> None:
    feeds = feeds_of(cached)
    answer = posted(client, "/v2/models/attention/infer", feeds, binary)
    assert answer.status_code == 200, answer.data
    np.testing.assert_allclose(answer.get_json()["outputs"][0]["data"], formula(feeds), rtol=1e-4, atol=1e-5)
    decision = answer.headers["Glasshouse-Decision"]
    kept = client.get(f"/v1/decisions/{decision}.0").get_json()
    assert kept["inputs"]["past"]["shape"] == [1, cached, WIDTH]
    np.testing.assert_array_equal(np.reshape(kept["inputs"]["past"]["data"], (1, cached, WIDTH)), feeds["past"][:1])


@pytest.mark.parametrize("method", METHODS[:2])
@pytest.mark.parametrize("cached", [0, 2])
def test_only_features_are_attributed(client: FlaskClient, cached: int, method: str) -> None:
    feeds = feeds_of(cached)
    answer = posted(client, "/v2/models/attention/explain", feeds, cached == 0, explain={"method": method})
    assert answer.status_code == 200, answer.data
    explanation = answer.get_json()["explanation"]
    assert [tensor["name"] for tensor in explanation["attributions"]] == ["x"]
    handle = explain.Model(model(), held=HELD)
    given = {"baseline": 0.0} if method == "integrated_gradients" else {}
    found = explain.attribute(handle, feeds, method=method, run=_run, **given)
    np.testing.assert_allclose(
        np.reshape(explanation["attributions"][0]["data"], feeds["x"].shape), found.values["x"], rtol=1e-3, atol=1e-5
    )
    if method == "integrated_gradients":
        gone = formula(feeds | {"x": np.zeros_like(feeds["x"])})
        sums = np.reshape(explanation["attributions"][0]["data"], (2, -1)).sum(axis=1)
        np.testing.assert_allclose(sums, formula(feeds) - gone, atol=0.02)


def _run(program: explain.Program, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(program.serialize(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


@pytest.mark.parametrize("cached", [0, 2])
@pytest.mark.parametrize("more", [{}, {"attention_mask": [1], "past": "not looked at", "positions": None}])
def test_what_is_compared_with_has_features_only(client: FlaskClient, cached: int, more: dict[str, Any]) -> None:
    """Rows that are sent need no inputs that are held; where they have them, each row keeps its own."""
    feeds, zeros = feeds_of(cached), {"x": np.zeros((T, WIDTH)).tolist(), **more}
    groups = {"x": np.repeat(np.arange(T)[:, None], WIDTH, axis=1).tolist()}
    for compared in ({"background": [zeros, zeros]}, {"removal": {"constant": 0}}):
        asked = {"method": "exact_shap", "groups": groups, **compared}
        answer = posted(client, "/v2/models/attention/explain", feeds, False, explain=asked)
        assert answer.status_code == 200, answer.data
        (values,) = answer.get_json()["explanation"]["attributions"]
        for item in range(2):
            np.testing.assert_allclose(np.reshape(values["data"], (2, T))[item], shapley(feeds, item), atol=1e-4)
    answers = [
        posted(client, "/v2/models/attention/explain", feeds, False, explain={"baseline": baseline}).get_json()
        for baseline in (zeros, 0, None)
    ]
    first, *others = [answer["explanation"]["attributions"] for answer in answers]
    assert others == [first, first]


@pytest.mark.parametrize(
    ("name", "shape", "told"),
    [
        ("x", (2, 0, WIDTH), "input 'x': got shape [2, 0, 4], expected shape [items, 3, 4]"),
        ("past", (0, 2, WIDTH), "input 'past': got shape [0, 2, 4], expected at least one element"),
        ("past", (2, 2, 0), "input 'past': got shape [2, 2, 0], expected shape [items, 'P', 4]"),
        ("positions", (2, 0), None),
    ],
)
def test_what_is_empty_elsewhere_is_refused(
    client: FlaskClient, name: str, shape: tuple[int, ...], told: str | None
) -> None:
    feeds = feeds_of(2)
    answer = posted(client, "/v2/models/attention/infer", feeds | {name: np.zeros(shape, feeds[name].dtype)}, False)
    if told is None:  # the model itself may make something of it, or not
        assert answer.status_code in (200, 400, 500)
    else:
        assert answer.status_code == 400
        assert told.replace("'P'", "P") in answer.get_json()["error"]


@pytest.mark.parametrize("door", ["infer", "explain"])
@pytest.mark.parametrize("name", ["gru", "lstm", "rnn", "inside"])
def test_no_steps_of_a_recurrent_operator_are_refused(client: FlaskClient, name: str, door: str) -> None:
    """ONNX Runtime's GRU ends the process."""
    x, steps = np.ones((2, INNER), np.float32), np.ones((2, 3, WIDTH), np.float32)
    path = f"/v2/models/{name}/{door}"
    refused = posted(client, path, {"x": x, STEPS: steps[:, :0]}, True)
    assert refused.status_code == 400
    operator = "GRU" if name == "inside" else name.upper()
    assert refused.get_json()["error"] == (
        "input 'steps': got shape [2, 0, 4], expected at least one element, "
        f"as the model has a {operator}, which takes at least one step"
    )
    more = {"explain": {"target": 0}} if door == "explain" else {}
    assert posted(client, path, {"x": x, STEPS: steps}, True, **more).status_code == 200


@pytest.mark.parametrize(("operator", "inside"), [("GRU", False), ("LSTM", False), ("RNN", False), ("GRU", True)])
def test_so_are_they_in_python(operator: str, inside: bool) -> None:
    handle = explain.Model(recurrent(operator, inside), held=[STEPS])
    feeds = {"x": np.ones((2, INNER), np.float32), STEPS: np.ones((2, 0, WIDTH), np.float32)}
    with pytest.raises(explain.InvalidInputs, match=rf"'steps': came shape \(2, 0, 4\).* a {operator}, which takes"):
        explain.attribute(handle, feeds, method="saliency", target=0, run=_run)
    as_feature = {"x": feeds["x"], STEPS: feeds[STEPS]}
    with pytest.raises(explain.InvalidInputs, match="which holds no elements"):
        explain.attribute(recurrent(operator, inside), as_feature, method="saliency", target=0, run=_run)


def test_the_operator_is_found_in_a_function_too() -> None:
    """Exporters write layers as functions of the model."""
    inner = helper.make_node("GRU", ["a", "w", "r"], ["", "b"], hidden_size=INNER)
    opset = [helper.make_opsetid("", 18)]
    layer = helper.make_function("own", "Layer", ["a", "w", "r"], ["b"], [inner], opset)
    plain = onnx.load_from_string(recurrent())
    for node in plain.graph.node:
        if node.op_type == "GRU":
            node.CopyFrom(helper.make_node("Layer", list(node.input), ["h"], domain="own"))
    plain.functions.append(layer)
    plain.opset_import.append(helper.make_opsetid("own", 1))
    assert explain.Model(plain).recurrent == "GRU"
    assert explain.Model(model()).recurrent is None


def test_the_runtime_cannot_be_asked() -> None:
    """Why it is refused before: the process does not live to raise an error."""
    script = (
        "import numpy, onnxruntime, sys\n"
        "session = onnxruntime.InferenceSession(sys.stdin.buffer.read(), providers=['CPUExecutionProvider'])\n"
        f"session.run(None, {{'x': numpy.ones((2, 2), 'float32'), 'steps': numpy.ones((2, 0, {WIDTH}), 'float32')}})\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], input=recurrent(), capture_output=True, check=False, timeout=120
    )
    assert ended.returncode < 0
