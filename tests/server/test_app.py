"""The HTTP surface: every route answers, every failure has one shape, and the next request is answered."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from server import Config

Answer = Callable[[TestResponse], Any]
ErrorOf = Callable[[TestResponse], str]
ROW = {"petal": 1.5, "sepal": -0.5, "colour": "w"}
GOOD = {"instances": [ROW]}


def rules(client: FlaskClient) -> list[tuple[str, str]]:
    """Every method and address of the application, with names filled in that do not exist."""
    filled = {"name": "nothing", "version": "9", "decision_id": "01JD0000000000000000000000.0"}
    found = []
    for rule in client.application.url_map.iter_rules():
        values = {argument: filled.get(argument, "x") for argument in rule.arguments}
        address = rule.build({key: filled.get(key, value) for key, value in values.items()})
        assert address is not None
        found += [(method, address[1]) for method in sorted((rule.methods or set()) - {"OPTIONS", "HEAD"})]
    return found


def test_every_route_fails_in_one_shape(client: FlaskClient, error_of: ErrorOf) -> None:
    seen = 0
    for method, address in rules(client):
        for tried in {"GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"}:
            response = client.open(address, method=tried, data=b"{", content_type="application/json")
            if response.status_code >= 400:
                error_of(response)
                seen += 1
            if tried not in (method, "GET", "POST"):
                assert response.status_code == 405
                assert response.headers["Allow"]
    assert seen > 100


def test_the_check_of_the_shape_sees_another(client: FlaskClient, error_of: ErrorOf) -> None:
    @client.application.get("/odd")
    def odd() -> tuple[dict[str, str], int]:
        return {"error": "x", "trace": "y"}, 400

    with pytest.raises(AssertionError):
        error_of(client.get("/odd"))


@pytest.mark.parametrize(
    "address",
    [
        "/v2/",
        "/v2//health/live",
        "/v2/models/",
        "/v2//models",
        "/V2",
        "/v2/models/../models",
        "/v2/models/%2e%2e",
        "/v2/models/..%2f..%2fetc%2fpasswd",
        "/v2/models/%252e%252e",
        "/v2/models/flowers%00",
        "/v2/models/" + "a" * 300,
        "/v2/models/fl%C3%B6wers",
        "/v2/models/flowers/versions/..",
        "/v2/models/flowers/versions/01",
        "/v2/models/flowers/versions/-1",
        "/v2/models/flowers/versions/9999999999999999999999",
        "/console/static/../config.py",
        "/console/static/%2e%2e/config.py",
        "/console/static//etc/passwd",
        "/v1/decisions/..",
        "/v1/decisions/x",
    ],
)
def test_other_spellings_and_names_are_not_found(client: FlaskClient, error_of: ErrorOf, address: str) -> None:
    response = client.get(address)
    assert response.status_code == 404
    assert len(error_of(response)) < 600


def test_metadata(client: FlaskClient, answer_of: Answer) -> None:
    assert answer_of(client.get("/v2/health/live")) == {"live": True}
    assert answer_of(client.get("/v2/health/ready")) == {"ready": True}
    server = answer_of(client.get("/v2"))
    assert server["name"] == "glasshouse"
    assert {"binary_tensor_data", "statistics", "explain"} <= set(server["extensions"])
    names = ["broken", "flowers", "patch", "price", "single"]
    assert answer_of(client.get("/v1/models")) == {"models": names}
    assert answer_of(client.get("/v2/models")) == {"models": names}
    assert answer_of(client.get("/v1/models/flowers")) == {"name": "flowers", "ready": True}
    for address in ("/v2/models/flowers", "/v2/models/flowers/versions/1"):
        model = answer_of(client.get(address))
        assert model["versions"] == ["1"]
        assert model["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]
        assert model["outputs"] == [{"name": "logits", "datatype": "FP32", "shape": [-1, 3]}]
        assert answer_of(client.get(f"{address}/ready")) == {"name": "flowers", "ready": True}
        config = answer_of(client.get(f"{address}/config"))
        assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [3]}]
        assert config["max_batch_size"] > 1
    index = answer_of(client.post("/v2/repository/index", json={"ready": True}))
    assert {"name": "flowers", "version": "1", "state": "READY", "reason": ""} in index
    assert answer_of(client.post("/v2/repository/index")) == index


def test_statistics_count_items_and_runs(client: FlaskClient, answer_of: Answer) -> None:
    (before,) = answer_of(client.get("/v2/models/flowers/stats"))["model_stats"]
    client.post("/v1/models/flowers:predict", json={"instances": [ROW] * 5})
    client.post("/v1/models/flowers:predict", json=GOOD)
    (stats,) = answer_of(client.get("/v2/models/flowers/stats"))["model_stats"]
    assert stats["inference_count"] - before["inference_count"] == 6
    assert stats["execution_count"] - before["execution_count"] == 2
    assert stats["inference_stats"]["success"]["count"] - before["inference_stats"]["success"]["count"] == 2
    assert [batch["batch_size"] for batch in stats["batch_stats"]] == [1, 5]
    assert len(answer_of(client.get("/v2/models/stats"))["model_stats"]) == 5


def test_explainers_name_what_is_offered_and_why_the_rest_is_not(client: FlaskClient, answer_of: Answer) -> None:
    flowers = answer_of(client.get("/v2/models/flowers/explainers"))
    assert flowers["default"] == "exact_shap"
    offered = {entry["name"]: entry for entry in flowers["explainers"]}
    assert offered["integrated_gradients"]["parameters"]["properties"]["n_steps"]["default"] == 50
    assert offered["exact_shap"]["needs"] == ["background"]
    assert flowers["refused"] == [{"name": "grad_cam", "reason": "the model has no feature maps"}]
    patch = answer_of(client.get("/v2/models/patch/versions/1/explainers"))
    assert "background" in {entry["name"]: entry["reason"] for entry in patch["refused"]}["kernel_shap"]


def test_the_console_gets_its_files_and_its_models(client: FlaskClient, answer_of: Answer) -> None:
    page = client.get("/")
    assert page.mimetype == "text/html"
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert "unsafe" not in page.headers["Content-Security-Policy"]
    assert client.get("/console/static/console.js").mimetype == "text/javascript"
    entries = {entry["name"]: entry for entry in answer_of(client.get("/console/models"))}
    flowers = entries["flowers"]
    assert flowers["kind"] == "tabular"
    assert flowers["example"] == ROW
    assert flowers["features"][2]["levels"][1] == {"value": "w", "label": "white"}
    assert flowers["default_method"] == "exact_shap"
    assert flowers["metrics"] == {"accuracy": 0.5}
    assert entries["patch"]["kind"] == "image"
    assert entries["patch"]["inputs"][0]["image"] == {"height": 4, "width": 4}
    assert entries["broken"]["example"] is None


def test_the_example_of_the_console_can_be_sent(client: FlaskClient, answer_of: Answer) -> None:
    entries = answer_of(client.get("/console/models"))
    instance = next(entry["example"] for entry in entries if entry["name"] == "flowers")
    assert client.post("/v1/models/flowers:explain", json={"instances": [instance]}).status_code == 200


def test_every_answer_carries_ids_and_safe_headers(client: FlaskClient) -> None:
    for response in (client.get("/v2"), client.get("/nope"), client.post("/v1/models/flowers:predict", json=GOOD)):
        assert len(response.headers["X-Request-Id"]) == 32
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["Content-Security-Policy"]
    given = client.get("/v2", headers={"X-Request-Id": "abc-1.2_3"})
    assert given.headers["X-Request-Id"] == "abc-1.2_3"
    for forged in ("a b", "a" * 129, "ä", '"}'):
        assert client.get("/v2", headers={"X-Request-Id": forged}).headers["X-Request-Id"] != forged


BAD_ROWS = [
    ([{"petal": 1, "sepal": 2}], "colour"),
    ([{**ROW, "stem": 1}], "stem"),
    ([{**ROW, "colour": "green"}], "'green'"),
    ([{**ROW, "petal": "long"}], "petal"),
    ([{**ROW, "petal": None}], "petal"),
    ([{**ROW, "petal": True}], "petal"),
    ([{**ROW, "petal": 1e300}], "petal"),
    ([[1, 2]], "2 values"),
    ([[1, 2, "w", 4]], "4 values"),
    ([1], "instances[0]"),
    (["text"], "instances[0]"),
    ([None], "instances[0]"),
    ([ROW, {}], "instances[1]"),
    ([], "instances"),
    ({"a": 1}, "instances"),
    ("abc", "instances"),
    (None, "instances"),
]


@pytest.mark.parametrize("verb", ["predict", "explain"])
@pytest.mark.parametrize(("rows", "named"), BAD_ROWS)
def test_bad_rows_are_named(client: FlaskClient, error_of: ErrorOf, verb: str, rows: Any, named: str) -> None:
    response = client.post(f"/v1/models/flowers:{verb}", json={"instances": rows})
    assert response.status_code == 400
    assert named in error_of(response)
    assert client.post(f"/v1/models/flowers:{verb}", json=GOOD).status_code == 200


BAD_BODIES = [
    (b"", 400, "nothing"),
    (b"{", 400, "line 1"),
    (b"[]", 400, "a list of 0"),
    (b"{}", 400, "neither"),
    (b'{"instances":[[1,2,"w"]],"inputs":[[1,2,"w"]]}', 400, "both"),
    (b'{"instances":[[NaN,2,"w"]]}', 400, "NaN"),
    (b'{"instances":[[1e999,2,"w"]]}', 400, "1e999"),
    (b'{"instances":[[1,2,"w"]],"instances":[]}', 400, "twice"),
    (b'{"instances":' + b"[" * 200_000, 400, "nested"),
    (b'{"instances":[[' + b"9" * 100_000 + b',2,"w"]]}', 400, "digits"),
    (b'{"instances":[[1,2,"\\ud800"]]}', 400, "UTF-8"),
    (b"\xff\xfe", 400, "UTF-8"),
    (b'{"instances":[[1,2,"w"]],"instnces":1}', 400, "instnces"),
]


@pytest.mark.parametrize(("body", "status", "named"), BAD_BODIES)
def test_bad_bodies_are_named(client: FlaskClient, error_of: ErrorOf, body: bytes, status: int, named: str) -> None:
    for verb in ("predict", "explain"):
        response = client.post(f"/v1/models/flowers:{verb}", data=body, content_type="application/json")
        assert response.status_code == status
        assert named in error_of(response)
    assert client.post("/v1/models/flowers:predict", json=GOOD).status_code == 200


BAD_EXPLAINS = [
    ({"method": "magic"}, 400, "'magic'"),
    ({"method": 3}, 400, "method"),
    ({"method": "grad_cam"}, 422, "no feature maps"),
    ({"target": 3}, 400, "rose, lily, iris"),
    ({"target": -1}, 400, "0 to 2"),
    ({"target": "tulip"}, 400, "'tulip'"),
    ({"target": 1.5}, 400, "target"),
    ({"target": [0, 1]}, 400, "1 rows"),
    ({"target": {"class": 0}}, 400, "versus"),
    ({"target": {"class": 0, "versus": "tulip"}}, 400, "target.versus"),
    ({"target": {"index": [0, 0]}}, 400, "target"),
    ({"target": {"index": ["a"]}}, 400, "target.index"),
    ({"output": "nope"}, 400, "logits"),
    ({"space": "moon"}, 400, "probability"),
    ({"space": "probability"}, 400, "probability"),
    ({"seed": -1}, 400, "seed"),
    ({"seed": "a"}, 400, "seed"),
    ({"parameters": {"n_stps": 3}, "method": "integrated_gradients"}, 400, "n_stps"),
    ({"parameters": {"n_steps": 0}, "method": "integrated_gradients"}, 400, "n_steps"),
    ({"parameters": {"n_steps": "many"}, "method": "integrated_gradients"}, 400, "n_steps"),
    ({"parameters": {"n_steps": 10**9}, "method": "integrated_gradients"}, 400, "n_steps"),
    ({"parameters": {"target": 1}}, 400, "parameters.target"),
    ({"parameters": [1]}, 400, "parameters"),
    ({"background": []}, 400, "background"),
    ({"background": [[1, 2]]}, 400, "2 values"),
    ({"baseline": [1, 2], "method": "integrated_gradients"}, 400, "2 values"),
    ({"baseline": "zero", "method": "integrated_gradients"}, 400, "instances[0]"),
    ({"metod": "saliency"}, 400, "metod"),
]


@pytest.mark.parametrize(("options", "status", "named"), BAD_EXPLAINS)
def test_bad_explain_options_are_named(
    client: FlaskClient, error_of: ErrorOf, options: dict[str, Any], status: int, named: str
) -> None:
    response = client.post("/v1/models/flowers:explain", json={**GOOD, **options})
    assert (response.status_code, named in error_of(response)) == (status, True), response.get_data()
    tensors = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1.5, -0.5, 1]}]}
    typed = client.post("/v2/models/flowers/explain", json={**tensors, "explain": options})
    assert typed.status_code == status
    error_of(typed)
    assert client.post("/v1/models/flowers:explain", json=GOOD).status_code == 200


def test_shap_without_a_background_is_refused_unless_one_is_sent(client: FlaskClient, error_of: ErrorOf) -> None:
    asked: dict[str, Any] = {"instances": [[1, 2, 3]], "method": "exact_shap"}
    response = client.post("/v1/models/price:explain", json=asked)
    assert response.status_code == 422
    assert "needs a background" in error_of(response)
    sent = client.post("/v1/models/price:explain", json={**asked, "background": [[0, 0, 0], [2, 0, 0]]})
    assert sent.status_code == 200
    (explained,) = sent.get_json()["explanations"]
    assert explained["base_value"] == pytest.approx(2.0)
    assert [entry["attribution"] for entry in explained["attributions"]] == pytest.approx([0.0, -2.0, 1.5])


def infer_body(**changes: Any) -> dict[str, Any]:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1.5, -0.5, 1.0], **changes}
    return {"inputs": [{key: value for key, value in tensor.items() if value is not ...}]}


BAD_INFERS = [
    (infer_body(shape=[1, 4]), "3 elements"),
    (infer_body(shape=[1, 4], data=[1, 2, 3, 4]), "'x'"),
    (infer_body(shape=[3]), "'x'"),
    (infer_body(datatype="FP64"), "float64"),
    (infer_body(datatype="FLOAT"), "datatype"),
    (infer_body(name="y"), "'y'"),
    (infer_body(name=1), "inputs[0]"),
    (infer_body(data=["a", 1, 2]), "data[0]"),
    (infer_body(data=...), "either data or"),
    (infer_body(shape=[2**40, 2**40]), "3 elements"),
    (infer_body(shape=[0, 3], data=[]), "'x'"),
    (infer_body(data=[1.5, -0.5, 7.0]), "colour"),
    (infer_body(parameters={"shared_memory_region": "a"}), "shared_memory_region"),
    (infer_body(parameters={"binary_data_size": 12}), "both"),
    ({"inputs": []}, "inputs"),
    ({"inputs": "x"}, "inputs"),
    ({}, "inputs"),
    ({"inputs": [infer_body()["inputs"][0]] * 2}, "second time"),
    ({**infer_body(), "outputs": [{"name": "nope"}]}, "nope"),
    ({**infer_body(), "outputs": [{"name": "logits"}] * 2}, "second time"),
    ({**infer_body(), "outputs": [{"name": f"o{i}"} for i in range(10_000)]}, "outputs"),
    ({**infer_body(), "outputs": [{"name": "logits", "parameters": {"classification": 1}}]}, "classification"),
    ({**infer_body(), "parameters": {"sequence_id": 3}}, "sequence_id"),
    ({**infer_body(), "parameters": {"timeout": "soon"}}, "timeout"),
    ({**infer_body(), "parameters": []}, "parameters"),
    ({**infer_body(), "id": 3}, "id"),
    ({**infer_body(), "input": []}, "'input'"),
    ({**infer_body(), "explain": {"method": "saliency"}}, "explain"),
]


@pytest.mark.parametrize(("body", "named"), BAD_INFERS)
def test_bad_infer_requests_are_named(client: FlaskClient, error_of: ErrorOf, body: Any, named: str) -> None:
    response = client.post("/v2/models/flowers/infer", json=body)
    assert response.status_code == 400
    assert named in error_of(response)
    assert client.post("/v2/models/flowers/infer", json=infer_body()).status_code == 200


def png_of(size: int) -> bytes:
    """A PNG whose header claims size x size pixels, with next to no data behind it."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", size, size, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


