"""A GRU that was exported with the other meaning is refused, and the refusal says which would be right."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

import exporters
from model_store import InputSpec, OutputSpec

LENGTH, WIDTH, ROWS = 6, 3, 8
X = np.random.default_rng(2).normal(size=(ROWS, LENGTH, WIDTH)).astype(np.float32)


class Listener(torch.nn.Module):
    """A series' last state, read by one number; two layers of it."""

    def __init__(self, kind: str):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            self.stack = getattr(torch.nn, kind)(WIDTH, 5, num_layers=2, batch_first=True)
            self.head = torch.nn.Linear(5, 1)

    def forward(self, x):
        return self.head(self.stack(x)[0][:, -1])


def parts(kind):
    """A real export of the network, and rows with its answers."""
    module = Listener(kind).eval()
    inputs = [InputSpec("x", "tensor", "float32", ["N", LENGTH, WIDTH], 0)]
    outputs = [OutputSpec("value", "value", "float32", ["N", 1], 0)]
    exported = exporters.describe(
        exporters.export_torch(module, [X[:2]], ["x"], ["value"]), name="listener", inputs=inputs, outputs=outputs
    )
    with torch.no_grad():
        expected = {"value": module(torch.from_numpy(X)).numpy()}
    return exported, exporters.Evidence(range(ROWS), X.tolist(), expected)


def changed(exported, change):
    """The export with every recurrent node changed."""
    model = onnx.load_model_from_string(exported.model)
    for node in model.graph.node:
        if node.op_type in ("GRU", "LSTM"):
            change(node)
    return exported.but(model=model.SerializeToString())


def without_reset(node):
    kept = [attribute for attribute in node.attribute if attribute.name != "linear_before_reset"]
    del node.attribute[:]
    node.attribute.extend(kept)


def coupled(node):
    kept = [attribute for attribute in node.attribute if attribute.name != "input_forget"]
    del node.attribute[:]
    node.attribute.extend([*kept, onnx.helper.make_attribute("input_forget", 1)])


def test_a_gru_with_the_other_meaning_is_named(engine):
    exported, evidence = parts("GRU")
    assert exporters.parity(exported, evidence, engine).worst < 1e-5
    with pytest.raises(exporters.ParityFailed, match="linear_before_reset = 0, and with linear_before_reset = 1 it"):
        exporters.parity(changed(exported, without_reset), evidence, engine)


def test_what_turning_it_does_not_mend_is_not_blamed_on_it(engine):
    exported, evidence = parts("GRU")
    value = evidence.expected["value"] + 0.5
    with pytest.raises(exporters.ParityFailed, match=r"it is not registered$"):
        exporters.parity(exported, exporters.Evidence(evidence.rows, evidence.instances, {"value": value}), engine)


def test_no_other_network_is_blamed_for_it(engine):
    exported, evidence = parts("LSTM")
    with pytest.raises(exporters.ParityFailed, match=r"it is not registered$"):
        exporters.parity(changed(exported, coupled), evidence, engine)
