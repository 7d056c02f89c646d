"""What stands for what is removed is what its spec says, never a silent zero, and never another item's."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from explain import InvalidParameter
from explain.removal import SCHEMA, Replacement, resolve
from explain.segments import Segments
from explain.segments import resolve as resolve_groups
from tests.explain.graphs import numbers

IMAGE = {"x": numbers(2, 3, 9, 12) + 5}
SERIES = {"x": numbers(2, 4, 11)}
ROWS = {"x": numbers(3, 5)}
IDS = {"ids": np.array([[101, 5, 6, 102, 0], [101, 7, 102, 0, 0]])}
BYTES = {"x": np.random.default_rng(1).integers(0, 256, size=(2, 6, 8, 3)).astype(np.uint8)}
MIXED = {"image": numbers(2, 3, 8, 8), "row": numbers(2, 4), "ids": np.tile(np.arange(5), (2, 1))}


def only(found: Replacement) -> np.ndarray:
    """The rows of the only input, with the shapes that a replacement promises."""
    (rows,) = found.rows.values()
    assert rows.shape[1 if found.per_item else 0] == len(found.weight)
    assert found.weight.sum() == pytest.approx(1)
    return rows


def test_a_mean_is_that_of_each_channel_of_each_item() -> None:
    found = resolve("mean", IMAGE)
    assert found.per_item
    rows = only(found)
    assert rows.shape == (2, 1, 3, 9, 12)
    assert rows.dtype == np.float32
    for item, image in enumerate(IMAGE["x"]):
        for channel, plane in enumerate(image):
            np.testing.assert_array_equal(rows[item, 0, channel], np.float32(plane.astype(float).mean()))
    series = only(resolve({"mean": {"layout": "TC"}}, SERIES))
    np.testing.assert_allclose(series[:, 0], np.broadcast_to(SERIES["x"].mean(axis=1, keepdims=True), (2, 4, 11)), 1e-6)
    single = only(resolve("mean", ROWS, layouts={"x": "T"}))
    np.testing.assert_allclose(single[:, 0, 0], ROWS["x"].mean(axis=1), 1e-6)


def test_a_blur_wider_than_anything_is_the_mean_of_mirrors() -> None:
    inputs = {"x": numbers(1, 2, 5, 7).astype(np.float64)}
    for sigma in (1e5, 1e9, 1e300):
        rows = only(resolve({"blur": {"sigma": sigma}}, inputs))
        expected = inputs["x"].mean(axis=(2, 3), keepdims=True)
        np.testing.assert_allclose(rows[:, 0], np.broadcast_to(expected, (1, 2, 5, 7)), atol=1e-7)


def test_whole_numbers_are_rounded_within_their_range() -> None:
    rows = only(resolve("mean", BYTES, layouts={"x": "HWC"}))
    assert rows.dtype == np.uint8
    np.testing.assert_array_equal(rows[:, 0, 0, 0], np.rint(BYTES["x"].astype(float).mean(axis=(1, 2))))


@pytest.mark.parametrize("sigma", [0.6, 2, 7.5, 40])
def test_a_blur_is_that_of_scipy(sigma: float) -> None:
    inputs = {"x": numbers(2, 3, 9, 12).astype(np.float64)}
    rows = only(resolve({"blur": {"sigma": sigma}}, inputs))
    for item, image in enumerate(inputs["x"]):
        for channel, plane in enumerate(image):
            judge = ndimage.gaussian_filter(plane, sigma, mode="reflect")
            np.testing.assert_allclose(rows[item, 0, channel], judge, rtol=0, atol=1e-12)
    last = only(resolve({"blur": {"sigma": sigma, "layout": "HWC"}}, {"x": np.moveaxis(inputs["x"], 1, -1)}))
    np.testing.assert_allclose(np.moveaxis(last[:, 0], -1, 1), rows[:, 0], rtol=0, atol=1e-12)


def test_a_series_is_blurred_along_its_time() -> None:
    inputs = {"x": numbers(2, 4, 11).astype(np.float64)}
    rows = only(resolve({"blur": {"sigma": 1.5}}, inputs))
    np.testing.assert_allclose(rows[:, 0], ndimage.gaussian_filter1d(inputs["x"], 1.5, axis=2), rtol=0, atol=1e-12)


def test_constants_are_shared_by_all_items() -> None:
    found = resolve({"constant": 0.5}, IMAGE)
    assert not found.per_item
    np.testing.assert_array_equal(only(found), np.full((1, 3, 9, 12), 0.5, np.float32))
    channels = only(resolve({"constant": [1, 2.5, 3]}, IMAGE))
    assert [np.unique(plane).tolist() for plane in channels[0]] == [[1], [2.5], [3]]
    last = only(resolve({"constant": [1, 2, 3]}, BYTES, layouts={"x": "HWC"}))
    assert last.dtype == np.uint8
    assert np.unique(last.reshape(-1, 3), axis=0).tolist() == [[1, 2, 3]]
    assert only(resolve({"constant": [1, 2, 3, 4, 5]}, ROWS)).tolist() == [[1, 2, 3, 4, 5]]
    assert only(resolve({"token": 103}, IDS)).tolist() == [[103] * 5]


def harmonic(plane: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The fill of one plane [H, W]: for each group one dense system of all its pixels."""
    found = plane.astype(np.float64).copy()
    for group in set(groups.reshape(-1).tolist()) - {-1}:
        inside = [tuple(at) for at in np.argwhere(groups == group)]
        matrix, right = np.zeros((len(inside), len(inside))), np.zeros(len(inside))
        for row, (y, x) in enumerate(inside):
            for at in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if not (0 <= at[0] < plane.shape[0] and 0 <= at[1] < plane.shape[1]):
                    continue
                matrix[row, row] += 1
                if at in inside:
                    matrix[row, inside.index(at)] -= 1
                else:
                    right[row] += plane[at]
        for at, value in zip(inside, np.linalg.solve(matrix, right), strict=True):
            found[at] = value
    return found