def bad_images(models: ModuleType) -> list[tuple[bytes, str, int]]:
    real = models.png(models.PIXELS)
    gif = models.png(models.PIXELS, "GIF")
    return [
        (b"this is no picture", "image/png", 400),
        (b"", "image/png", 400),
        (real[:40], "image/png", 400),
        (gif, "image/png", 400),
        (png_of(50_000), "image/png", 413),
        (real, "image/webp", 415),
        (real, "application/octet-stream", 415),
        (real, "application/json", 400),
        (b"{}", "image/png", 400),
        (b"\xff\xd8\xff", "image/jpeg", 400),
    ]


def test_bad_images_are_refused(client: FlaskClient, error_of: ErrorOf, models: ModuleType) -> None:
    for body, media_type, status in bad_images(models):
        for verb in ("predict", "explain"):
            response = client.post(f"/v1/models/patch:{verb}", data=body, content_type=media_type)
            assert (response.status_code, media_type, body[:20]) == (status, media_type, body[:20])
            error_of(response)
        if media_type == "image/png":
            encoded = {"instances": [{"b64": base64.b64encode(body).decode()}]}
            assert client.post("/v1/models/patch:predict", json=encoded).status_code == status
    assert (
        client.post("/v1/models/flowers:predict", data=models.png(models.PIXELS), content_type="image/png").status_code
        == 400
    )
    good = client.post("/v1/models/patch:predict", data=models.png(models.PIXELS), content_type="image/png")
    assert good.status_code == 200


