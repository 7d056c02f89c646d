"""Named background sets of an export: few rows that weigh what the many weighed, described as they are."""

import numpy as np
import pytest

import exporters
from exporters.backgrounds import background_sets
from model_store import Feature, Level, Store, read_background

ROWS = {"x": np.random.default_rng(2).normal(size=(300, 3)).astype(np.float32)}


def read(files, name):
    return read_background(files[name], ["x"], name)


def test_many_rows_become_centres_that_weigh_what_they_stand_for():
    described, files = background_sets({"recent": ROWS}, ())
    assert (described["recent"].kind, described["recent"].rows <= 100, described["recent"].weights) == (
        "kmeans",
        True,
        True,
    )
    rows, weight = read(files, "recent")
    assert weight.sum() == pytest.approx(1)
    np.testing.assert_allclose(weight @ rows["x"], ROWS["x"].mean(axis=0), atol=1e-4)


def test_categories_have_no_mean_and_are_sampled():
    levels = [Level("u"), Level("v")]
    feature = Feature(name="a", input="x", index=0, kind="category", levels=levels)
    described, files = background_sets({"recent": ROWS}, [feature])
    assert (described["recent"].kind, described["recent"].rows, described["recent"].weights) == ("sample", 100, False)
    rows, weight = read(files, "recent")
    assert weight is None
    assert {tuple(row) for row in rows["x"]} <= {tuple(row) for row in ROWS["x"]}


def test_what_is_asked_for_is_done():
    few = {"x": ROWS["x"][:7]}
    asked = {
        "all": exporters.Background(ROWS, kind="rows", note="everything"),
        "few": few,
        "ten": exporters.Background(ROWS, kind="sample", size=10),
        "weighed": exporters.Background(few, weight=[1, 2, 1, 1, 1, 1, 1]),
    }
    described, files = background_sets(asked, ())
    told = {name: (each.kind, each.rows, each.weights) for name, each in described.items()}
    assert told == {
        "all": ("rows", 300, False),
        "few": ("rows", 7, False),
        "ten": ("sample", 10, False),
        "weighed": ("rows", 7, True),
    }
    assert described["all"].note == "everything"
    np.testing.assert_allclose(read(files, "weighed")[1], np.array([1, 2, 1, 1, 1, 1, 1]) / 8)
    with pytest.raises(exporters.InvalidExport, match=r"background set 'bad': .*weights"):
        background_sets({"bad": exporters.Background(few, weight=[1])}, ())


def test_an_export_carries_its_sets_to_the_store(exported, tmp_path):
    described = exporters.describe(
        exported.model,
        name="small",
        inputs=exported.manifest.inputs,
        outputs=exported.manifest.outputs,
        features=exported.manifest.features,
        backgrounds={"recent": ROWS},
    )
    version = exporters.register(Store(tmp_path / "store"), described)
    assert version.manifest.backgrounds["recent"].file is not None
    assert version.file("background/recent") == described.files()["background/recent"]
    written = exporters.write(described, tmp_path / "new")
    assert "background-recent.npz" in {path.name for path in written}
    with pytest.raises(exporters.InvalidExport, match="expected float32"):
        exporters.describe(
            exported.model,
            name="small",
            inputs=exported.manifest.inputs,
            outputs=exported.manifest.outputs,
            backgrounds={"recent": {"x": ROWS["x"].astype(np.float64)}},
        )
