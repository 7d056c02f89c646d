"""One engine, one small trained network and its export for all tests of this room; and models made by hand."""

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

import exporters
from engine import InProcessEngine
from model_store import Baseline, Feature, InputSpec

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def engine():
    engine = InProcessEngine(max_batch=256, threads=1)
    yield engine
    engine.close()


class Units(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("units", torch.tensor([10.0, 1.0, 100.0]))

    def forward(self, x):
        return x / self.units


class Small(torch.nn.Module):
    """Three unlike columns -> probabilities of two classes; ``network`` gives the logits."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.network = torch.nn.Sequential(Units(), torch.nn.Linear(3, 6), torch.nn.Tanh(), torch.nn.Linear(6, 2))

    def forward(self, x):
        return torch.softmax(self.network(x), dim=1)


@pytest.fixture(scope="session")
def small():
    return Small().eval()


ROWS = (np.random.default_rng(5).normal(size=(40, 3)) * [10.0, 1.0, 100.0]).astype(np.float32)
NAMES = ("age", "ratio", "income")
SPEC = InputSpec("x", "tabular", "float32", ["N", 3], 0)
FEATURES = [Feature(name=name, input="x", index=place) for place, name in enumerate(NAMES)]


def answers(small, rows):
    with torch.no_grad():
        return small(torch.from_numpy(rows)).numpy()


@pytest.fixture(scope="session")
def exported(small):
    model = exporters.export_torch(small, [ROWS[:3]], ["x"], ["probabilities"])
    return exporters.describe(
        model,
        name="small",
        inputs=[SPEC],
        outputs=[exporters.output_spec(model, "probabilities", "probabilities", class_names=["no", "yes"])],
        features=FEATURES,
        training={"x": ROWS},
        background={"x": ROWS[20:]},
        method="exact_shap",
        baseline=Baseline("background_mean"),
        examples=[{"instance": instance(ROWS[0]), "label": "no"}],
    )


def instance(row):
    return {name: float(value) for name, value in zip(NAMES, row, strict=True)}


@pytest.fixture
def evidence(small):
    return exporters.Evidence(
        rows=list(range(100, 120)),
        instances=[instance(row) for row in ROWS[:20]],
        expected={"probabilities": answers(small, ROWS[:20])},
    )


@pytest.fixture(scope="session")
def made():
    """Makes models by hand."""
    return model


def model(nodes, inputs, outputs, weights=(), opset=18, **more):
    """An ONNX model of nodes (op, inputs, outputs, attributes), tensors (name: (type, shape)) and named arrays."""
    graph = helper.make_graph(
        [helper.make_node(op, list(given), list(made), **attributes) for op, given, made, attributes in nodes],
        "made by hand",
        [helper.make_tensor_value_info(name, *spec) for name, spec in inputs.items()],
        [helper.make_tensor_value_info(name, *spec) for name, spec in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in dict(weights).items()],
        **more,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    onnx.checker.check_model(made)
    return made