def test_one_file_in_a_form_is_an_image(client: FlaskClient, error_of: ErrorOf, models: ModuleType) -> None:
    real = models.png(models.PIXELS)
    alone = client.post("/v1/models/patch:predict", data=real, content_type="image/png").get_json()
    form = {"file": (io.BytesIO(real), "digit.png")}
    assert client.post("/v1/models/patch:predict", data=form).get_json()["predictions"] == alone["predictions"]
    nameless = {"file": (io.BytesIO(real), "digit.bin", "application/octet-stream")}
    assert client.post("/v1/models/patch:predict", data=nameless).status_code == 200
    two = {"a": (io.BytesIO(real), "a.png"), "b": (io.BytesIO(real), "b.png")}
    assert "2 files" in error_of(client.post("/v1/models/patch:predict", data=two))
    with_field = {"a": (io.BytesIO(real), "a.png"), "target": "0"}
    assert "1 fields" in error_of(client.post("/v1/models/patch:predict", data=with_field))
    many = {f"f{i}": (io.BytesIO(b"x"), "x") for i in range(50)}
    assert client.post("/v1/models/patch:predict", data=many).status_code == 413
    broken = client.post("/v1/models/patch:predict", data=b"--x\r\n", content_type="multipart/form-data; boundary=x")
    assert broken.status_code == 400


