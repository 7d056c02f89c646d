"""One thread leads: jobs that wait elsewhere never keep others from being taken, and none is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from server.pool import PATIENCE, Pool, step_aside


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it never came to this"
        time.sleep(0.001)


def test_short_jobs_are_all_done_in_order_by_one_thread() -> None:
    pool, done, names = Pool(8), [], set()

    def job(number: int) -> None:
        done.append(number)
        names.add(threading.current_thread().name)

    def fill() -> None:
        for number in range(1000):
            pool.submit(lambda number=number: job(number))

    pool.submit(fill)  # while it fills, it leads, so nobody else takes any
    until(lambda: len(done) == 1000)
    assert done == list(range(1000))
    assert len(names) == 1


def test_jobs_that_step_aside_are_under_way_together() -> None:
    pool, barrier = Pool(4), threading.Barrier(5, timeout=60)

    def job() -> None:
        step_aside()
        step_aside()  # once is enough: the second time another one leads
        barrier.wait()

    for _ in range(4):
        pool.submit(job)
    barrier.wait()


def test_a_leader_that_forgets_to_step_aside_is_replaced_when_looks_find_it_idle() -> None:
    pool, hold, done = Pool(2), threading.Event(), threading.Event()
    begun = threading.Event()

    def forgetful() -> None:
        begun.set()
        hold.wait(60)

    pool.submit(forgetful)
    begun.wait(60)
    pool.submit(done.set)
    for _ in range(PATIENCE):
        assert pool.look()  # it may just have begun
    assert not done.is_set()
    pool.look()
    assert done.wait(60)
    assert not pool.look()
    hold.set()
    again = threading.Event()
    pool.submit(again.set)
    assert again.wait(60)


def test_none_is_lost_when_many_threads_submit_and_jobs_step_aside_at_random() -> None:
    pool, lock, done = Pool(5), threading.Lock(), 0

    def job(number: int) -> None:
        nonlocal done
        if number % 3:
            step_aside()
        if number % 7 == 0:
            time.sleep(0.0005)
        with lock:
            done += 1

    def submit(first: int) -> None:
        for number in range(first, first + 500):
            pool.submit(lambda number=number: job(number))
            if number % 50 == 0:
                pool.look()

    threads = [threading.Thread(target=submit, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until(lambda: not pool.look() and done == 2000)


def test_stepping_aside_is_nothing_outside_a_pool() -> None:
    step_aside()
