"""Images in, pictures out: what is read, what is refused, what is drawn."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

Answer = Callable[[TestResponse], Any]
ErrorOf = Callable[[TestResponse], str]
ROW = {"petal": 1.5, "sepal": -0.5, "colour": "w"}
GOOD = {"instances": [ROW]}


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
    tensors = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1.5, -0.5, 1.0]}]}
    typed = client.post("/v2/models/flowers/explain", json=tensors, headers={"Accept": "image/svg+xml"})
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