def test_bodies_beyond_the_limits_are_refused(
    open_client: Callable[[Config], FlaskClient], config: Config, error_of: ErrorOf
) -> None:
    client = open_client(dataclasses.replace(config, max_body_mib=1, max_rows=3, max_explain_rows=2))
    big = b'{"instances":[[' + b" " * 2**20 + b'1,2,"w"]]}'
    assert client.post("/v1/models/flowers:predict", data=big, content_type="application/json").status_code == 413
    chunked = client.post(
        "/v1/models/flowers:predict",
        input_stream=io.BytesIO(big),
        content_type="application/json",
        environ_overrides={"wsgi.input_terminated": True},
    )
    assert chunked.status_code == 413
    error_of(chunked)
    for count, verb, status in [(3, "predict", 200), (4, "predict", 413), (2, "explain", 200), (3, "explain", 413)]:
        response = client.post(f"/v1/models/flowers:{verb}", json={"instances": [ROW] * count})
        assert response.status_code == status
    tensor = infer_body(shape=[4, 3], data=[0.0] * 12)
    assert "rows: got 4" in error_of(client.post("/v2/models/flowers/infer", json=tensor))


def test_compressed_and_cut_bodies_are_refused(client: FlaskClient, error_of: ErrorOf) -> None:
    body = json.dumps(GOOD).encode()
    packed = client.post(
        "/v1/models/flowers:predict", data=body, content_type="application/json", headers={"Content-Encoding": "gzip"}
    )
    assert packed.status_code == 415
    error_of(packed)
    identity = client.post(
        "/v1/models/flowers:predict",
        data=body,
        content_type="application/json",
        headers={"Content-Encoding": "identity"},
    )
    assert identity.status_code == 200
    cut = client.post(
        "/v1/models/flowers:predict",
        input_stream=io.BytesIO(body[:-5]),
        content_type="application/json",
        content_length=len(body),
        environ_overrides={"wsgi.input_terminated": True},
    )
    assert cut.status_code == 400
    error_of(cut)


