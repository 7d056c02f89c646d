"""`glasshouse tune` measures, shows and keeps; and forgets."""

from __future__ import annotations

import json

import numpy as np

import model_store

QUICK = ("--seconds", "0.05", "--max-batch", "2")


def test_the_choice_is_shown_and_kept(glasshouse, store):
    done = glasshouse("tune", "linear", *QUICK)
    assert done.exit_code == 0, done.output
    kept = store.resolve("linear").tuning()
    assert kept.max_batch in (1, 2)
    table = [line.split() for line in done.output.splitlines() if line.split()[:1] == ["1"]]
    point = next(each for each in kept.measured.table if (each.threads, each.instances, each.batch) == (1, 1, 2))
    assert [row[:3] for row in table][:2] == [["1", "1", "1"], ["1", "1", "2"]]
    assert np.isclose(float(table[1][3]), point.milliseconds, rtol=0.01)
    chosen = f"{kept.threads} threads, {kept.instances} runs at a time, {kept.max_batch} items in a run"
    assert f"Chosen: {chosen}, 0 ms of waiting for company, " in done.output
    assert f"tuned: {chosen}, " in glasshouse("models", "show", "linear").output
    assert "Kept with linear version 1." in done.output
    assert store.verify() == []


def test_as_json_and_without_keeping_it(glasshouse, store):
    done = glasshouse("tune", "linear", *QUICK, "--json", "--no-store", "--deadline-seconds", "2")
    found = model_store.Tuning.from_bytes(done.output.encode())
    assert (found.deadline_seconds, json.loads(done.output)["schema_version"]) == (2.0, 1)
    assert store.resolve("linear").tuning() is None


def test_what_was_kept_is_forgotten(glasshouse, store):
    store.set_tuning("linear", 1, model_store.Tuning(max_batch=3))
    done = glasshouse("tune", "linear", "--forget")
    assert done.output == "linear version 1 is run as the server's settings say.\n"
    assert store.resolve("linear").tuning() is None


def test_what_cannot_be_measured_says_why(glasshouse, store):
    assert "brightness" in store.models()
    done = glasshouse("tune", "brightness", *QUICK)
    assert done.exit_code == 1
    assert "it has neither examples nor a background" in done.stderr
    assert glasshouse("tune", "nothing").exit_code == 3
