"""One prediction and one explanation all the way: trained, exported, stored, served, asked over HTTP, read back."""

from __future__ import annotations

import base64
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from explain import attribution_error

BARS = {"tumour": ("test_accuracy", 0.95), "digits": ("test_accuracy", 0.97), "diabetes": ("test_r2", 0.40)}
PNG = "Content-Type: image/png"


@pytest.fixture(scope="module")
def curl() -> Callable[..., bytes]:
    found = shutil.which("curl")
    if found is None:
        pytest.skip("curl is not installed")

    def call(*arguments: str) -> bytes:
        return subprocess.run([found, "-sS", "--fail-with-body", *arguments], capture_output=True, check=True).stdout

    return call


@pytest.fixture(scope="module")
def pictures(house: Any, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, str]]:
    """PNG files of real test digits, one of each class, with their labels."""
    folder = tmp_path_factory.mktemp("digits")
    found = []
    for number, entry in enumerate(house.examples("digits")):
        path = folder / f"digit-{number}.png"
        path.write_bytes(base64.b64decode(entry["instance"]["b64"]))
        found.append((path, entry["label"]))
    assert sorted(label for _, label in found) == list("0123456789")
    return found


@pytest.mark.parametrize("name", list(BARS))
def test_the_examples_are_good_models(name: str, house: Any) -> None:
    metric, bar = BARS[name]
    assert house.version(name).manifest.metrics[metric] >= bar


def test_curl_with_a_picture_of_a_digit_gets_its_class(
    curl: Any, server: Any, pictures: Any, network: Any, arrays_of: Any, house: Any
) -> None:
    url = f"{server.address}/v1/models/digits:predict"
    answers = [json.loads(curl(url, "-H", PNG, "--data-binary", f"@{path}")) for path, _ in pictures]
    came = [answer["labels"][0] for answer in answers]
    rows = arrays_of("digits", [entry["instance"] for entry in house.examples("digits")])
    import torch

    expected = network("digits")(torch.from_numpy(rows).double()).argmax(1).tolist()
    assert came == [str(digit) for digit in expected]
    assert sum(label == each for (_, label), each in zip(pictures, came, strict=True)) >= 9


def test_curl_that_accepts_png_gets_a_picture(curl: Any, server: Any, pictures: Any) -> None:
    url = f"{server.address}/v1/models/digits:explain"
    path = pictures[7][0]
    content = curl(url, "-H", PNG, "-H", "Accept: image/png", "--data-binary", f"@{path}")
    picture = Image.open(io.BytesIO(content))
    picture.load()
    assert picture.format == "PNG"
    assert min(picture.size) >= 300
    assert len(set(np.asarray(picture.convert("RGB")).reshape(-1, 3).astype(int) @ [1, 256, 65536])) > 100
    drawing = curl(url, "-H", PNG, "-H", "Accept: image/svg+xml", "--data-binary", f"@{path}")
    assert drawing.lstrip().startswith(b"<svg")
    other = curl(url, "-H", PNG, "-H", "Accept: image/png", "--data-binary", f"@{pictures[3][0]}")
    assert other != content


def test_the_three_lines_of_the_banner_work_when_pasted(curl: Any, server: Any, tmp_path: Path) -> None:
    lines = [line for line in server.log().splitlines() if line.startswith("curl ")]
    assert len(lines) == 3
    answers = [
        subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, check=True).stdout for line in lines
    ]
    assert "predictions" in json.loads(answers[0])
    assert "explanations" in json.loads(answers[1])
    (picture,) = tmp_path.glob("*.png")
    with Image.open(picture) as opened:
        assert opened.size[0] > 300


@pytest.mark.parametrize("name", ["tumour", "diabetes"])
def test_shap_values_and_base_value_sum_to_the_explained_value(name: str, server: Any, house: Any) -> None:
    instances = [entry["instance"] for entry in house.examples(name)]
    answer = server.ask(f"/v1/models/{name}:explain", {"instances": instances, "method": "exact_shap"})
    assert len(answer["explanations"]) == len(instances) == 6
    for explanation in answer["explanations"]:
        values = [entry["attribution"] for entry in explanation["attributions"]]
        gap = explanation["explained_value"] - explanation["base_value"] - sum(values)
        scale = max(abs(explanation["explained_value"] - explanation["base_value"]), sum(map(abs, values)))
        assert abs(gap) / scale <= 1e-5
        assert explanation["quality"]["completeness_gap_relative"] <= 1e-5


def test_the_record_holds_what_was_answered(server: Any, house: Any, arrays_of: Any) -> None:
    instances = [entry["instance"] for entry in house.examples("tumour")[:2]]
    answer = server.ask("/v1/models/tumour:explain", {"instances": instances})
    assert len(set(answer["decisions"])) == 2
    rows = arrays_of("tumour", instances)
    for row, decision_id in enumerate(answer["decisions"]):
        record = server.get(f"/v1/decisions/{decision_id}")
        entry, explanation = record["entry"], answer["explanations"][row]
        np.testing.assert_array_equal(np.ravel(record["inputs"]["features"]["data"]), rows[row])
        np.testing.assert_array_equal(np.ravel(record["outputs"]["probabilities"]["data"]), answer["predictions"][row])
        values = np.ravel(next(iter(record["attributions"].values()))["data"])
        np.testing.assert_allclose(values, [each["attribution"] for each in explanation["attributions"]], rtol=1e-6)
        assert entry["model"]["model_digest"] == answer["model_digest"]
        assert entry["model"]["digest"] == answer["manifest_digest"]
        for member in ("method", "base_value", "explained_value", "target", "quality", "seed"):
            assert entry["explanation"][member] == explanation[member], member
        for member in ("program_digest", "background_digest"):
            assert entry["explanation"][member] == answer[member]