def test_pictures_by_accept(client: FlaskClient, error_of: ErrorOf, models: ModuleType) -> None:
    for model, kwargs in [
        ("flowers", {"json": GOOD}),
        ("patch", {"data": models.png(models.PIXELS), "content_type": "image/png"}),
    ]:
        for accept, start in [("image/png", b"\x89PNG"), ("image/svg+xml", b"<")]:
            response = client.post(f"/v1/models/{model}:explain", headers={"Accept": accept}, **kwargs)
            assert response.status_code == 200
            assert response.mimetype == accept
            assert response.get_data().startswith(start)
            decision = response.headers["Glasshouse-Decision"]
            assert client.get(f"/v1/decisions/{decision}.0").status_code == 200
    two = client.post("/v1/models/flowers:explain", json={"instances": [ROW] * 2}, headers={"Accept": "image/png"})
    assert two.status_code == 406
    assert "one row" in error_of(two)
    nothing = client.post("/v1/models/flowers:explain", json=GOOD, headers={"Accept": "text/html"})
    assert nothing.status_code == 406
    assert "image/svg+xml" in error_of(nothing)
    unnamed = client.post(
        "/v1/models/broken:explain", json={"instances": [[1, 4]], "target": 0}, headers={"Accept": "image/png"}
    )
    assert unnamed.status_code == 406
    typed = client.post("/v2/models/flowers/explain", json=infer_body(), headers={"Accept": "image/svg+xml"})
    assert typed.mimetype == "image/svg+xml"


