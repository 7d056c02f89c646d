"""`predict` and `explain`: alike in this process and at a running server."""

from __future__ import annotations

import io
import json
import re
import signal
import socket
import threading

import numpy as np
import pytest
from PIL import Image

ROW = [2.0, 3.0, 4.0]
WEIGHT = [1.0, -2.0, 0.5]
PREDICTION = 2.0 - 6.0 + 2.0
SHAP = [weight * (value - 0.5) for weight, value in zip(WEIGHT, ROW, strict=True)]


@pytest.fixture
def picture(home):
    path = home / "picture.png"
    Image.fromarray(np.array([[200, 100], [50, 250]], dtype=np.uint8), "L").save(path)
    return path


def test_a_row_is_predicted(glasshouse, store):
    done = glasshouse("predict", "linear", "--row", json.dumps(ROW), "--json")
    assert done.exit_code == 0, done.output
    answer = json.loads(done.output)
    assert answer["predictions"] == [[PREDICTION]]
    assert answer["model_digest"] == store.resolve("linear").model_digest
    assert len(answer["decisions"]) == 1


def test_rows_come_as_lists_objects_files_and_standard_input(glasshouse, store, home):
    named = json.dumps(dict(zip(("age", "height", "[bold]weight[/bold]"), ROW, strict=True)))
    (home / "row.json").write_text(json.dumps(ROW))
    for row, stdin in ((named, None), ("@row.json", None), ("-", json.dumps(ROW))):
        done = glasshouse("predict", "linear", "--row", row, "--row", "[0, 0, 0]", "--json", stdin=stdin)
        assert done.exit_code == 0, done.output
        assert json.loads(done.output)["predictions"] == [[PREDICTION], [0.0]]


def test_people_see_the_prediction_and_the_decision(glasshouse, store):
    done = glasshouse("predict", "linear", "--row", json.dumps(ROW))
    assert done.output.splitlines()[0].startswith("linear version 1 (model ")
    assert "[-2]" in done.output
    assert re.search(r"^decision [0-9A-Z]{26}$", done.output, re.MULTILINE)


def test_a_picture_is_predicted(glasshouse, store, picture):
    done = glasshouse("predict", "brightness", "--image", picture, "--json")
    assert done.exit_code == 0, done.output
    answer = json.loads(done.output)
    expected = 1 / (1 + np.exp(-6.0))
    assert answer["predictions"][0][0] == pytest.approx(expected, abs=1e-6)
    assert answer["labels"] == ["bright"]


def test_a_row_is_explained(glasshouse, store):
    done = glasshouse("explain", "linear", "--row", json.dumps(ROW), "--json")
    assert done.exit_code == 0, done.output
    explanation = json.loads(done.output)["explanations"][0]
    assert explanation["method"] == "exact_shap"
    assert [entry["attribution"] for entry in explanation["attributions"]] == pytest.approx(SHAP, abs=1e-5)
    assert explanation["base_value"] + sum(SHAP) == pytest.approx(PREDICTION, abs=1e-5)


def test_people_see_what_contributed_most_first(glasshouse, store):
    done = glasshouse("explain", "linear", "--row", json.dumps(ROW), "--top", "2")
    assert done.exit_code == 0, done.output
    assert "row 0, exact_shap: why" in done.output
    lines = [line.split() for line in done.output.splitlines()]
    order = [line[0] for line in lines if line and line[0] in ("age", "height", "[bold]weight[/bold]", "1")]
    assert order == ["height", "[bold]weight[/bold]", "1"]
    assert "quality: " in done.output


