"""What the values of items decide: such models take one item at a time, and say why."""

from __future__ import annotations

import numpy as np
import pytest

import explain
from tests.explain.control import parsed
from tests.explain.graphs import attribute, numbers, serve

ALL = "items are joined along axis 0"


def looped(before: str, trip: str = "", start: str = "", on: str = "Identity (go)", after: str = "") -> explain.Model:
    """y = tanh of x, again and again; `before` makes what the Loop is given, `after` what follows from its output h."""
    text = f"""
    g (float[n, 4] x) => (float[n, 4] y) {{
        {before}
        h, kept = Loop <body = step (int64 i, bool go, float[n, 4] s) => (bool on, float[n, 4] t, float[n, 4] k) {{
                t = Tanh (s)
                k = Neg (t)
                on = {on}
            }}> ({trip}, {start}, x)
        {after}
        y = Mul (h, x)
    }}
    """
    held = {"zero": np.float32(0), "five": np.array(5), "axis": np.array([0]), "yes": np.array(True)}
    return explain.Model(parsed(text, held))


STEPS = "row by row: the values of an item decide how many steps Loop (node 'h') makes"
SUM = "sum = ReduceSum <keepdims = 0> (x)"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"before": "", "trip": "five"}, ALL),
        ({"before": "s = Shape <start = 1> (x) c = Squeeze (s)", "trip": "c"}, ALL),
        ({"before": f"{SUM} c = Cast <to = 7> (sum)", "trip": "c"}, STEPS),
        ({"before": f"{SUM} c = Greater (sum, zero)", "start": "c", "trip": "five"}, STEPS),
        ({"before": "", "start": "yes", "on": "Less (i, five)"}, ALL),
        ({"before": SUM, "start": "yes", "on": "Less (sum, zero)"}, STEPS),
        ({"before": "", "trip": "five", "on": "Identity (go)", "start": "yes"}, ALL),
        ({"before": "p = NonZero (x) s = Shape <start = 1> (p) c = Squeeze (s)", "trip": "c"}, STEPS),
        ({"before": "p = Transpose (x) s = Shape <end = 1> (p) c = Squeeze (s)", "trip": "c"}, ALL),
    ],
)
def test_what_decides_how_long_a_loop_runs(given: dict[str, str], said: str) -> None:
    model = looped(**given)
    assert explain.coverage(model).batching == said
    assert model.row_by_row == (said != ALL)


def test_a_condition_that_steps_make_of_values() -> None:
    """The state that ends the Loop is a constant at first, and made of values only by the second step."""
    text = """
    g (float[n, 4] x) => (float[n, 4] y) {
        y, a, b = Loop <body = step (int64 i, bool go, float[n, 4] s, float c, float d)
            => (bool on, float[n, 4] t, float e, float f) {
                t = Tanh (s)
                f = ReduceMax <keepdims = 0> (s)
                e = Identity (d)
                on = Less (c, one)
            }> (five, yes, x, zero, zero)
    }
    """
    held = {"zero": np.float32(0), "one": np.float32(1), "five": np.array(5), "yes": np.array(True)}
    assert explain.Model(parsed(text, held)).row_by_row


@pytest.mark.parametrize("sized", [True, False])
def test_a_condition_on_what_a_loop_kept(sized: bool) -> None:
    """How many slices were kept is decided by values where the Loop is; the If stands behind it."""
    text = """
    g (float[n, 4] x) => (float[n, 4] y) {
        sum = ReduceSum <keepdims = 0> (x)
        count = Cast <to = 7> (sum)
        h, kept = Loop <body = step (int64 i, bool go, float[n, 4] s) => (bool on, float[n, 4] t, int64 k) {
                t = Tanh (s)
                k = Identity (i)
                on = Identity (go)
            }> (TRIP, , x)
        size = Size (kept)
        large = Greater (size, five)
        y = If <then_branch = t () => (float[n, 4] o) { o = Neg (h) },
                else_branch = e () => (float[n, 4] o) { o = Exp (h) }> (large)
    }
    """
    model = explain.Model(parsed(text.replace("TRIP", "count" if sized else "five"), {"five": np.array(5)}))
    assert model.row_by_row == sized


def test_each_item_takes_its_own_branch() -> None:
    """Two items that choose differently get the attributions that each gets alone."""
    text = """
    g (float[n, 4] x) => (float[n, 4] y) {
        sum = ReduceSum <keepdims = 0> (x)
        c = Greater (sum, zero)
        y = If <then_branch = t () => (float[n, 4] o) { o = Mul (x, x) },
                else_branch = e () => (float[n, 4] o) { o = Mul (x, k) }> (c)
    }
    """
    proto = parsed(text, {"zero": np.float32(0), "k": numbers(4, seed=9)})
    model, x = explain.Model(proto), np.concatenate([np.ones((1, 4)), -np.ones((1, 4))]).astype(np.float32)
    found = attribute(model, {"x": x}, "saliency", target=1, absolute=False)
    expected = np.zeros((2, 4), np.float32)
    expected[0, 1], expected[1, 1] = 2 * x[0, 1], numbers(4, seed=9)[1]
    np.testing.assert_allclose(found.values["x"], expected, atol=1e-6)
    assert explain.coverage(model).batching == (
        "row by row: the values of an item decide which branch If (node 'y') takes"
    )
    together = serve(proto, {"x": x})["y"]
    assert not np.allclose(together[0], serve(proto, {"x": x[:1]})["y"][0])  # which a run of both would not have told