def test_tritonclient_with_its_defaults_reads_metadata_and_infers(
    server: Any, house: Any, network: Any, arrays_of: Any
) -> None:
    http = pytest.importorskip("tritonclient.http")
    import torch

    client = http.InferenceServerClient(server.address.removeprefix("http://"))
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("digits")
    metadata = client.get_model_metadata("digits")
    assert (metadata["inputs"][0]["name"], metadata["inputs"][0]["shape"]) == ("image", [-1, 1, 8, 8])
    assert client.get_model_config("digits")["max_batch_size"] > 0
    rows = arrays_of("digits", [entry["instance"] for entry in house.examples("digits")])
    sent = http.InferInput("image", list(rows.shape), "FP32")
    sent.set_data_from_numpy(rows)
    answer = client.infer("digits", [sent])
    expected = network("digits")(torch.from_numpy(rows).double()).softmax(1).detach().numpy()
    np.testing.assert_allclose(answer.as_numpy("probabilities"), expected, atol=1e-5)
    client.close()


@pytest.mark.parametrize(("name", "method"), [("tumour", "kernel_shap"), ("digits", "integrated_gradients")])
def test_an_explanation_is_the_same_alone_and_in_company(name: str, method: str, start: Any, house: Any) -> None:
    """Sixteen at once, each for another row: equal to the answer it gets alone, and runs were shared."""
    server = start(house.store, "--max-wait-ms", "20", "--cache-mib", "0")
    instances = [house.examples(name)[row % 6]["instance"] for row in range(16)]
    bodies = [{"instances": [instance], "method": method, "target": row % 2} for row, instance in enumerate(instances)]
    path = f"/v1/models/{name}:explain"
    alone = [server.ask(path, body)["explanations"][0] for body in bodies]
    with ThreadPoolExecutor(16) as threads:
        together = [each["explanations"][0] for each in threads.map(lambda body: server.ask(path, body), bodies)]
    for one, other in zip(alone, together, strict=True):
        assert attribution_error(numbers(other), numbers(one)) <= 1e-6
        assert one["runs"]["shared_with_max"] == 0
    assert max(each["runs"]["shared_with_max"] for each in together) > 0
    assert attribution_error(numbers(together[0]), numbers(alone[1])) > 1e-3


def numbers(explanation: dict[str, Any]) -> np.ndarray:
    given = explanation["attributions"]
    return np.array(list(given.values())) if isinstance(given, dict) else np.array([e["attribution"] for e in given])


def test_the_command_predicts_and_explains_at_the_server(
    server: Any, house: Any, pictures: Any, run_command: Any, tmp_path: Path
) -> None:
    path, label = pictures[7]
    predicted = json.loads(run_command("predict", "digits", "--image", path, "--url", server.address, "--json").stdout)
    assert predicted["labels"] == [label]
    row = json.dumps(house.examples("tumour")[0]["instance"])
    shown = run_command("explain", "tumour", "--row", row, "--url", server.address).stdout
    assert "exact_shap" in shown
    assert "concave points" in shown
    decision = shown.split("decision ")[1].split()[0]
    assert server.get(f"/v1/decisions/{decision}.0")["entry"]["model"]["name"] == "tumour"
    out = tmp_path / "why.svg"
    run_command("explain", "tumour", "--row", row, "--url", server.address, "-o", out)
    assert out.read_bytes().lstrip().startswith(b"<svg")
    wrong = run_command("predict", "nothing", "--row", row, "--url", server.address, check=False)
    assert wrong.returncode == 3
    assert wrong.stderr.count("\n") == 1


def test_examples_that_are_there_are_not_trained_again(house: Any, clean: dict[str, str]) -> None:
    """Nothing that trains is even imported: that is what makes a second `make serve` start at once."""
    before = sorted(path.relative_to(house.store) for path in house.store.rglob("*"))
    asked = (
        "import runpy, sys; sys.argv[1:] = ['examples', '--store', sys.argv[1]]\n"
        "try: runpy.run_module('cli', run_name='__main__')\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    run = subprocess.run(
        [sys.executable, "-c", asked, str(house.store)],
        cwd=Path(__file__).parents[2],
        env=clean,
        capture_output=True,
        text=True,
        check=True,
    )
    modules = set(json.loads(run.stdout.splitlines()[-1].replace("'", '"')))
    assert {"cli", "training", "model_store"} <= modules
    assert modules.isdisjoint({"torch", "lightning", "sklearn", "onnxruntime"})
    assert sorted(path.relative_to(house.store) for path in house.store.rglob("*")) == before
