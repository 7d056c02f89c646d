"""A network of numbers and codes, its export with features in an order of their own, and how its columns lie."""

import numpy as np
import pytest
import torch

import exporters
from model_store import Baseline, Feature, InputSpec, Level

DRAW = np.random.default_rng(8)
X = DRAW.normal(size=(30, 3)).astype(np.float32)
CODES = np.column_stack([DRAW.integers(0, 3, 30), DRAW.integers(0, 2, 30)]).astype(np.int64)
ORDER = [("codes", 0), ("x", 0), ("codes", 1), ("x", 2), ("x", 1)]


class Mixed(torch.nn.Module):
    """x [N, 3] and codes [N, 2] -> logits of three classes; ``forward`` gives the probabilities."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(4)
            self.colours = torch.nn.Embedding(3, 2)
            self.shops = torch.nn.Embedding(2, 2)
            self.network = torch.nn.Sequential(torch.nn.Linear(7, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))

    def logits(self, x, codes):
        return self.network(torch.cat([x, self.colours(codes[:, 0]), self.shops(codes[:, 1])], dim=1))

    def forward(self, x, codes):
        return torch.softmax(self.logits(x, codes), dim=1)


class Source:
    """The torch original beside its export."""

    def __init__(self):
        self.network = Mixed().eval()
        self.model = exporters.export_torch(self.network, [X[:3], CODES[:3]], ["x", "codes"], ["probabilities"])
        self.x, self.codes = X, CODES
        self.exported = exporters.describe(
            self.model,
            name="mixed",
            inputs=[
                InputSpec("x", "tabular", "float32", ["N", 3], 0),
                InputSpec("codes", "tabular", "int64", ["N", 2], 0),
            ],
            outputs=[
                exporters.output_spec(self.model, "probabilities", "probabilities", class_names=["low", "mid", "top"])
            ],
            features=[
                Feature(name="colour", label="Colour", kind="category", input="codes", index=0, levels=levels("rgb")),
                Feature(name="age", unit="years", input="x", index=0),
                Feature(name="shop", kind="category", input="codes", index=1, levels=levels("ab")),
                Feature(name="income", input="x", index=2),
                Feature(name="ratio", input="x", index=1),
            ],
            training={"x": X},
            background={"x": X[20:], "codes": CODES[20:]},
            method="exact_shap",
            baseline=Baseline("background_mean"),
        )

    def table(self, rows):
        """The rows as columns in the order of the features."""
        arrays = {"x": self.x[rows], "codes": self.codes[rows]}
        return np.stack([arrays[name][:, index] for name, index in ORDER], axis=1).astype(np.float64)

    def on_table(self, table):
        """The original's logits of rows of columns, by hand."""
        parts = {place: table[:, column] for column, place in enumerate(ORDER)}
        x = np.stack([parts["x", i] for i in range(3)], axis=1).astype(np.float32)
        codes = np.stack([parts["codes", i] for i in range(2)], axis=1).astype(np.int64)
        with torch.no_grad():
            return self.network.logits(torch.from_numpy(x), torch.from_numpy(codes)).numpy().astype(np.float64)

    def instances(self, rows):
        """The rows as a client sends them."""
        found = []
        for x, (colour, shop) in zip(self.x[rows].tolist(), self.codes[rows].tolist(), strict=True):
            found.append({"colour": "rgb"[colour], "age": x[0], "shop": "ab"[shop], "income": x[2], "ratio": x[1]})
        return found


def levels(values):
    return [Level(value, f"the {value}") for value in values]


@pytest.fixture(scope="session")
def source():
    return Source()