def test_method_target_and_parameters_are_passed_on(glasshouse, store, picture):
    common = ["--method", "integrated_gradients", "--parameter", "n_steps=7", "--json"]
    done = glasshouse("explain", "linear", "--row", json.dumps(ROW), *common)
    assert done.exit_code == 0, done.output
    explanation = json.loads(done.output)["explanations"][0]
    assert (explanation["method"], explanation["parameters"]["n_steps"]) == ("integrated_gradients", 7)
    done = glasshouse("explain", "brightness", "--image", picture, "--target", "dark", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["explanations"][0]["target"]["name"] == "dark"


def test_groups_and_removal_are_passed_on(glasshouse, store, picture):
    asked = [
        "--method",
        "exact_shap",
        "--groups",
        '{"blocks": [[0, 1], [2]]}',
        "--removal",
        '{"constant": 1}',
        "--json",
    ]
    done = glasshouse("explain", "linear", "--row", json.dumps(ROW), *asked)
    assert done.exit_code == 0, done.output
    values = [entry["attribution"] for entry in json.loads(done.output)["explanations"][0]["attributions"]]
    each = [weight * (value - 1) for weight, value in zip(WEIGHT, ROW, strict=True)]
    assert values == pytest.approx([each[0] + each[1], each[2]])
    done = glasshouse("explain", "brightness", "--image", picture, "--method", "exact_shap", *asked[2:])
    assert (done.exit_code, "groups: blocks" in done.output) == (2, True), done.output


def test_a_background_is_passed_on(glasshouse, store):
    common = ["explain", "linear", "--row", json.dumps(ROW), "--method", "exact_shap", "--json", "--background"]
    done = glasshouse(*common, "[[1, 1, 1]]")
    assert done.exit_code == 0, done.output
    values = [entry["attribution"] for entry in json.loads(done.output)["explanations"][0]["attributions"]]
    assert values == pytest.approx([weight * (value - 1) for weight, value in zip(WEIGHT, ROW, strict=True)])
    done = glasshouse(*common, '{"name": "default", "size": 1}')
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["background"]["rows"] == 1
    done = glasshouse(*common, "older")
    assert (done.exit_code, "the name of one of its sets (default)" in done.output) == (2, True), done.output


@pytest.mark.parametrize(("name", "start"), [("why.png", b"\x89PNG\r\n"), ("why.svg", b"<svg")])
def test_pictures_are_written(glasshouse, store, picture, home, name, start):
    for model, asked in (("linear", ["--row", json.dumps(ROW)]), ("brightness", ["--image", str(picture)])):
        done = glasshouse("explain", model, *asked, "-o", name)
        assert done.exit_code == 0, done.output
        assert start in (home / name).read_bytes()[:200]
        assert done.output.startswith(f"picture written to {name}, decision ")
    if name.endswith(".png"):
        assert Image.open(io.BytesIO((home / name).read_bytes())).width > 100


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["predict", "linear"], 2, "give --row (once or more) or --image"),
        (["predict", "linear", "--row", "[1"], 2, "Error: --row is no JSON"),
        (["predict", "linear", "--row", "@gone.json"], 2, "Error: gone.json cannot be read"),
        (["predict", "linear", "--row", "[1, 2]"], 2, "Error: "),
        (["predict", "linear", "--row", '[1, 2, "x"]'], 2, "Error: "),
        (["predict", "nobody", "--row", "[1]"], 3, "Error: model 'nobody' is not in the store"),
        (["predict", "linear", "--version", "9", "--row", "[1]"], 3, "Error: model 'linear' has no version 9"),
        (["predict", "brightness", "--image", "row.txt"], 2, "neither PNG nor JPEG"),
        (["explain", "linear", "--row", "[1, 2, 3]", "-o", "why.gif"], 2, "expected a name that ends in .png or .svg"),
        (["explain", "linear", "--row", "[1, 2, 3]", "--method", "magic"], 2, "Error: method"),
        (["explain", "linear", "--row", "[1, 2, 3]", "--method", "grad_cam"], 4, "the model has no layer of maps"),
        (["explain", "linear", "--row", "[1, 2, 3]", "--parameter", "steps"], 2, "expected NAME=VALUE"),
        (["predict", "linear", "--row", "[1]", "--url", "ftp://x"], 2, "Error: --url: got 'ftp://x'"),
        (["predict", "linear", "--row", "[1]", "--url", "http://x", "--store", "s"], 2, "has its own store"),
    ],
)
def test_bad_input_is_one_clear_line(glasshouse, store, home, arguments, code, text):
    (home / "row.txt").write_text("no picture")
    done = glasshouse(*arguments)
    assert done.exit_code == code, done.output
    assert text in done.output
    assert "Traceback" not in done.output


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_nobody_answers(glasshouse, home):
    done = glasshouse("predict", "linear", "--row", "[1]", "--url", f"http://127.0.0.1:{free_port()}")
    assert done.exit_code == 5
    assert "does not answer" in done.output


def test_a_server_is_started_asked_and_stopped(glasshouse, store, started, picture):
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    running = started("serve", "--port", str(port), "--threads", "1")
    ready = threading.Event()
    said = []

    def listen():
        for text in running.stdout:
            said.append(text)
            if "Console:" in text:
                ready.set()

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    assert ready.wait(60), said
    local = json.loads(glasshouse("explain", "linear", "--row", json.dumps(ROW), "--json").output)
    done = glasshouse("explain", "linear", "--row", json.dumps(ROW), "--json", "--url", url)
    assert done.exit_code == 0, done.output
    remote = json.loads(done.output)
    assert remote["explanations"][0]["attributions"] == local["explanations"][0]["attributions"]
    done = glasshouse("explain", "brightness", "--image", picture, "-o", "why.png", "--url", url)
    assert done.exit_code == 0, done.output
    assert glasshouse("predict", "nobody", "--row", "[1]", "--url", url).exit_code == 3
    running.send_signal(signal.SIGTERM)
    assert running.wait(60) == 0
    listener.join(30)


def test_checks_are_asked_for_and_their_figures_shown(glasshouse, store, picture):
    checks = ["--check", "deletion_insertion", "--check", "infidelity"]
    done = glasshouse("explain", "linear", "--row", json.dumps(ROW), *checks)
    assert done.exit_code == 0, done.output
    assert "deletion_auc" in done.output
    assert "infidelity" in done.output
    done = glasshouse("explain", "brightness", "--image", picture, "--check", "max_sensitivity", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["explanations"][0]["quality"]["max_sensitivity"] is not None
