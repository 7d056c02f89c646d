"""The networks compute what their formulas say, from the numbers a client sends."""

import numpy as np
import pytest
import torch

from training.nets import Jitter, MixedNet, PictureNet, Probabilities, TabularNet

RANDOM = np.random.default_rng(0)


def silu(x):
    return x / (1 + np.exp(-x))


def affine(layer, x):
    return x @ layer.weight.detach().double().numpy().T + layer.bias.detach().double().numpy()


def test_a_tabular_net_scales_by_the_training_rows_and_answers_in_the_units_of_the_labels():
    rows = RANDOM.normal([10.0, 1000.0, 5.0], [2.0, 300.0, 0.0], (50, 3)).astype(np.float32)
    labels = RANDOM.normal(150.0, 70.0, 50).astype(np.float32)
    net = TabularNet(rows, outputs=1, hidden=(4,), dropout=0.5, values=labels).eval()
    spread = np.array([rows[:, 0].std(dtype=float), rows[:, 1].std(dtype=float), 1.0])
    hidden = silu(affine(net.layers[0], (rows - rows.mean(axis=0, dtype=float)) / spread))
    expected = affine(net.layers[3], hidden) * labels.std() + labels.mean()
    with torch.no_grad():
        assert net(torch.from_numpy(rows)).numpy() == pytest.approx(expected, rel=1e-4)


def test_a_mixed_net_looks_each_attribute_up_in_its_own_rows_of_the_table():
    levels = [3, 2, 4]
    rows = RANDOM.normal(size=(20, 2)).astype(np.float32)
    codes = np.stack([RANDOM.integers(0, count, 20) for count in levels], axis=1)
    net = MixedNet(rows, levels, outputs=2, width=3, hidden=(5,), dropout=0.0).eval()
    table = net.embedding.weight.detach().double().numpy()
    tables = np.split(table, np.cumsum(levels)[:-1])
    coded = [np.eye(count)[codes[:, place]] @ tables[place] for place, count in enumerate(levels)]
    scaled = (rows - rows.mean(axis=0, dtype=float)) / rows.std(axis=0, dtype=float)
    expected = affine(net.layers[3], silu(affine(net.layers[0], np.concatenate([scaled, *coded], axis=1))))
    with torch.no_grad():
        assert net(torch.from_numpy(rows), torch.from_numpy(codes)).numpy() == pytest.approx(
            expected, rel=1e-4, abs=1e-5
        )


def test_probabilities_are_the_softmax_of_the_logits():
    logits = torch.nn.Linear(4, 3)
    x = torch.randn(5, 4)
    with torch.no_grad():
        powers = np.exp(logits(x).double().numpy())
        assert Probabilities(logits)(x).numpy() == pytest.approx(powers / powers.sum(axis=1, keepdims=True), rel=1e-5)


def test_jitter_varies_training_pictures_and_leaves_served_ones_alone():
    jitter, picture = Jitter(contrast=0.2, brightness=0.2, pixels=2), torch.rand(3, 1, 8, 8)
    torch.manual_seed(0)
    changed = jitter.train()(picture)
    assert changed.shape == picture.shape
    assert not torch.equal(changed, picture)
    assert jitter.eval()(picture) is picture


def test_jitter_without_any_variation_gives_the_picture_back():
    picture = torch.rand(3, 1, 8, 8)
    assert torch.equal(Jitter(contrast=0.0, brightness=0.0, pixels=0).train()(picture), picture)


def test_a_picture_net_pools_where_it_is_told():
    pixels = RANDOM.uniform(0, 255, (4, 1, 28, 28)).astype(np.float32)
    net = PictureNet(pixels, (4, 0, 6), outputs=2, dropout=0.0).eval()
    assert net.blocks(torch.from_numpy(pixels)).shape == (4, 6, 14, 14)
    assert net(torch.from_numpy(pixels)).shape == (4, 2)