@pytest.mark.parametrize("spec", [{"patches": {"size": [4, 5]}}, {"superpixels": {"count": 6}}, "positions"])
def test_inpainting_solves_the_equation_of_each_group(spec: Any) -> None:
    inputs = {"x": numbers(2, 3, 9, 12).astype(np.float64)}
    groups = resolve_groups(spec, inputs)
    rows = only(resolve("inpaint", inputs, segments=groups))
    index = np.broadcast_to(groups.index["x"], inputs["x"].shape)
    for at in np.ndindex(2, 3):
        judge = harmonic(inputs["x"][at], index[at])
        np.testing.assert_allclose(rows[at[0], 0, at[1]], judge, rtol=0, atol=1e-9)


def test_inpainting_continues_a_ramp_and_sees_nothing_of_what_it_replaces() -> None:
    y, x = np.mgrid[:30, :40]
    ramp = np.stack([2 * y + 3 * x + 1, y - x])[None].astype(np.float64)
    groups = np.full((2, 30, 40), -1)
    groups[:, 5:20, 8:30], groups[0, 24:28, 3:9] = 0, 1
    segments = Segments({"x": groups}, 2, ("a", "b"), layouts={"x": "CHW"})
    np.testing.assert_allclose(only(resolve("inpaint", {"x": ramp}, segments=segments))[:, 0], ramp, atol=1e-8)
    hidden = np.where(groups >= 0, 1e3 * numbers(2, 30, 40), ramp[0])[None]
    np.testing.assert_allclose(only(resolve("inpaint", {"x": hidden}, segments=segments))[:, 0], ramp, atol=1e-7)


def test_a_window_of_a_series_becomes_the_line_between_its_ends() -> None:
    inputs = {"x": numbers(1, 2, 12).astype(np.float64)}
    groups = resolve_groups({"windows": {"size": 4}}, inputs)
    rows = only(resolve("inpaint", inputs, segments=groups))[0, 0]
    for found, series in zip(rows, inputs["x"][0], strict=True):
        np.testing.assert_allclose(found[4:8], np.interp([4, 5, 6, 7], [3, 8], series[[3, 8]]), atol=1e-10)
        np.testing.assert_allclose(found[:4], series[4], atol=1e-10)


def test_the_background_is_one_of_the_kinds() -> None:
    background = {"x": numbers(4, 5, seed=7)}
    found = resolve("background", ROWS, background=background, background_weight=np.array([1, 1, 2, 4.0]))
    np.testing.assert_array_equal(only(found), background["x"])
    assert found.weight.tolist() == [0.125, 0.125, 0.25, 0.5]
    assert resolve("background", ROWS, background=background).weight.tolist() == [0.25] * 4


def test_each_input_has_its_own_and_all_have_as_many_rows() -> None:
    spec = {"image": {"blur": {"sigma": 2}}, "row": "background", "ids": {"token": 9}}
    background = {"row": numbers(3, 4, seed=8)}
    found = resolve(spec, MIXED, background=background)
    assert found.per_item
    assert {name: rows.shape for name, rows in found.rows.items()} == {
        "image": (2, 3, 3, 8, 8),
        "row": (2, 3, 4),
        "ids": (2, 3, 5),
    }
    assert {name: rows.dtype for name, rows in found.rows.items()} == {n: a.dtype for n, a in MIXED.items()}
    np.testing.assert_array_equal(found.rows["row"], np.stack([background["row"]] * 2))
    np.testing.assert_array_equal(found.rows["image"][:, 0], found.rows["image"][:, 2])
    assert (found.rows["ids"] == 9).all()


def test_an_input_that_is_never_masked_needs_nothing() -> None:
    groups = resolve_groups({"patches": {"size": 4, "rest": "keep"}}, MIXED)
    for spec in ("inpaint", {"image": "inpaint"}):
        found = resolve(spec, MIXED, segments=groups)
        np.testing.assert_array_equal(found.rows["row"][:, 0], MIXED["row"])
        np.testing.assert_array_equal(found.rows["ids"][:, 0], MIXED["ids"])


