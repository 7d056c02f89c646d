"""What README and docs show is run: requests are sent, Python blocks executed, commands typed, curl lines parsed."""

import io
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from flask.testing import FlaskClient
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from werkzeug.test import TestResponse

import exporters
import model_store
import server
import training

ROOT = Path(__file__).parents[1]
FENCE = re.compile(r"^```(\w+)(?: (\d+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DRAW = np.random.default_rng(11)


def serialized(
    nodes: list[onnx.NodeProto],
    weights: dict[str, tuple[int, ...]],
    given: tuple[str, list[int | str]],
    answered: tuple[str, list[int | str]],
) -> bytes:
    """A small model with drawn weights."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (given, answered)]
    arrays = {name: (0.1 * DRAW.normal(size=shape)).astype(np.float32) for name, shape in weights.items()}
    constants = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "docs", ends[:1], ends[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def perceptron(given: str, width: int, answered: str, outputs: int, *, last: str) -> bytes:
    nodes = [
        helper.make_node("Gemm", [given, "w1", "b1"], ["hidden"]),
        helper.make_node("Tanh", ["hidden"], ["active"]),
        helper.make_node("Gemm", ["active", "w2", "b2"], ["score"]),
        helper.make_node(last, ["score"], [answered]),
    ]
    weights: dict[str, tuple[int, ...]] = {"w1": (width, 6), "b1": (6,), "w2": (6, outputs), "b2": (outputs,)}
    return serialized(nodes, weights, (given, ["N", width]), (answered, ["N", outputs]))


def reader() -> bytes:
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["seen"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["seen"], ["active"]),
        helper.make_node("GlobalAveragePool", ["active"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w", "b"], ["score"]),
        helper.make_node("Softmax", ["score"], ["probabilities"]),
    ]
    weights: dict[str, tuple[int, ...]] = {"kernel": (4, 1, 3, 3), "w": (4, 10), "b": (10,)}
    return serialized(nodes, weights, ("image", ["N", 1, 8, 8]), ("probabilities", ["N", 10]))


def publish(store: model_store.Store, name: str, model: bytes) -> None:
    """The model in the clothes of an example model: its names, its units, its defaults."""
    recipe = training.RECIPES[name]
    (spec,) = recipe.inputs
    regression = recipe.task == "regression"
    described = exporters.output_spec(
        model,
        "value" if regression else "probabilities",
        "value" if regression else "probabilities",
        class_names=list(recipe.class_names),
        unit=recipe.unit,
        label=recipe.output_label,
    )
    sizes = [size for size in spec.item_shape if isinstance(size, int)]
    exported = exporters.describe(
        model,
        name=name,
        inputs=recipe.inputs,
        outputs=[described],
        features=recipe.features,
        background={spec.name: DRAW.uniform(0, 100, size=(8, *sizes)).astype(np.float32)},
        method=recipe.method,
        baseline=recipe.baseline,
        groups=recipe.groups,
    )
    store.publish(exported.manifest, exported.files())
    by = {"name": "torch.autograd in float64", "version": "2"}
    judged = {"judge": {"passed": True}, "judged_by": by, "passed": True}
    methods = dict.fromkeys(exported.manifest.explanation.methods, judged)
    store.set_certificate(name, 1, json.dumps({"schema_version": 2, "passed": True, "methods": methods}).encode())


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlaskClient]:
    folder = tmp_path_factory.mktemp("docs")
    store = model_store.Store(folder / "store", create=True)
    publish(store, "diabetes", perceptron("features", 10, "value", 1, last="Identity"))
    publish(store, "tumour", perceptron("features", 30, "probabilities", 2, last="Softmax"))
    publish(store, "digits", reader())
    config = server.Config(store=store.root, database=folder / "decisions.sqlite", threads=1)
    service = server.open_service(config)
    yield server.create_app(config, service).test_client()
    service.close()


def digit() -> bytes:
    out = io.BytesIO()
    Image.fromarray(DRAW.integers(0, 256, size=(8, 8), dtype=np.uint8)).save(out, "PNG")
    return out.getvalue()


def send(client: FlaskClient, text: str) -> TestResponse:
    """A request as a page shows it: method and path, headers, an empty line, the body."""
    head, _, body = text.partition("\n\n")
    first, *lines = head.splitlines()
    method, path = first.split()
    headers = dict(line.split(": ", 1) for line in lines)
    content = digit() if body.strip() == "<digit.png>" else body.encode()
    return client.open(path, method=method, data=content, headers=headers)


def differences(shown: Any, came: Any, where: str = "") -> list[str]:
    """How an answer differs in form from the one a page shows: members, kinds, and whether a list holds anything."""
    if isinstance(shown, dict) and isinstance(came, dict):
        found = [f"{where}.{name}: only on the page" for name in shown.keys() - came.keys()]
        found += [f"{where}.{name}: only in the answer" for name in came.keys() - shown.keys()]
        both = shown.keys() & came.keys()
        return sorted(found) + [
            each for name in sorted(both) for each in differences(shown[name], came[name], f"{where}.{name}")
        ]
    if isinstance(shown, list) and isinstance(came, list):
        if bool(shown) != bool(came):
            return [f"{where}: {len(shown)} on the page, {len(came)} in the answer"]
        return differences(shown[0], came[0], f"{where}[0]") if shown else []
    kinds = [
        type(value) if not isinstance(value, int | float) or isinstance(value, bool) else float
        for value in (shown, came)
    ]
    return [] if kinds[0] is kinds[1] else [f"{where}: {shown!r} on the page, {came!r} in the answer"]


def test_differences_are_seen() -> None:
    assert differences({"a": [{"b": 1}]}, {"a": [{"b": 2.5}, {"c": 1}]}) == []
    assert differences({"a": [{"b": 1}], "x": 1}, {"a": [{"b": None}], "y": 1}) == [
        ".x: only on the page",
        ".y: only in the answer",
        ".a[0].b: 1 on the page, None in the answer",
    ]
    assert differences([1], []) == [": 1 on the page, 0 in the answer"]
    assert differences({"a": True}, {"a": 1}) != []


def exchanges() -> list[tuple[str, str | None, int]]:
    """Requests of the page with the answers shown after them, and the status that is shown (200 if none is)."""
    blocks = FENCE.findall((ROOT / "docs" / "http-api.md").read_text("utf-8"))
    found = []
    for (kind, _, text), after in zip_longest(blocks, blocks[1:]):
        if kind == "http":
            answered = after is not None and after[0] == "json"
            found.append((text, after[2] if answered else None, int(after[1] or 200) if answered else 200))
    return found


@pytest.mark.parametrize(("request_text", "shown", "status"), exchanges(), ids=lambda value: str(value)[:40])
def test_a_request_of_the_page_is_answered_as_shown(
    request_text: str, shown: str | None, status: int, client: FlaskClient
) -> None:
    answer = send(client, request_text)
    assert answer.status_code == status, answer.text
    if shown is None:
        assert f"Accept: {answer.mimetype}" in request_text
        assert answer.headers["Glasshouse-Decision"]
    elif status == 200:
        assert differences(json.loads(shown), answer.json) == []
    else:
        assert answer.json == json.loads(shown)


def test_the_page_shows_good_answers_pictures_and_errors() -> None:
    statuses = [status for _, _, status in exchanges()]
    assert statuses.count(200) >= 8
    assert {400, 404, 406} <= set(statuses)
    assert any(shown is None for _, shown, _ in exchanges())


def test_a_decision_is_read_back_with_the_members_the_page_names(client: FlaskClient) -> None:
    answer = client.post("/v1/models/diabetes:explain", json={"instances": [[1.0] * 10]}).json
    assert answer is not None
    record = client.get(f"/v1/decisions/{answer['decisions'][0]}").json
    assert record is not None
    page = (ROOT / "docs" / "http-api.md").read_text("utf-8")
    section = page.split("\n## Decisions")[1].split("\n## ")[0]
    assert [name for name in record if f"`{name}`" not in section] == []


def curls(text: str) -> list[list[str]]:
    """The arguments of the curl lines in a text's indented blocks; a quote or a backslash goes on over the line."""
    found: list[list[str]] = []
    waiting = ""
    for line in text.splitlines():
        if not waiting and not line.startswith("    curl "):
            continue
        waiting += line + "\n"
        try:
            words = shlex.split(waiting.replace("\\\n", " "))
        except ValueError:
            continue
        if not line.endswith("\\"):
            found.append(words)
            waiting = ""
    assert not waiting, f"a curl line does not end: {waiting}"
    return found


def play(client: FlaskClient, words: list[str]) -> TestResponse:
    """A curl line as the request it makes; an option this does not know fails."""
    rest = iter(words[1:])
    headers: dict[str, str] = {}
    url, data = "", b""
    for word in rest:
        if word == "-H":
            name, _, value = next(rest).partition(": ")
            headers[name] = value
        elif word in ("-d", "--data-binary"):
            given = next(rest)
            data = digit() if given == "@digit.png" else given.encode()
        elif word == "-o":
            next(rest)
        elif word.startswith("http://127.0.0.1:8000/"):
            url = word.removeprefix("http://127.0.0.1:8000")
        else:
            assert word == "-sS", f"unknown to this test: {word}"
    return client.post(url, data=data, headers=headers)


def test_the_curl_lines_of_the_readme_work(client: FlaskClient) -> None:
    lines = curls((ROOT / "README.md").read_text("utf-8"))
    assert len(lines) >= 3
    for words in lines:
        answer = play(client, words)
        assert answer.status_code == 200, (words, answer.text)
        assert answer.mimetype == ("image/png" if "Accept: image/png" in words else "application/json")


def test_a_curl_line_that_does_not_work_is_seen(client: FlaskClient) -> None:
    data = "-d '{\"instances\":\n[[1]]}'"
    (words,) = curls(f"    curl -sS http://127.0.0.1:8000/v1/models/none:predict \\\n      {data}\nno curl\n")
    assert play(client, words).status_code == 404
    with pytest.raises(AssertionError, match="unknown to this test: --fast"):
        play(client, ["curl", "--fast"])
    with pytest.raises(AssertionError, match="does not end"):
        curls("    curl -d '{")


PATTERN = re.compile(r"^    (glasshouse .+?)(?:\s+#.*)?$|`(glasshouse [^`]+ -o [^`]+)`", re.MULTILINE)


def typed(text: str) -> list[list[str]]:
    """The commands on a model of one's own that a page shows, indented or, where they write a file, in a sentence."""
    lines = [one or other for one, other in PATTERN.findall(text)]
    return [shlex.split(line)[1:] for line in lines]


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder with a model of one's own, rows for it, and nothing else."""
    rows = DRAW.normal(size=(12, 4)).astype(np.float32)
    (tmp_path / "fraud.onnx").write_bytes(perceptron("x", 4, "risk", 1, last="Sigmoid"))
    np.save(tmp_path / "rows.npy", rows)
    np.savetxt(tmp_path / "rows.csv", rows, delimiter=",", header="a,b,c,d", comments="")
    return tmp_path


def run(desk: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GLASSHOUSE_")}
    environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=desk,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, f"{arguments}\n{done.stdout}{done.stderr}"
    return done


@pytest.mark.parametrize("page", ["README.md", "docs/compiler.md"])
def test_commands_and_python_of_a_page_run(page: str, desk: Path) -> None:
    """In the order of the page, in one folder: what a block leaves is there for the next."""
    text = (ROOT / page).read_text("utf-8")
    commands = typed(text)
    assert commands
    for words in commands:
        run(desk, "-m", "cli", *words)
    assert (desk / "grad.onnx").exists()
    blocks = [block for kind, _, block in FENCE.findall(text) if kind == "python"]
    assert blocks
    program = "\n".join(["import warnings; warnings.simplefilter('error')", *blocks])
    assert run(desk, "-c", program).stdout.strip()


def test_the_bridges_of_the_page_run(desk: Path) -> None:
    """Its blocks as one program, beside an answer for it to draw; shap warns of deprecations when it is imported."""
    text = (ROOT / "docs" / "bridges.md").read_text("utf-8")
    (words,) = typed(text)
    run(desk, "-m", "cli", *words)
    asked = ["--row", "[0.1, 0.2, 0.3, 0.4]", "--method", "exact_shap", "--json"]
    answer = run(desk, "-m", "cli", "explain", "fraud", *asked).stdout
    (desk / "answer.json").write_text(answer)
    quiet = "import warnings; warnings.simplefilter('error')" + "".join(
        f"; warnings.simplefilter('ignore', {kind})"
        for kind in ("DeprecationWarning", "PendingDeprecationWarning", "FutureWarning", "UserWarning")
    )
    blocks = [block for kind, _, block in FENCE.findall(text) if kind == "python"]
    assert len(blocks) == 4
    printed = run(desk, "-c", "\n".join([quiet, *blocks])).stdout.splitlines()
    explained = [each["explained_value"] for each in json.loads(answer)["explanations"]]
    np.testing.assert_allclose(np.fromstring(printed[-1].strip("[]"), sep=" "), explained, rtol=1e-5)


def test_a_command_or_block_that_fails_is_seen(desk: Path) -> None:
    assert typed("    glasshouse a b   # what\nsay `glasshouse c -o d` or `glasshouse e`\n") == [
        ["a", "b"],
        ["c", "-o", "d"],
    ]
    with pytest.raises(AssertionError, match=r"nothing\.onnx"):
        run(desk, "-m", "cli", "coverage", "nothing.onnx")
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        run(desk, "-c", "1 / 0")


def test_the_compiled_program_of_the_page_is_right(desk: Path) -> None:
    """Its ten lines give integrated gradients: they sum to f(x) - f(0), which numpy computes from the weights."""
    text = (ROOT / "docs" / "compiler.md").read_text("utf-8")
    (block,) = (block for _, _, block in FENCE.findall(text) if "grad.onnx" in block)
    assert len(block.strip().splitlines()) <= 12
    run(desk, "-m", "cli", "compile", "fraud.onnx", "--program", "path_gradient", "-o", "grad.onnx")
    run(desk, "-c", block + "\nnp.savez('out.npz', sums=attribution[:, 0].sum(axis=1), x=x)")
    weights = {
        w.name: numpy_helper.to_array(w).astype(np.float64) for w in onnx.load(desk / "fraud.onnx").graph.initializer
    }

    def f(x: np.ndarray) -> np.ndarray:
        return np.asarray((np.tanh(x @ weights["w1"] + weights["b1"]) @ weights["w2"] + weights["b2"])[:, 0])

    with np.load(desk / "out.npz") as out:
        expected = f(out["x"].astype(np.float64)) - f(np.zeros_like(out["x"], np.float64))
        np.testing.assert_allclose(out["sums"], expected, rtol=1e-3, atol=1e-5)
