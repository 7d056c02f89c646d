"""What an engine process makes of messages that meet."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from engine.frames import Received, UnknownArtifact, answered, ask
from engine.home import _ran

FEEDS = {"x": np.ones((2, 3), np.float32)}


def test_a_request_with_the_graph_does_not_fail_for_one_without_it(models, make_engine, start, monkeypatch):
    """The one without it came first and began to make the session, for which the other then waits."""
    home, model = make_engine(), models.affine()
    begun, go_on, real = threading.Event(), threading.Event(), Received.serialize

    def slow(artifact):
        if artifact._payload is None:
            begun.set()
            assert go_on.wait(30)
        return real(artifact)

    monkeypatch.setattr(Received, "serialize", slow)
    without = start(_ran, home, ask(model, FEEDS, "predict", None, ""))
    assert begun.wait(30)
    whole = start(_ran, home, ask(model, FEEDS, "predict", None, "", model.serialize()))
    time.sleep(0.05)  # until it waits; were it late, it would find nothing to wait for and pass
    go_on.set()
    with pytest.raises(UnknownArtifact):
        answered(without.result(30))
    np.testing.assert_allclose(answered(whole.result(30)).outputs["y"], models.affine_formula(FEEDS["x"]), atol=2e-6)


def test_what_was_unloaded_is_asked_for_again(models, make_engine):
    home, model = make_engine(), models.affine()
    answered(_ran(home, ask(model, None, "predict", None, "", model.serialize())))
    answered(_ran(home, ask(model, FEEDS, "predict", None, "")))
    home.unload(model.digest)
    with pytest.raises(UnknownArtifact):
        answered(_ran(home, ask(model, FEEDS, "predict", None, "")))
