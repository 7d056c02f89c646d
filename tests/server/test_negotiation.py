"""``Accept`` as RFC 9110 reads it."""

from __future__ import annotations

import pytest

from server.errors import NotAcceptable
from server.wire.negotiation import JSON, PNG, SVG, choose

OFFERED = (JSON, PNG, SVG)


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (None, JSON),
        ("", JSON),
        ("*/*", JSON),
        ("image/png", PNG),
        ("IMAGE/PNG", PNG),
        ("image/*", PNG),
        ("image/svg+xml", SVG),
        ("image/png;q=0.5, image/svg+xml", SVG),
        ("text/html, image/avif, image/png;q=0.8, */*;q=0.1", PNG),
        ("text/html, */*;q=0.1", JSON),
        ("application/json;q=0, */*", PNG),
        ("image/png;q=0.9, image/*;q=1", SVG),
        ("image/png; charset=x; q=0.1, application/json;q=0.2", JSON),
    ],
)
def test_the_best_liked_form_is_chosen(accept: str | None, chosen: str) -> None:
    assert choose(accept, OFFERED) == chosen


@pytest.mark.parametrize("accept", ["text/html", "image/webp", "image/png;q=0", "nonsense", ";", "*/*;q=0"])
def test_nothing_wanted_is_refused_naming_the_choices(accept: str) -> None:
    with pytest.raises(NotAcceptable) as refused:
        choose(accept, OFFERED)
    assert "image/svg+xml" in str(refused.value)