def test_names_of_inputs_may_be_names_of_kinds() -> None:
    inputs = {"mean": numbers(2, 3, 4, 4)}
    assert (only(resolve({"mean": {"constant": 2}}, inputs)) == 2).all()
    assert only(resolve({"mean": {"layout": "CHW"}}, inputs)).shape == (2, 1, 3, 4, 4)


@pytest.mark.parametrize("spec", ["mean", {"blur": {"sigma": 2}}, "inpaint"])
def test_an_items_fill_does_not_depend_on_its_company(spec: Any) -> None:
    groups = resolve_groups({"superpixels": {"count": 6}}, IMAGE)
    together = only(resolve(spec, IMAGE, segments=groups))
    for item in range(2):
        one = {"x": IMAGE["x"][item : item + 1]}
        alone = resolve(spec, one, segments=resolve_groups({"superpixels": {"count": 6}}, one))
        np.testing.assert_array_equal(only(alone)[0], together[item])


REFUSED: list[tuple[Any, dict[str, np.ndarray], str]] = [
    (None, IMAGE, "nothing came, expected one of mean, blur, inpaint, constant, token, background: zeros are never"),
    ("zeros", IMAGE, "removal of 'x': came 'zeros', expected one of mean, blur"),
    (0, IMAGE, "came 0, expected one of mean"),
    ({"x": "zeros"}, IMAGE, "came 'zeros', expected one of mean"),
    ({"y": "mean"}, IMAGE, "'y' is no input; expected x"),
    ({"image": "mean", "row": {"constant": 0}}, MIXED, "removal of 'ids': nothing came"),
    ("mean", ROWS, "have no common mean; say layout 'T' for a series"),
    ("mean", IDS, "codes without a mean"),
    ("mean", {"x": np.array([["a"]], dtype=object)}, "codes without a mean"),
    ("mean", {"x": IMAGE["x"] * np.inf}, "holds NaN or infinity"),
    ("mean", {"x": numbers(1, 8, 8, 3)}, "may be images HWC"),
    ({"mean": {"layout": "C"}}, ROWS, "layout 'C' has no axis of places"),
    ("blur", IMAGE, "blur: sigma is missing"),
    ({"blur": {"sigma": -1}}, IMAGE, "sigma: came -1, expected a number of pixels or steps above 0"),
    ({"blur": {"sigma": float("inf")}}, IMAGE, "sigma: came inf"),
    ({"blur": 5}, IMAGE, "came 5, expected an object with sigma, layout"),
    ("inpaint", IMAGE, "which groups are removed is not known"),
    ("constant", IMAGE, "expected a number, one for each channel"),
    ({"constant": [1, 2]}, IMAGE, "came 2 numbers, expected 1 or 3"),
    ({"constant": float("nan")}, IMAGE, "came nan, expected a number"),
    ({"constant": 1e39}, IMAGE, "holds numbers that float32 cannot hold"),
    ({"constant": 0.5}, IDS, "int64 cannot hold, expected whole ones"),
    ({"constant": 300}, BYTES, "uint8 cannot hold"),
    ({"constant": 1}, {"x": np.array([["a"]], dtype=object)}, "expected numbers; give a background"),
    ({"token": 3}, ROWS, "expected token ids"),
    ({"token": -1}, IDS, "came -1, expected the id of the mask or pad token"),
    ("background", IMAGE, "there is no background for this input"),
    ("mean", {"x": np.zeros((0, 3, 2, 2))}, "inputs without elements"),
]


@pytest.mark.parametrize(("spec", "inputs", "message"), REFUSED, ids=[str(case[0]) for case in REFUSED])
def test_what_makes_no_sense_is_refused(spec: Any, inputs: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        resolve(spec, inputs)


def test_a_group_with_nothing_around_it_cannot_be_inpainted() -> None:
    for spec in ("inputs", "channels"):
        with pytest.raises(InvalidParameter, match="covers everything, so nothing lies around it"):
            resolve("inpaint", IMAGE, segments=resolve_groups(spec, IMAGE))


def test_backgrounds_that_do_not_fit_are_refused() -> None:
    rows = numbers(4, 5)
    with pytest.raises(InvalidParameter, match=r"the background has shape \[4, 6\], expected \[B, 5\]"):
        resolve("background", ROWS, background={"x": numbers(4, 6)})
    for weight in ([1, 2], [1, 1, 1, -1], [0, 0, 0, 0], [1, 1, 1, np.nan]):
        with pytest.raises(InvalidParameter, match="expected 4 background weights of at least 0"):
            resolve("background", ROWS, background={"x": rows}, background_weight=np.array(weight, dtype=float))
    two = {"a": numbers(2, 3), "b": numbers(2, 3)}
    with pytest.raises(InvalidParameter, match="needs the same number of rows"):
        resolve("background", two, background={"a": numbers(4, 3), "b": numbers(5, 3)})


def test_the_schema_is_json_and_names_every_kind() -> None:
    one = json.loads(json.dumps(SCHEMA))["anyOf"][-1]["additionalProperties"]
    kinds = [next(iter(member["properties"])) for member in one["anyOf"][1:]]
    with pytest.raises(InvalidParameter, match="expected one of " + ", ".join(kinds)):
        resolve("zeros", IMAGE)