def test_an_image_is_explained_with_options_in_the_query(client: FlaskClient, models: ModuleType) -> None:
    image = {"data": models.png(models.PIXELS), "content_type": "image/png"}
    answer = client.post("/v1/models/patch:explain?method=integrated_gradients&target=odd&n_steps=7&seed=3", **image)
    (explained,) = answer.get_json()["explanations"]
    assert explained["target"] == {"index": 1, "name": "odd"}
    assert explained["parameters"]["n_steps"] == 7
    assert explained["seed"] == 3
    assert np.shape(explained["attributions"]["x"]) == (1, 4, 4)
    by_index = client.post("/v1/models/patch:explain?target=1", **image).get_json()
    assert by_index["explanations"][0]["target"]["name"] == "odd"
    contrast = client.post("/v1/models/patch:explain", query_string={"target": '{"class":"odd","versus":0}'}, **image)
    assert contrast.get_json()["explanations"][0]["target"]["name"] == "odd versus even"
    for query in ("n_stps=3", "target=two", "baseline=0", "target=1.5", "seed=x"):
        assert client.post(f"/v1/models/patch:explain?{query}", **image).status_code == 400


def test_a_missing_store_is_not_served(
    tmp_path: Path, config: Config, open_client: Callable[[Config], FlaskClient]
) -> None:
    import model_store

    with pytest.raises(model_store.StoreUnavailable):
        open_client(dataclasses.replace(config, store=tmp_path / "nothing"))
