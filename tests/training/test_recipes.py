"""What a recipe says of its data is true of its data, and a client's row means the same as the network's."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from training import RECIPES, BadData, UnknownRecipe, train
from training.recipes import credit, recipe_named, xray

INSIDE = [name for name, recipe in RECIPES.items() if not recipe.needs_data]
ROWS = [0, 1, 57, 130]


@pytest.fixture
def small_credit(tmp_path):
    """Four applicants in the file's own form."""
    lines = [
        "A11,6,A34,A43,1169,A65,A75,4,A93,A101,4,A121,67,A143,A152,2,A173,1,A192,A201,1",
        "A12,48,A32,A43,5951,A61,A73,2,A92,A101,2,A121,22,A143,A152,1,A173,1,A191,A201,2",
        "A14,12,A34,A410,2096,A61,A74,2,A93,A101,3,A121,49,A143,A152,1,A172,2,A191,A201,1",
        "A13,42,A31,A48,7882,A64,A71,2,A95,A103,4,A124,45,A141,A153,1,A171,2,A192,A202,1",
    ]
    (tmp_path / "german_credit.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_an_unknown_recipe_is_refused_with_those_there_are():
    with pytest.raises(UnknownRecipe, match="'tumor' is unknown; there are tumour, digits"):
        train("tumor")
    assert recipe_named("tumour") is RECIPES["tumour"]


@pytest.mark.parametrize("name", INSIDE)
def test_inputs_and_labels_are_what_the_recipe_says(name):
    recipe = RECIPES[name]
    dataset = recipe.load(None)
    assert set(dataset.inputs) == set(recipe.input_names)
    for spec in recipe.inputs:
        array = dataset.inputs[spec.name]
        assert (array.dtype.name, list(array.shape[1:])) == (spec.dtype, spec.shape[1:])
        assert len(array) == len(dataset.labels)
    if recipe.task == "classification":
        assert set(np.unique(dataset.labels)) == set(range(len(recipe.class_names)))
    else:
        assert dataset.labels.dtype == np.float32
    assert len(dataset.sha256) == 64
    assert recipe.load(None).sha256 == dataset.sha256


@pytest.mark.parametrize("name", ["tumour", "diabetes"])
def test_every_column_has_a_name_a_label_and_its_unit(name):
    features = RECIPES[name].features
    assert len({feature.name for feature in features}) == len(features)
    assert [feature.index for feature in features] == list(range(RECIPES[name].inputs[0].shape[1]))
    assert all(feature.label for feature in features)
    assert [feature.name for feature in features if not feature.unit] == (["sex"] if name == "diabetes" else [])


def test_the_columns_of_tumour_are_those_of_the_source():
    from sklearn.datasets import load_breast_cancer

    def plain(name):
        statistic, _, measurement = name.partition("_")
        words = measurement.replace("_", " ")
        return f"{words} error" if statistic == "error" else f"{statistic} {words}"

    bunch = load_breast_cancer()
    assert [plain(feature.name) for feature in RECIPES["tumour"].features] == list(bunch.feature_names)
    assert list(RECIPES["tumour"].class_names) == list(bunch.target_names)
    groups = {}
    for feature in RECIPES["tumour"].features:
        groups.setdefault(feature.group, []).append(feature.name)
    assert sorted(len(members) for members in groups.values()) == [3] * 10


@pytest.mark.parametrize("name", ["tumour", "diabetes"])
def test_a_clients_row_is_the_networks_row(name):
    recipe, dataset = RECIPES[name], RECIPES[name].load(None)
    for row in ROWS:
        sent = json.loads(json.dumps(dataset.instance(row)))
        values = np.array([sent[feature.name] for feature in recipe.features], dtype=np.float32)
        assert values.tolist() == dataset.inputs["features"][row].tolist()


def test_a_digit_is_sent_as_a_grey_png_of_the_networks_pixels():
    dataset = RECIPES["digits"].load(None)
    pixels = dataset.inputs["image"]
    assert (pixels.min(), pixels.max()) == (0.0, 255.0)
    for row in ROWS:
        picture = Image.open(io.BytesIO(base64.b64decode(dataset.instance(row)["b64"])))
        assert (picture.mode, picture.size, picture.format) == ("L", (8, 8), "PNG")
        assert np.asarray(picture).tolist() == pixels[row, 0].tolist()


def test_applicants_are_sent_by_the_sources_codes_and_looked_up_by_their_place(small_credit):
    dataset = credit.load(small_credit)
    assert dataset.inputs["numeric"][1].tolist() == [48, 5951, 2, 2, 22, 1, 1]
    assert dataset.labels.tolist() == [0, 1, 0, 0]
    coded = [feature for feature in credit.FEATURES if feature.kind == "category"]
    assert dataset.inputs["codes"].shape == (4, 13)
    for row in range(4):
        sent = dataset.instance(row)
        assert list(sent) == [feature.name for feature in credit.FEATURES]
        for feature in coded:
            level = feature.levels[dataset.inputs["codes"][row, feature.index]]
            assert sent[feature.name] == level.value


def test_levels_are_in_plain_language(small_credit):
    account = next(feature for feature in credit.FEATURES if feature.name == "checking_account")
    assert {level.value: level.label for level in account.levels}["A11"] == "checking account < 0 DM"
    labels = [level.label for feature in credit.FEATURES for level in feature.levels]
    assert all(label and not label.startswith("A1") for label in labels)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("A12,48", "A99,48", r"line 2: checking_account is 'A99', expected one of A11, A12"),
        ("A12,48", "A12,many", r"line 2: duration is 'many', expected a number"),
        (",A201,2\n", ",A201,3\n", r"line 2: expected 20 attributes and a class 1 or 2"),
        ("A12,48,", "A12,", r"line 2: expected 20 attributes and a class 1 or 2, found 20 columns"),
    ],
)
def test_a_file_of_something_else_is_refused_by_line(small_credit, old, new, message):
    path = small_credit / "german_credit.csv"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(BadData, match=message):
        credit.load(small_credit)


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "german_credit.csv").write_text("")
    with pytest.raises(BadData, match="no rows"):
        credit.load(tmp_path)


def archive(folder, **changes):
    arrays = {}
    for part, count in (("train", 6), ("val", 2), ("test", 3)):
        arrays[f"{part}_images"] = np.full((count, 28, 28), count, dtype=np.uint8)
        arrays[f"{part}_labels"] = np.zeros((count, 1), dtype=np.uint8)
    kept = {name: array for name, array in {**arrays, **changes}.items() if array is not None}
    np.savez(folder / "pneumoniamnist.npz", **kept)
    return folder


def test_x_rays_keep_the_publishers_parts(tmp_path):
    dataset = xray.load(archive(tmp_path))
    assert dataset.parts.tolist() == [0] * 6 + [1] * 2 + [2] * 3
    assert dataset.inputs["image"][[0, 6, 8], 0, 0, 0].tolist() == [6, 2, 3]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"val_labels": None}, "expected arrays train/val/test_images"),
        ({"val_images": np.zeros((2, 8, 8), np.uint8)}, r"val_images is uint8 \(2, 8, 8\)"),
        ({"test_labels": np.full((3, 1), 7, np.uint8)}, r"test_labels holds \[7\]"),
    ],
)
def test_another_archive_is_refused(tmp_path, changes, message):
    with pytest.raises(BadData, match=message):
        xray.load(archive(tmp_path, **changes))


def test_bytes_that_are_no_archive_are_refused(tmp_path):
    (tmp_path / "pneumoniamnist.npz").write_bytes(b"no archive")
    with pytest.raises(BadData):
        xray.load(tmp_path)
