"""Loads share a few threads: enough that one that hangs holds up no other."""

from __future__ import annotations

import threading

from server.loaders import Loaders


def test_loads_run_beside_each_other_in_threads_that_are_used_again() -> None:
    loaders, together = Loaders(most=3), threading.Barrier(4)
    seen: set[int] = set()

    def work() -> None:
        seen.add(threading.get_ident())
        together.wait(30)

    for _ in range(5):
        for _ in range(3):
            loaders.start(work)
        together.wait(30)
    assert len(seen) == 3
    loaders.close()


def test_one_after_the_other_they_need_one_thread() -> None:
    loaders = Loaders()
    seen: set[int] = set()
    for _ in range(20):
        done = threading.Event()
        loaders.start(lambda done=done: (seen.add(threading.get_ident()), done.set())[1])  # type: ignore[misc]
        assert done.wait(30)
    assert len(seen) <= 2, "the one before may not yet be idle when the next comes"
    loaders.close()


def test_one_that_hangs_holds_up_no_other_and_more_than_there_are_threads_wait() -> None:
    loaders, go_on, done = Loaders(most=2), threading.Event(), threading.Semaphore(0)
    loaders.start(lambda: (go_on.wait(30), done.release())[1])
    for _ in range(10):
        loaders.start(done.release)
    for _ in range(10):
        assert done.acquire(timeout=30)
    go_on.set()
    assert done.acquire(timeout=30)
    loaders.close()


def test_closed_its_threads_end_when_they_have_done_what_came_before() -> None:
    loaders, done = Loaders(most=1), threading.Semaphore(0)
    threads: list[threading.Thread] = []
    for _ in range(3):
        loaders.start(lambda: (threads.append(threading.current_thread()), done.release())[1])
    loaders.close()
    for _ in range(3):
        assert done.acquire(timeout=30)
    threads[0].join(30)
    assert not threads[0].is_alive()
