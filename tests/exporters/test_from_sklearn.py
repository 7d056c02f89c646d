"""Whole pipelines leave with their preprocessing inside: clients send numbers and level values, nothing scaled."""

import hashlib

import numpy as np
import onnx
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.semi_supervised import LabelSpreading

import exporters
from engine import StoredModel
from exporters import Column, export_sklearn

RANDOM = np.random.default_rng(0)
N = 160
DATA = pd.DataFrame(
    {
        "age": RANDOM.normal(40, 10, N),
        "city": RANDOM.choice(["Bonn", "Ulm", "Köln"], N),
        "income": RANDOM.normal(2000, 500, N),
        "rooms": RANDOM.choice([1, 2, 5], N),
    }
)
LABELS = ((DATA.age > 40) ^ (DATA.city == "Ulm")).map({True: "yes", False: "no"})
COLUMNS = [
    Column("age", unit="years"),
    Column("city", levels={"Bonn": "in Bonn", "Ulm": "in Ulm", "Köln": "in Cologne"}),
    Column("income", label="income a month", unit="EUR"),
    Column("rooms", levels={5: "five", 1: "one", 2: "two"}),
]
NUMBERS = DATA[["age", "income"]].to_numpy()


def pipeline(estimator, labels=LABELS):
    coded = ("coded", OneHotEncoder(), ["city", "rooms"])
    return make_pipeline(ColumnTransformer([("scaled", StandardScaler(), ["age", "income"]), coded]), estimator).fit(
        DATA, labels
    )


def described(converted, **more):
    return exporters.describe(
        converted.model,
        name="pipeline",
        inputs=converted.inputs,
        outputs=converted.outputs,
        features=converted.features,
        **more,
    )


def evidence(fitted):
    instances = [
        {"age": age, "city": city, "income": income, "rooms": str(rooms)}
        for age, city, income, rooms in DATA.itertuples(index=False)
    ]
    if hasattr(fitted, "predict_proba"):
        return exporters.Evidence(range(N), instances, {"probabilities": fitted.predict_proba(DATA)})
    return exporters.Evidence(range(N), instances, {"value": fitted.predict(DATA)[:, np.newaxis]})


