"""What the settings of a server mean to its engine, and that answers say what computed them."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import pytest
from flask.testing import FlaskClient

from server import Config
from server.engines import settings_of

GOOD = {"instances": [[1.5, -0.5, "w"], [0.25, 1.0, "w"], [0.5, 2.0, "w"]]}
GPU: dict[str, Any] = {"arena_mib": 512, "shape_buckets": "on", "io_binding": "off", "cuda_graphs": True, "tf32": True}


def test_the_settings_of_a_gpu_reach_the_engine() -> None:
    told = settings_of(Config(**GPU), ("cuda:1",))
    assert {name: getattr(told, name) for name in GPU} == GPU
    assert told.providers == ("cuda:1",)
    plain = settings_of(Config(), ("cpu",))
    assert (plain.shape_buckets, plain.io_binding, plain.cuda_graphs, plain.tf32) == ("auto", "auto", False, False)


def test_without_cuda_the_processor_serves_and_metadata_says_so(
    open_client: Callable[[Config], FlaskClient],
    config: Config,
    answer_of: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    with caplog.at_level(logging.WARNING, "glasshouse.engine"):
        client = open_client(dataclasses.replace(config, devices=("cuda:0",)))
    assert answer_of(client.get("/v2"))["parameters"]["providers"] == ["CPUExecutionProvider"]
    (line,) = [record.getMessage() for record in caplog.records if record.name == "glasshouse.engine"]
    assert "CUDAExecutionProvider is not available" in line
    assert len(answer_of(client.post("/v1/models/flowers:predict", json=GOOD))["predictions"]) == 3


def test_answers_do_not_depend_on_how_arrays_reach_the_device(
    open_client: Callable[[Config], FlaskClient], config: Config, answer_of: Callable[..., Any]
) -> None:
    asked = {**GOOD, "method": "integrated_gradients", "target": 1, "seed": 1}
    found = []
    for setting in ("off", "on"):
        client = open_client(dataclasses.replace(config, audit="off", shape_buckets=setting, io_binding=setting))
        predicted = answer_of(client.post("/v1/models/flowers:predict", json=GOOD))["predictions"]
        explained = answer_of(client.post("/v1/models/flowers:explain", json=asked))["explanations"]
        attributed = [[entry["attribution"] for entry in each["attributions"]] for each in explained]
        found.append(np.concatenate([predicted, attributed], axis=1))
    assert found[0].shape == (3, 6)
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6, atol=1e-6)
