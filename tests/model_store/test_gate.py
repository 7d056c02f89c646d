"""The gate as a whole: honest models pass, and whatever the child does the parent lives on."""

import dataclasses
import hashlib

import onnx
import pytest
from onnx import helper

from model_store import Limits, RefusedModel, check_model, gate


def refused(model, told, limits=None):
    data = model if isinstance(model, bytes) else model.SerializeToString()
    with pytest.raises(RefusedModel) as caught:
        check_model(data, limits)
    assert told in str(caught.value), str(caught.value)


def test_an_honest_model_passes_with_its_figures(linear):
    report = check_model(linear)
    assert (report.digest, report.size) == (hashlib.sha256(linear).hexdigest(), len(linear))
    assert (report.nodes, report.initializers, report.parameters, report.depth) == (1, 1, 6, 1)
    assert (report.operators, report.opsets) == ({"MatMul": 1}, {"ai.onnx": 18})


def test_the_refusal_of_these_tests_notices_a_model_that_passes(linear):
    with pytest.raises(pytest.fail.Exception):
        refused(linear, "anything")


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"\x00" * 100, b"\x08" * 1000, b"PK\x03\x04", b"\x80\x04cos\nsystem\n."]
)
def test_what_is_no_model_is_refused(data):
    with pytest.raises(RefusedModel, match="the model is refused"):
        check_model(data)


def test_a_file_over_the_limit_is_not_even_looked_at(linear, monkeypatch):
    monkeypatch.setattr(gate, "_ask_child", lambda *_: pytest.fail("a child was asked"))
    refused(linear, "bytes, the limit is 10", Limits(max_bytes=10))


def test_a_child_that_dies_hangs_or_babbles_is_a_refusal(linear, monkeypatch):
    scripts = {
        "import os; os.kill(os.getpid(), 11)": "died of it",
        "import time; time.sleep(60)": "took more than 1 s",
        "import os\nwhile True: os.write(1, b'x' * 65536)": "died of it",
        "print('[]')": "died of it",
        "print('{\"report\": {}}')": "died of it",
        "print('{\"refused\": 5}')": "died of it",
    }
    for script, told in scripts.items():
        monkeypatch.setattr(gate, "_CHILD", script)
        refused(linear, told, Limits(wall_seconds=1.0))


def test_limits_of_memory_and_time_hold_in_the_child(linear, monkeypatch):
    real = gate._CHILD
    hungry = real.replace("main()", "import sys; from model_store import gate_child as g; g.examine = EXAMINE; main()")
    monkeypatch.setattr(gate, "_CHILD", hungry.replace("EXAMINE", "lambda data, limits, files: bytearray(1 << 32)"))
    refused(linear, "more memory")
    busy = "lambda data, limits, files: [None for _ in iter(int, 1)]"
    monkeypatch.setattr(gate, "_CHILD", hungry.replace("EXAMINE", busy.replace("[None", "sum(0").replace("1)]", "1))")))
    refused(linear, "1 s of computing", Limits(cpu_seconds=1))
    monkeypatch.setattr(gate, "_CHILD", hungry.replace("EXAMINE", "lambda data, limits, files: open('/etc/hostname')"))
    refused(linear, "died of it")


def test_the_parent_never_parses_the_file(linear, monkeypatch):
    for name in ("load_model_from_string", "load", "load_from_string"):
        monkeypatch.setattr(onnx, name, lambda *_, **__: pytest.fail("the parent parsed the file"))
    assert check_model(linear).nodes == 1


def test_the_gate_works_in_many_threads_and_leaves_no_process(linear):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(check_model, [linear] * 8))
    assert len({report.digest for report in reports}) == 1


def test_an_error_text_of_a_hostile_name_is_short(onnx_model):
    node = helper.make_node("Neg", ["x"], ["y"], name="n" * 100_000, domain="d" * 100_000)
    with pytest.raises(RefusedModel) as caught:
        check_model(onnx_model([node]).SerializeToString())
    assert len(str(caught.value)) < 500


def test_limits_are_plain_values():
    assert dataclasses.replace(Limits(), max_nodes=5).max_nodes == 5
