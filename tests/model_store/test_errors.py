"""Error texts: one tree, bounded, and never an error of their own."""

import inspect

from hypothesis import given
from hypothesis import strategies as st

from model_store import InvalidInput, StoreError, errors
from model_store.errors import shown

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(ANYTHING)
def test_any_value_is_shown_shortly(value):
    assert len(shown(value)) < 2000


def test_huge_values_are_shown_shortly():
    for value in (10**100_000, "x" * 10**6, [list(range(1000))] * 1000, {"k" * 1000: "v" * 1000}):
        assert len(shown(value)) < 500


def test_every_error_of_the_room_hangs_on_one_root_and_is_drawn():
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)]
    assert len(kinds) > 10
    for kind in kinds:
        assert issubclass(kind, StoreError)
        assert kind.__name__ in errors.__doc__
        assert kind.__name__ in errors.__all__


def test_an_input_error_has_its_three_parts():
    error = InvalidInput("instances[0].age", "'x'", "a number")
    assert (error.field, error.came, error.expected) == ("instances[0].age", "'x'", "a number")
    assert str(error) == "instances[0].age: got 'x', expected a number"
