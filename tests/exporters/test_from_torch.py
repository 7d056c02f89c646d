"""A torch module leaves as a file that computes the same for any number of rows, and tells nothing of its origin."""

import hashlib
import logging
import warnings

import numpy as np
import onnx
import pytest
import torch

import exporters
from engine import StoredModel


class Two(torch.nn.Module):
    """Numbers and codes, summed over an embedding."""

    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(7, 3)
        self.last = torch.nn.Linear(5, 2)

    def forward(self, numbers, codes):
        return self.last(torch.cat([numbers, self.table(codes).sum(dim=1)], dim=1))


class Looping(torch.nn.Module):
    def forward(self, x):
        while x.sum() > 1:
            x = x / 2
        return x


NUMBERS = np.random.default_rng(0).normal(size=(9, 2)).astype(np.float32)
CODES = np.random.default_rng(1).integers(0, 7, (9, 4))


@pytest.fixture(scope="module")
def two():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Two().eval()


@pytest.fixture(scope="module")
def data(two):
    return exporters.export_torch(two, [NUMBERS[:2], CODES[:2]], ["numbers", "codes"], ["y"])


@pytest.mark.parametrize("rows", [1, 2, 9])
def test_any_number_of_rows_gets_the_modules_answer(two, data, engine, rows):
    artifact = StoredModel(
        hashlib.sha256(data).hexdigest(), {"numbers": "item", "codes": "item"}, {"y": "item"}, lambda: data
    )
    feeds = {"numbers": NUMBERS[:rows], "codes": CODES[:rows]}
    with torch.no_grad():
        expected = two(torch.from_numpy(NUMBERS[:rows]), torch.from_numpy(CODES[:rows])).numpy()
    assert engine.run(artifact, feeds).outputs["y"] == pytest.approx(expected, abs=1e-6)


def test_the_file_is_plain(data):
    read = onnx.load_model_from_string(data)
    assert [(entry.domain, entry.version) for entry in read.opset_import] == [("", 18)]
    assert read.ir_version <= 10
    assert [value.name for value in read.graph.input] == ["numbers", "codes"]
    assert [value.name for value in read.graph.output] == ["y"]
    assert [value.type.tensor_type.shape.dim[0].dim_param for value in [*read.graph.input, *read.graph.output]] == [
        "N"
    ] * 3
    assert not any(tensor.external_data for tensor in read.graph.initializer)


def test_nothing_tells_where_it_was_made(data):
    for trace in (b"stack_trace", b".py", b"/home", b"/usr", b"/tmp", __name__.encode(), b"Two"):
        assert trace not in data


def test_the_check_for_traces_can_fail(two):
    """torch itself leaves them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        free = torch.export.Dim("N")
        inputs = (torch.from_numpy(NUMBERS[:2]), torch.from_numpy(CODES[:2]))
        program = torch.onnx.export(
            two, inputs, dynamo=True, opset_version=18, dynamic_shapes=({0: free}, {0: free}), verbose=False
        )
    assert b"stack_trace" in program.model_proto.SerializeToString()
    assert b".py" in program.model_proto.SerializeToString()


def test_equal_weights_give_equal_bytes(two, data):
    again = exporters.export_torch(two, [NUMBERS[2:5], CODES[2:5]], ["numbers", "codes"], ["y"])
    assert again == data


def test_it_says_nothing_and_leaves_the_module_as_it_was(two, capfd, caplog):
    two.train()
    exporters.export_torch(two, [NUMBERS[:2], CODES[:2]], ["numbers", "codes"], ["y"])
    assert two.training
    two.eval()
    assert capfd.readouterr() == ("", "")
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG]


def test_dropout_is_off_in_the_export(engine):
    net = torch.nn.Sequential(torch.nn.Linear(2, 50), torch.nn.Dropout(0.9), torch.nn.Linear(50, 1)).train()
    data = exporters.export_torch(net, [NUMBERS[:2]], ["x"], ["y"])
    assert not any(
        "Random" in node.op_type or node.op_type == "Dropout" for node in onnx.load_model_from_string(data).graph.node
    )


def test_what_torch_cannot_say_is_refused_by_name():
    with pytest.raises(exporters.UnsupportedModel, match="torch cannot export Looping to ONNX"):
        exporters.export_torch(Looping(), [NUMBERS[:2]], ["x"], ["y"])


def test_one_example_row_is_too_few(two):
    with pytest.raises(exporters.InvalidExport, match="1 rows, expected 2 or more"):
        exporters.export_torch(two, [NUMBERS[:1], CODES[:1]], ["numbers", "codes"], ["y"])


def test_an_input_without_an_example_is_refused(two):
    with pytest.raises(exporters.InvalidExport, match="1 example inputs came for 2 input names"):
        exporters.export_torch(two, [NUMBERS[:2]], ["numbers", "codes"], ["y"])
