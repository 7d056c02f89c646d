"""The commands around the compiler, and the table of settings."""

from __future__ import annotations

import json

import numpy as np
import onnxruntime
import pytest

import explain
import server


def test_coverage_fits_one_screen(glasshouse, onnx_file):
    done = glasshouse("coverage", onnx_file)
    assert done.exit_code == 0, done.output
    assert done.output.startswith("linear.onnx: differentiable, 1 nodes of 1 covered operators\n")
    assert "integrated_gradients" in done.output
    assert len(done.output.splitlines()) < 25


def test_coverage_as_json(glasshouse, onnx_file):
    found = json.loads(glasshouse("coverage", onnx_file, "--json").output)
    assert found == json.loads(json.dumps(explain.coverage(onnx_file).to_dict()))


def test_a_compiled_program_runs_anywhere(glasshouse, onnx_file, home):
    done = glasshouse("compile", onnx_file, "--program", "path_gradient", "-o", "grad.onnx")
    assert done.exit_code == 0, done.output
    program = explain.compile(onnx_file, "path_gradient")
    assert program.digest in done.output
    session = onnxruntime.InferenceSession(home / "grad.onnx")
    x = np.array([[2.0, 3.0, 4.0]], dtype=np.float32)
    feeds = {
        "x": x,
        "x.baseline": np.zeros((1, 1, 3), np.float32),
        "alpha": np.array([[0.5]], np.float32),
        "weight": np.ones((1, 1, 1), np.float32),
        "target": np.zeros((1, 1, 1), np.int64),
        "target.weight": np.ones((1, 1), np.float32),
    }
    attribution = session.run(["x.attribution"], feeds)[0]
    np.testing.assert_allclose(attribution.reshape(-1), [2.0, -6.0, 2.0], atol=1e-6)


def test_a_stored_model_is_compiled_by_name(glasshouse, store, home):
    for model in ("linear", "linear/1"):
        done = glasshouse("compile", model, "--program", "vjp", "--option", "space=output", "-o", f"{model[-1]}.onnx")
        assert done.exit_code == 0, done.output
    assert (home / "r.onnx").read_bytes() == (home / "1.onnx").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["coverage", "gone.onnx"], 2, "gone.onnx cannot be read"),
        (["coverage", "empty.onnx"], 2, "got an empty file"),
        (["coverage", "junk.onnx"], 4, "Error: "),
        (["compile", "linear.onnx", "--program", "magic", "-o", "x.onnx"], 2, "came 'magic'"),
        (["compile", "linear.onnx", "--program", "vjp", "--option", "a=1", "-o", "x.onnx"], 2, "option 'a'"),
        (["compile", "linear.onnx", "--program", "vjp", "--option", "a", "-o", "x.onnx"], 2, "expected NAME=VALUE"),
        (["compile", "linear.onnx", "--program", "vjp", "-o", "no/where.onnx"], 2, "cannot be written"),
        (["compile", "nobody", "--program", "vjp", "-o", "x.onnx"], 3, "model 'nobody' is not in the store"),
    ],
)
def test_what_cannot_be_is_refused(glasshouse, store, onnx_file, home, arguments, code, text):
    (home / "empty.onnx").write_bytes(b"")
    (home / "junk.onnx").write_bytes(b"no model at all")
    done = glasshouse(*arguments)
    assert done.exit_code == code, done.output
    assert text in done.output
    assert "Traceback" not in done.output


def test_config_shows_value_and_origin_of_every_setting(glasshouse, home, monkeypatch):
    (home / "settings.toml").write_text('port = 9001\nhost = "::1"\n')
    monkeypatch.setenv("GLASSHOUSE_PORT", "9002")
    shown = json.loads(glasshouse("config", "--config", "settings.toml", "--json").output)
    assert list(shown) == [setting.name for setting in server.SETTINGS]
    assert shown["port"] == {"value": "9002", "origin": "environment GLASSHOUSE_PORT"}
    assert shown["host"] == {"value": "::1", "origin": "file settings.toml"}
    assert shown["workers"]["origin"] == "default"
    assert "environment GLASSHOUSE_PORT" in glasshouse("config", "--config", "settings.toml").output


def test_a_setting_that_is_not_understood_is_named(glasshouse, home, monkeypatch):
    monkeypatch.setenv("GLASSHOUSE_PROT", "1")
    done = glasshouse("config")
    assert done.exit_code == 2
    assert "GLASSHOUSE_PROT" in done.output


def test_serve_has_a_flag_for_every_setting_and_refuses_bad_values(glasshouse, home):
    shown = glasshouse("serve", "--help").output
    for setting in server.SETTINGS:
        assert setting.flag in shown
    done = glasshouse("serve", "--port", "99999999")
    assert done.exit_code == 2
    assert "setting port from flag --port" in done.output
