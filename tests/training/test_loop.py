"""The loop keeps the best weights, stops when nothing improves, repeats itself by seed, and is quiet."""

import logging

import numpy as np
import pytest
import torch
from torch.nn import functional

from training.loop import Part, fit, seeded
from training.recipe import Schedule

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(64, 3)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)
TRAIN, VALIDATION = Part([X[:48]], Y[:48]), Part([X[48:]], Y[48:])
SHORT = Schedule(epochs=4, batch_size=16, learning_rate=1e-2, weight_decay=0.0, patience=10)


def network(seed=0):
    with seeded(seed):
        return torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Dropout(0.2), torch.nn.Linear(8, 2))


def run(seed=0, schedule=SHORT, **changes):
    net = network(seed)
    arguments = {"loss": functional.cross_entropy, "schedule": schedule, "seed": seed, **changes}
    return net, fit(net, TRAIN, VALIDATION, **arguments)


def weights(net):
    return torch.cat([value.flatten() for value in net.state_dict().values()])


def test_equal_seeds_give_equal_weights_and_other_seeds_others():
    first, again, other = run(seed=1)[0], run(seed=1)[0], run(seed=2)[0]
    assert torch.equal(weights(first), weights(again))
    assert not torch.equal(weights(first), weights(other))


def test_the_best_weights_are_put_back():
    wild = Schedule(epochs=12, batch_size=16, learning_rate=0.5, weight_decay=0.0, patience=12)
    net, fitted = run(schedule=wild)
    with torch.no_grad():
        loss = functional.cross_entropy(net(torch.from_numpy(X[48:])), torch.from_numpy(Y[48:]))
    assert float(loss) == pytest.approx(fitted.validation_loss, rel=1e-5)
    assert fitted.best_epoch < fitted.epochs_run == 12
    assert not net.training


def test_it_stops_when_nothing_improves():
    still = Schedule(epochs=50, batch_size=16, learning_rate=0.0, weight_decay=0.0, patience=3)
    assert run(schedule=still)[1].epochs_run == 4
    assert run(schedule=still)[1].best_epoch == 1


def test_torch_is_left_as_it_was():
    torch.manual_seed(7)
    before = torch.get_rng_state()
    run()
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.are_deterministic_algorithms_enabled()


def test_it_says_nothing_of_itself(capfd, caplog):
    with caplog.at_level(logging.INFO):
        run()
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_the_bar_shows_the_epochs_and_ends(capfd):
    run(title="small", progress=True)
    shown = capfd.readouterr().err
    assert "training small" in shown
    assert "4/4" in shown


def test_one_left_over_row_is_not_a_batch_of_its_own():
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2))
    odd = Part([X[:33]], Y[:33])
    assert fit(net, odd, VALIDATION, loss=functional.cross_entropy, schedule=SHORT, seed=0).epochs_run == 4
