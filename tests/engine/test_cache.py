"""Sessions: bounded, made once, and never taken away from who holds them."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

import engine
from engine.cache import SessionCache


class Maker:
    """Stands in for the runtime: counts what it makes, and makes it when told to."""

    def __init__(self, fail=None):
        self.made = []
        self.go = threading.Event()
        self.fail = fail

    def __call__(self, artifact):
        self.made.append(artifact.digest)
        assert self.go.wait(30)
        if self.fail is not None:
            raise self.fail
        return object()


def artifact(digest):
    return engine.StoredModel(digest, {}, {}, lambda: b"")


def test_the_least_recently_used_goes_first():
    make = Maker()
    make.go.set()
    cache = SessionCache(make, limit=2)
    first = cache.get(artifact("a"))
    cache.get(artifact("b"))
    assert cache.get(artifact("a")) is first
    cache.get(artifact("c"))
    assert cache.digests() == ("a", "c")
    assert make.made == ["a", "b", "c"]
    cache.get(artifact("b"))
    assert make.made == ["a", "b", "c", "b"]


def test_many_threads_make_one_session(start, until):
    make = Maker()
    cache = SessionCache(make, limit=2)
    futures = [start(cache.get, artifact("a")) for _ in range(8)]
    until(lambda: make.made == ["a"])
    make.go.set()
    assert len({id(future.result(30)) for future in futures}) == 1
    assert make.made == ["a"]


def test_a_failed_making_fails_all_who_wait_and_is_tried_again(start, until):
    make = Maker(fail=engine.LoadFailed("refused"))
    cache = SessionCache(make, limit=2)
    futures = [start(cache.get, artifact("a")) for _ in range(4)]
    until(lambda: make.made == ["a"])
    make.go.set()
    for future in futures:
        with pytest.raises(engine.LoadFailed, match="refused"):
            future.result(30)
    make.fail = None
    cache.get(artifact("a"))
    assert cache.digests() == ("a",)


def test_a_deadline_ends_the_wait_for_another_threads_making(start, until):
    make = Maker()
    cache = SessionCache(make, limit=2)
    maker = start(cache.get, artifact("a"))
    until(lambda: make.made == ["a"])
    with pytest.raises(engine.DeadlineExceeded, match="while a was being loaded"):
        cache.get(artifact("a"), deadline=time.monotonic() + 0.01)
    make.go.set()
    maker.result(30)


def test_what_is_forgotten_while_it_is_made_is_not_kept(start, until):
    make = Maker()
    cache = SessionCache(make, limit=2)
    maker = start(cache.get, artifact("a"))
    until(lambda: make.made == ["a"])
    cache.forget("a")
    make.go.set()
    maker.result(30)
    assert cache.digests() == ()


def test_an_interrupted_making_leaves_nobody_waiting(start, until):
    make = Maker(fail=KeyboardInterrupt())
    cache = SessionCache(make, limit=2)
    futures = [start(cache.get, artifact("a")) for _ in range(2)]
    until(lambda: make.made == ["a"])
    make.go.set()
    errors = {type(future.exception(30)) for future in futures}
    assert KeyboardInterrupt in errors
    assert errors <= {KeyboardInterrupt, engine.LoadFailed}


def test_a_closed_cache_makes_no_more():
    cache = SessionCache(Maker(), limit=1)
    cache.close()
    with pytest.raises(engine.EngineClosed):
        cache.get(artifact("a"))


def test_a_session_that_is_pushed_out_finishes_its_work(models, make_engine, gate, start):
    home, x = make_engine(session_limit=1), np.ones((1, 3), np.float32)
    running = start(home.run, models.affine(bias=1.0), {"x": x})
    gate.wait_entered()
    other = models.affine(bias=2.0)
    home.load(other)
    assert home.statistics().sessions == (other.digest,)
    gate.open.set()
    np.testing.assert_allclose(running.result(30).outputs["y"], models.affine_formula(x, 1.0), atol=2e-6)


def test_a_graph_has_a_session_for_each_number_of_threads_and_all_are_forgotten():
    make = Maker()
    make.go.set()
    cache = SessionCache(make, 3, threads_of=lambda artifact: artifact.knobs.threads)
    one, two = (engine.StoredModel("a", {}, {}, lambda: b"", knobs=engine.Knobs(threads=count)) for count in (1, 2))
    assert cache.get(one) is not cache.get(two)
    assert cache.get(one) is cache.get(one)
    assert make.made == ["a", "a"]
    assert cache.digests() == ("a",)
    cache.forget("a")
    assert cache.digests() == ()
    cache.get(two)
    assert make.made == ["a", "a", "a"]
