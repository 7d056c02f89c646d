"""Whatever explained a row, shap draws it: values by column, base values, data and names are those of the answer."""

import msgspec
import numpy as np
import pytest
from onnx import TensorProto

import explain
import exporters
import server
from exporters.running import run
from model_store import Store

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::PendingDeprecationWarning", "ignore::FutureWarning"
)
NAMES = ["Colour", "age", "shop", "income", "ratio"]
ROWS = slice(0, 4)


@pytest.fixture(scope="module")
def client(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    store = Store(folder / "store")
    store.publish(source.exported.manifest, source.exported.files())
    store.publish(grouped(source.exported.manifest), source.exported.files())
    config = server.Config(store=store.root, database=folder / "decisions.sqlite", threads=1)
    service = server.open_service(config)
    yield server.create_app(config, service).test_client()
    service.close()


def grouped(manifest):
    """The same model with its two categories as one player."""
    features = [
        msgspec.structs.replace(each, group="choices") if each.kind == "category" else each
        for each in manifest.features
    ]
    defaults = msgspec.structs.replace(manifest.explanation, groups=True)
    return msgspec.structs.replace(manifest, name="grouped", features=features, explanation=defaults)


@pytest.fixture
def attributed(source, engine):
    """Explains the four rows with our own loop."""

    def attribute(method="exact_shap", **options):
        return explain.attribute(
            explain.Model(source.model),
            {"x": source.x[ROWS], "codes": source.codes[ROWS]},
            method=method,
            target=1,
            run=lambda program, feeds: run(engine, program, feeds),
            **options,
        )

    return attribute


@pytest.fixture
def background(source):
    return {"x": source.x[20:], "codes": source.codes[20:]}


@pytest.fixture
def inputs(source):
    return {"x": source.x[ROWS], "codes": source.codes[ROWS]}


def adds_up(explanation, value):
    """base + sum of the values is what was explained, row by row."""
    total = explanation.base_values + explanation.values.reshape(len(explanation.values), -1).sum(axis=1)
    return np.allclose(total, value, rtol=1e-4, atol=1e-5)


def by_hand(arrays):
    """Arrays by input in the order of the features, picked one by one."""
    return np.array([[c[0], x[0], c[1], x[2], x[1]] for x, c in zip(arrays["x"], arrays["codes"], strict=True)])


def test_an_attribution_by_feature(attributed, source, background, inputs):
    found = attributed(background=background)
    explanation = exporters.shap_explanation(found, inputs=inputs, manifest=source.exported.manifest)
    np.testing.assert_array_equal(explanation.values, by_hand(found.values))
    np.testing.assert_allclose(explanation.data, source.table(ROWS))
    assert list(explanation.feature_names) == NAMES
    assert [row[0] for row in explanation.display_data] == [f"the {'rgb'[code]}" for code in source.codes[ROWS, 0]]
    assert adds_up(explanation, source.on_table(source.table(ROWS))[:, 1])
    assert not adds_up(explanation[:, :4], source.on_table(source.table(ROWS))[:, 1])
    assert explanation.output_names == "logit of probabilities"
    assert explanation.lower_bounds is None


def test_an_attribution_without_a_manifest_is_by_element(attributed, background, inputs):
    found = attributed(background=background)
    explanation = exporters.shap_explanation(found, inputs=inputs)
    expected = np.concatenate([found.values["x"], found.values["codes"]], axis=1)
    np.testing.assert_array_equal(explanation.values, expected)
    assert list(explanation.feature_names) == ["x[0]", "x[1]", "x[2]", "codes[0]", "codes[1]"]
    renamed = exporters.shap_explanation(found, feature_names="abcde")
    assert list(renamed.feature_names) == list("abcde")
    assert renamed.data is None


@pytest.mark.parametrize("name", ["mixed", "grouped"])
@pytest.mark.parametrize("protocol", ["V1", "V2"])
def test_a_served_answer(name, protocol, client, source, inputs, attributed, background):
    if protocol == "V1":
        asked = {"instances": source.instances(ROWS), "method": "exact_shap", "target": "mid"}
        answer = client.post(f"/v1/models/{name}:explain", json=asked).get_json()
        value = [each["explained_value"] for each in answer["explanations"]]
    else:
        answer = client.post(f"/v2/models/{name}/explain", json=v2(inputs, "exact_shap")).get_json()
        value = answer["explanation"]["explained_value"]
    explanation = exporters.shap_explanation(answer, inputs=inputs)
    assert adds_up(explanation, value)
    assert explanation.output_names == "mid"
    if name == "grouped":
        assert list(explanation.feature_names) == ["choices", "age", "income", "ratio"]
        assert explanation.data is None
        return
    assert list(explanation.feature_names) == NAMES
    np.testing.assert_allclose(
        explanation.values, by_hand(attributed(background=background).values), rtol=1e-4, atol=1e-6
    )
    if protocol == "V2":
        np.testing.assert_allclose(explanation.data, source.table(ROWS))
    named = exporters.shap_explanation(answer, inputs=inputs, manifest=source.exported.manifest)
    np.testing.assert_allclose(named.data, source.table(ROWS))
    assert [row[0] for row in named.display_data] == [f"the {'rgb'[code]}" for code in source.codes[ROWS, 0]]


def v2(inputs, method, **members):
    """A V2 request for the middle class."""
    kinds = {"float32": "FP32", "int64": "INT64"}
    tensors = [
        {"name": name, "shape": list(a.shape), "datatype": kinds[a.dtype.name], "data": a.reshape(-1).tolist()}
        for name, a in inputs.items()
    ]
    return {"inputs": tensors, "explain": {"method": method, "target": "mid", **members}}


def test_rows_of_unlike_targets_share_no_name(client, source):
    asked = {"instances": source.instances(ROWS), "method": "exact_shap", "target": ["low", "mid", "top", "low"]}
    explanation = exporters.shap_explanation(client.post("/v1/models/mixed:explain", json=asked).get_json())
    assert explanation.output_names is None


def test_errors_of_a_sample_are_bounds(attributed, client, source, inputs, background):
    found = attributed("expected_gradients", background=background, n_samples=40)
    explanation = exporters.shap_explanation(found, manifest=source.exported.manifest)
    np.testing.assert_array_equal(explanation.error_std, by_hand(found.errors))
    np.testing.assert_allclose(explanation.upper_bounds - explanation.values, by_hand(found.half_widths))
    np.testing.assert_allclose(explanation.values - explanation.lower_bounds, by_hand(found.half_widths))
    asked = {
        "instances": source.instances(ROWS),
        "method": "expected_gradients",
        "target": "mid",
        "parameters": {"n_samples": 40},
    }
    answer = client.post("/v1/models/mixed:explain", json=asked).get_json()
    served = exporters.shap_explanation(answer)
    stated = [[entry["standard_error"] for entry in each["attributions"]] for each in answer["explanations"]]
    np.testing.assert_array_equal(served.error_std, stated)
    widths = np.array([[entry["half_width"] for entry in each["attributions"]] for each in answer["explanations"]])
    np.testing.assert_allclose(served.upper_bounds - served.values, widths)
    assert (widths > 1.959964 * np.array(stated)).all()
    asked = v2(inputs, "expected_gradients", parameters={"n_samples": 40})
    second = exporters.shap_explanation(client.post("/v2/models/mixed/explain", json=asked).get_json())
    order = [list(second.feature_names).index(name) for name in served.feature_names]
    np.testing.assert_allclose(second.error_std[:, order], stated, rtol=1e-5)
    np.testing.assert_allclose((second.upper_bounds - second.values)[:, order], widths, rtol=1e-5)


def test_errors_of_a_quadrature_are_bounds_and_no_deviation(attributed):
    baseline = {"x": np.zeros(3, np.float32), "codes": np.zeros(2, np.int64)}
    found = attributed("integrated_gradients", baseline=baseline, rule="adaptive")
    assert found.error_kind == "quadrature_error"
    explanation = exporters.shap_explanation(found)
    errors = np.concatenate([found.errors["x"], found.errors["codes"]], axis=1)
    np.testing.assert_allclose(explanation.upper_bounds, explanation.values + errors)
    assert explanation.error_std is None


@pytest.mark.parametrize("kind", ["attribution", "V1", "V2"])
def test_the_plots_of_shap_draw_it(kind, attributed, client, source, inputs, background):
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    import shap

    answers = {
        "attribution": lambda: attributed("expected_gradients", background=background, n_samples=20),
        "V1": lambda: client.post(
            "/v1/models/mixed:explain", json={"instances": source.instances(ROWS), "method": "exact_shap"}
        ).get_json(),
        "V2": lambda: client.post("/v2/models/mixed/explain", json=v2(inputs, "exact_shap")).get_json(),
    }
    explanation = exporters.shap_explanation(answers[kind](), inputs=inputs, manifest=source.exported.manifest)
    draws = [
        lambda: shap.plots.waterfall(explanation[0], show=False),
        lambda: shap.plots.bar(explanation, show=False),
        lambda: shap.plots.bar(explanation[1], show=False),
        lambda: shap.plots.beeswarm(explanation, show=False, plot_size=None),
        lambda: shap.plots.scatter(explanation[:, "age"], show=False),
        lambda: shap.plots.heatmap(explanation, show=False),
    ]
    try:
        for draw in draws:
            draw()
            drawn = {text.get_text() for axes in plt.gcf().axes for text in axes.findobj(mpl.text.Text)}
            assert any("age" in text for text in drawn)
            plt.close("all")
    finally:
        plt.close("all")
    assert explanation[:, "age"].values.shape == (4,)
    assert explanation.cohorts(2).cohorts.keys()
    assert explanation.abs.mean(0).values.shape == (5,)


def test_tokens_are_what_the_text_plot_draws(made, engine):
    """Two inputs say something at each position; a token's part is both."""
    import shap

    nodes = [
        ("Gather", ["words", "ids"], ["a"], {"axis": 0}),
        ("Gather", ["kinds", "types"], ["b"], {"axis": 0}),
        ("Add", ["a", "b"], ["c"], {}),
        ("ReduceSum", ["c", "axes"], ["y"], {"keepdims": 0}),
    ]
    tables = {"words": [[0.0], [1.0], [-2.0]], "kinds": [[0.0], [0.5]]}
    weights = {name: np.array(rows, np.float32) for name, rows in tables.items()} | {"axes": np.array([1])}
    tokens = {"ids": (TensorProto.INT64, ["N", "T"]), "types": (TensorProto.INT64, ["N", "T"])}
    model = made(nodes, tokens, {"y": (TensorProto.FLOAT, ["N", 1])}, weights)
    given = {"ids": np.array([[1, 2], [2, 2]]), "types": np.array([[0, 1], [1, 0]])}
    found = explain.attribute(
        model,
        given,
        method="integrated_gradients",
        baseline=0,
        run=lambda program, feeds: run(engine, program, feeds),
    )
    texts = [["good ", "bad"], ["bad ", "worse"]]
    explanation = exporters.shap_explanation(found, tokens=texts)
    np.testing.assert_allclose(explanation.values, [[1.0, -1.5], [-1.5, -2.0]], rtol=1e-5)
    assert adds_up(explanation, [-0.5, -3.5])
    page = shap.plots.text(explanation, display=False)
    assert all(text.strip() in page for row in texts for text in row)
    with pytest.raises(exporters.InvalidBridge, match=r"tokens: came 2 rows of \[1\] texts, 'ids' has \[2, 2\]"):
        exporters.shap_explanation(found, tokens=[["one"], ["two"]])


def test_a_picture_keeps_its_shape(made, engine):
    nodes = [("GlobalAveragePool", ["x"], ["p"], {}), ("Flatten", ["p"], ["y"], {})]
    model = made(nodes, {"x": (TensorProto.FLOAT, ["N", 1, 4, 4])}, {"y": (TensorProto.FLOAT, ["N", 1])})
    pixels = np.random.default_rng(0).normal(size=(2, 1, 4, 4)).astype(np.float32)
    found = explain.attribute(
        model, {"x": pixels}, method="input_x_gradient", run=lambda program, feeds: run(engine, program, feeds)
    )
    explanation = exporters.shap_explanation(found, inputs={"x": pixels})
    np.testing.assert_allclose(explanation.values, pixels / 16, rtol=1e-6)
    assert explanation.data.shape == (2, 1, 4, 4)
    assert explanation.base_values is None


def test_what_does_not_fit_is_refused(attributed, source, background, inputs):
    found = attributed(background=background)
    refused = [
        (({"predictions": [1]},), {}, "came neither an Attribution nor JSON"),
        (({"error": "no such model"},), {}, "answer: the server refused: no such model"),
        (({"explanations": [{}]},), {}, "could not be read as an explain answer: KeyError"),
        ((found,), {"inputs": {"x": inputs["x"]}}, "nothing came for 'codes'"),
        (
            (found,),
            {"inputs": inputs | {"x": inputs["x"][:1]}},
            r"came \[1, 3\] for 'x', its attributions are \[4, 3\]",
        ),
        ((found,), {"feature_names": ["a"]}, r"feature_names: came 1, expected one for each of \[5\]"),
        ((found,), {"tokens": [["a"] * 3] * 4}, r"'codes' has \[4, 2\]"),
    ]
    for arguments, options, text in refused:
        with pytest.raises(exporters.InvalidBridge, match=text):
            exporters.shap_explanation(*arguments, **options)