@pytest.mark.parametrize(
    "estimator",
    [
        LogisticRegression(),
        MLPClassifier((6,), max_iter=2000, tol=1e-2, random_state=0),
        RandomForestClassifier(12, random_state=0),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_classifiers_answer_the_same_from_client_bytes(estimator, engine):
    fitted = pipeline(estimator)
    converted = export_sklearn(fitted, COLUMNS, output_label="moves")
    assert exporters.parity(described(converted), evidence(fitted), engine).worst < 1e-5
    assert [(spec.name, spec.dtype, spec.shape) for spec in converted.inputs] == [
        ("numeric", "float32", ["N", 2]),
        ("codes", "int64", ["N", 2]),
    ]
    (output,) = converted.outputs
    assert (output.kind, output.shape, output.class_names) == ("probabilities", ["N", 2], ["no", "yes"])


@pytest.mark.parametrize("estimator", [Ridge(), RandomForestRegressor(8, random_state=0)], ids=["Ridge", "Forest"])
def test_regressors_answer_one_value(estimator, engine):
    fitted = pipeline(estimator, DATA.income / 1000 + DATA.rooms)
    converted = export_sklearn(fitted, COLUMNS, unit="kEUR")
    assert exporters.parity(described(converted), evidence(fitted), engine).worst < 1e-4
    assert (converted.outputs[0].name, converted.outputs[0].shape, converted.outputs[0].unit) == (
        "value",
        ["N", 1],
        "kEUR",
    )


def test_a_forest_on_the_edge_of_float32_is_refused_and_not_rounded_away(engine):
    """Scaled whole numbers fall on thresholds, which lie midway between others; float32 decides some otherwise."""
    whole = np.arange(40.0)[:, np.newaxis]
    fitted = make_pipeline(StandardScaler(), RandomForestRegressor(30, random_state=0)).fit(whole, whole[:, 0] % 7)
    instances = [{"x": float(value)} for value in whole[:, 0]]
    asked = exporters.Evidence(range(40), instances, {"value": fitted.predict(whole)[:, np.newaxis]})
    with pytest.raises(exporters.ParityFailed):
        exporters.parity(described(export_sklearn(fitted, [Column("x")])), asked, engine)


def test_a_wrong_order_of_levels_is_seen(engine):
    """The graph looks values up by the order it was given; a manifest of another order sends other values."""
    fitted = pipeline(LogisticRegression())
    converted = export_sklearn(fitted, COLUMNS)
    swapped = exporters.Converted(
        converted.model,
        converted.inputs,
        converted.outputs,
        export_sklearn(fitted, [*COLUMNS[:3], Column("rooms", levels={1: "one", 2: "two", 5: "five"})]).features,
    )
    with pytest.raises(exporters.ParityFailed):
        exporters.parity(described(swapped), evidence(fitted), engine)


def test_features_keep_the_order_of_the_columns_and_their_words():
    features = export_sklearn(pipeline(LogisticRegression()), COLUMNS).features
    assert [(feature.name, feature.input, feature.index) for feature in features] == [
        ("age", "numeric", 0),
        ("city", "codes", 0),
        ("income", "numeric", 1),
        ("rooms", "codes", 1),
    ]
    assert (features[2].label, features[2].unit) == ("income a month", "EUR")
    assert [(level.value, level.label) for level in features[3].levels] == [("5", "five"), ("1", "one"), ("2", "two")]


def test_an_array_goes_in_as_one_matrix(engine):
    fitted = make_pipeline(StandardScaler(), MLPClassifier((4,), max_iter=2000, tol=1e-2)).fit(NUMBERS, LABELS)
    converted = export_sklearn(fitted, [Column("age"), Column("income")])
    assert [(spec.name, spec.shape) for spec in converted.inputs] == [("features", ["N", 2])]
    artifact = StoredModel(
        hashlib.sha256(converted.model).hexdigest(),
        {"features": "item"},
        {"probabilities": "item"},
        lambda: converted.model,
    )
    found = engine.run(artifact, {"features": NUMBERS.astype(np.float32)}).outputs["probabilities"]
    assert found == pytest.approx(fitted.predict_proba(NUMBERS), abs=1e-5)


def test_the_graph_says_only_what_is_served():
    read = onnx.load_model_from_string(export_sklearn(pipeline(LogisticRegression()), COLUMNS).model)
    assert [value.name for value in read.graph.output] == ["probabilities"]
    opsets = {entry.domain: entry.version for entry in read.opset_import}
    assert set(opsets) == {"", "ai.onnx.ml"}
    assert opsets[""] == 18
    assert opsets["ai.onnx.ml"] <= 3
    assert not any(node.op_type == "ZipMap" for node in read.graph.node)
    used = {name for node in read.graph.node for name in node.input} | {"probabilities"}
    assert all(set(node.output) & used for node in read.graph.node)


def test_equal_pipelines_give_equal_bytes():
    fitted = pipeline(LogisticRegression())
    assert export_sklearn(fitted, COLUMNS).model == export_sklearn(fitted, COLUMNS).model


@pytest.mark.parametrize(
    ("fitted", "message"),
    [
        (make_pipeline(StandardScaler(), LabelSpreading()).fit(NUMBERS, LABELS == "yes"), "LabelSpreading cannot be"),
        (
            make_pipeline(FunctionTransformer(np.log1p), LogisticRegression()).fit(NUMBERS, LABELS),
            r"FunctionTransformer cannot be converted .* do that step before the data is sent",
        ),
        (StandardScaler().fit(NUMBERS), "StandardScaler does not predict"),
        (LogisticRegression(), "LogisticRegression is not fitted"),
    ],
    ids=["estimator", "step", "no predictor", "not fitted"],
)
def test_what_has_no_converter_is_refused_by_name_with_advice(fitted, message):
    with pytest.raises(exporters.UnsupportedModel, match=message):
        export_sklearn(fitted, [Column("age"), Column("income")])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ([*COLUMNS[1:], COLUMNS[0]], r"columns: came \['city'.*fitted on \['age', 'city'"),
        (COLUMNS[:3], "the pipeline was fitted on"),
        ([*COLUMNS[:3], Column("rooms", levels={1: "one", "2": "two"})], r"levels are of .*'int', 'str'"),
    ],
)
def test_columns_that_are_not_the_pipelines_are_refused(columns, message):
    with pytest.raises(exporters.InvalidExport, match=message):
        export_sklearn(pipeline(LogisticRegression()), columns)


def test_levels_need_named_columns():
    fitted = LogisticRegression().fit(NUMBERS, LABELS)
    with pytest.raises(exporters.InvalidExport, match=r"'income' has levels, .* fit it on a DataFrame"):
        export_sklearn(fitted, [Column("age"), Column("income", levels={1: "one"})])
