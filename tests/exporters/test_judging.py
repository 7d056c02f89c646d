"""Each judge passes what is right and fails what is not, on models of every kind that it knows."""

import captum.attr
import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

import explain
import exporters
from exporters.case import case_of_arrays
from exporters.examining import judge
from exporters.judging import COALITION_METHODS, SLOPE_METHODS, Unjudged
from exporters.judging.source import MAPS, SOURCE_METHODS
from exporters.judging.torch_judge import TorchJudge
from model_store import Baseline, Feature, ImageSpec, InputSpec

RNG = np.random.default_rng(2)
NUMBERS = RNG.normal(size=(24, 3)).astype(np.float32)
CODES = RNG.integers(0, 4, (24, 2))
PICTURES = RNG.uniform(0, 255, (12, 1, 8, 8)).astype(np.float32)


class Coded(torch.nn.Module):
    """Numbers and codes, one embedding, smooth."""

    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(8, 2)
        self.layers = torch.nn.Sequential(torch.nn.Linear(7, 6), torch.nn.SiLU(), torch.nn.Linear(6, 3))
        self.register_buffer("offsets", torch.tensor([0, 4]))

    def forward(self, numbers, codes):
        return self.layers(torch.cat([numbers / 2, self.table(codes + self.offsets).flatten(1)], dim=1))


def convolutions():
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 3, 3, padding=1),
        torch.nn.BatchNorm2d(3),
        torch.nn.ReLU(),
        torch.nn.AvgPool2d(2),
        torch.nn.Conv2d(3, 4, 3, padding=1, bias=False),
        torch.nn.BatchNorm2d(4),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(4, 2),
    )


class Probabilities(torch.nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, *inputs):
        return torch.softmax(self.network(*inputs), dim=1)


def described(network, inputs, specs, features, background, baseline):
    served = Probabilities(network).eval()
    model = exporters.export_torch(served, [array[:3] for array in inputs.values()], list(inputs), ["probabilities"])
    return exporters.describe(
        model,
        name="judged",
        inputs=specs,
        outputs=[exporters.output_spec(model, "probabilities", "probabilities")],
        features=features,
        background=background,
        baseline=baseline,
    )


@pytest.fixture(scope="module")
def coded(engine):
    torch.manual_seed(4)
    network = Coded().eval()
    inputs = {"numbers": NUMBERS, "codes": CODES}
    features = [Feature(name=f"n{place}", input="numbers", index=place) for place in range(3)]
    features += [Feature(name=f"c{place}", input="codes", index=place) for place in range(2)]
    specs = [
        InputSpec("numbers", "tabular", "float32", ["N", 3], 0),
        InputSpec("codes", "tabular", "int64", ["N", 2], 0),
    ]
    background = {name: array[12:] for name, array in inputs.items()}
    return network, of(network, inputs, specs, features, background, Baseline("background_mean"), engine)


@pytest.fixture(scope="module")
def picture(engine):
    torch.manual_seed(5)
    network = convolutions()
    for layer in network:
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(layer.weight, 0.5, 1.5)
            torch.nn.init.normal_(layer.bias, std=0.2)
    network.eval()
    specs = [InputSpec("x", "image", "float32", ["N", 1, 8, 8], 0, ImageSpec(8, 8, "L", "NCHW"))]
    return network, of(network, {"x": PICTURES}, specs, [], {"x": PICTURES[6:]}, Baseline("constant", 0.0), engine)


def of(network, inputs, specs, features, background, baseline, engine):
    exported = described(network, inputs, specs, features, background, baseline)
    rows = {name: array[:3] for name, array in inputs.items()}
    return case_of_arrays(exported, rows, [0, 1, 2], engine)


def offered(case):
    return case.manifest.explanation.methods


def test_every_offered_method_of_a_picture_network_has_a_judge(picture):
    network, case = picture
    for method in offered(case):
        found = judge(case, method, network)
        assert found.errors.shape == (3,)
        assert found.errors.max() <= found.tolerance, method
    assert set(MAPS) < set(offered(case))


def test_every_offered_method_of_numbers_and_codes_has_a_judge(coded):
    network, case = coded
    refusing = {"input_x_gradient", "guided_backprop", "occlusion"}
    for method in set(offered(case)) - refusing:
        found = judge(case, method, network)
        assert found.errors.max() <= found.tolerance, method
    assert {"deep_shap", "exact_shap", "expected_gradients"} <= set(offered(case))


def wrong_in_one_place(monkeypatch, factor=1.01):
    """From now on the largest value of every explanation is wrong."""

    def attribute(*arguments, **options):
        found = original(*arguments, **options)
        for array in found.values.values():
            flat = array.reshape(len(array), -1)
            flat[np.arange(len(flat)), np.abs(flat).argmax(axis=1)] *= factor
        return found

    original = explain.attribute
    monkeypatch.setattr(explain, "attribute", attribute)


EVERYWHERE = [name for name in COALITION_METHODS if name not in ("tree_shap", "linear_shap")]


@pytest.mark.parametrize("method", [*EVERYWHERE, *SOURCE_METHODS, "occlusion"])
def test_every_judge_fails_an_attribution_that_is_wrong_in_one_place(method, picture, coded, monkeypatch):
    network, case = coded if method in ("exact_shap", "deeplift", "deep_shap", "lime") else picture
    honest = judge(case, method, network)
    wrong_in_one_place(monkeypatch)
    wrong = judge(case, method, network)
    assert honest.errors.max() <= honest.tolerance
    assert wrong.errors.min() > wrong.tolerance


@pytest.mark.parametrize(
    ("estimator", "method"),
    [
        (RandomForestClassifier(4, max_depth=3, random_state=0), "tree_shap"),
        (LogisticRegression(), "linear_shap"),
    ],
)
def test_models_of_scikit_learn_are_judged_by_their_predictions(estimator, method, engine, monkeypatch):
    estimator.fit(NUMBERS, (NUMBERS[:, 0] * NUMBERS[:, 1] > 0).astype(int))
    made = exporters.export_sklearn(estimator, [exporters.Column(name) for name in "abc"])
    exported = exporters.describe(
        made.model,
        name="forest",
        inputs=made.inputs,
        outputs=made.outputs,
        features=made.features,
        background={"features": NUMBERS[12:]},
    )
    case = case_of_arrays(exported, {"features": NUMBERS[:3]}, [0, 1, 2], engine)
    for each in {method, "exact_shap", "kernel_shap", "partition_shap"}:
        found = judge(case, each, None)
        assert found.errors.max() <= found.tolerance, each
    wrong_in_one_place(monkeypatch)
    wrong = judge(case, method, None)
    assert wrong.errors.max() > wrong.tolerance


@pytest.fixture(scope="module")
def plain(engine):
    torch.manual_seed(6)
    network = torch.nn.Sequential(torch.nn.Linear(3, 6), torch.nn.SiLU(), torch.nn.Linear(6, 3)).eval()
    features = [Feature(name=f"n{place}", input="x", index=place) for place in range(3)]
    specs, background = [InputSpec("x", "tabular", "float32", ["N", 3], 0)], {"x": NUMBERS[12:]}
    return of(network, {"x": NUMBERS}, specs, features, background, Baseline("background_mean"), engine)


@pytest.mark.parametrize("method", sorted(SLOPE_METHODS))
def test_differences_judge_where_there_is_no_network(method, plain, monkeypatch):
    found = judge(plain, method, None)
    assert found.judge == "central differences of the served file"
    assert found.errors.max() <= found.tolerance
    wrong_in_one_place(monkeypatch, 1.2)
    wrong = judge(plain, method, None)
    assert wrong.errors.min() > wrong.tolerance


def test_a_probability_that_is_rounded_to_nothing_is_no_judge(engine):
    steep = torch.nn.Linear(3, 3)
    torch.nn.init.constant_(steep.bias, 0.0)
    steep.weight.data = 1e3 * torch.eye(3)
    features = [Feature(name=f"n{place}", input="x", index=place) for place in range(3)]
    specs = [InputSpec("x", "tabular", "float32", ["N", 3], 0)]
    case = of(steep, {"x": NUMBERS}, specs, features, {"x": NUMBERS}, Baseline("background_mean"), engine)
    for method in ("saliency", "kernel_shap"):
        with pytest.raises(Unjudged, match="rounds a probability to 0"):
            judge(case, method, None)


def test_a_step_that_vanishes_is_no_judge(exported, engine):
    case = case_of_arrays(exported, {"x": exported.background["x"][:2]}, [0, 1], engine)
    far = case.moved({"x": case.inputs["x"] + np.float32(1e12)})
    with pytest.raises(Unjudged, match="vanishes beside"):
        judge(far, "saliency", None)


def test_without_a_network_codes_have_no_path(coded):
    _, case = coded
    with pytest.raises(Unjudged, match="a path between two codes"):
        judge(case, "integrated_gradients", None)
    assert judge(case, "saliency", None).errors.max() <= 5e-2, "the numbers among the inputs are judged"


def captum_says(method, network, x, baseline, target):
    if method == "deeplift":
        return captum.attr.DeepLift(network).attribute(x, baseline, target=target)
    return captum.attr.GuidedBackprop(network).attribute(x, target=target)


@pytest.mark.parametrize("method", ["deeplift", "guided_backprop"])
@pytest.mark.filterwarnings("ignore:Setting")
def test_the_rules_in_torch_are_captums(method, picture):
    """On a network of ReLU and linear parts, where Captum's hooks are right."""
    network, _ = picture
    double = torch.nn.Sequential(*network).double()
    x, b, target = PICTURES[:3].astype(np.float64), np.zeros((3, 1, 8, 8)), np.array([0, 1, 1])
    try:
        tensors = torch.from_numpy(x).requires_grad_(), torch.from_numpy(b)
        theirs = captum_says(method, double, *tensors, torch.from_numpy(target)).detach().numpy()
        rule = "rescale" if method == "deeplift" else "guided"
        ours = TorchJudge(network, ["x"], rule)
        if method == "deeplift":
            both = ours.gradient({"x": np.concatenate([x, b])}, np.tile(target, 2))["x"]
            assert both[:3] * (x - b) == pytest.approx(theirs, rel=1e-6, abs=1e-12)
        else:
            assert ours.gradient({"x": x}, target)["x"] == pytest.approx(theirs, rel=1e-9, abs=1e-15)
    finally:
        network.float()


class Pooled(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.part = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2))
        self.last = torch.nn.Linear(18, 2)

    def forward(self, x):
        return self.last(self.part(x).flatten(1))


class Functional(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.last = torch.nn.Linear(64, 2)

    def forward(self, x):
        return self.last(torch.nn.functional.relu(x).flatten(1))


class Twice(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.relu, self.last = torch.nn.ReLU(), torch.nn.Linear(64, 2)

    def forward(self, x):
        return self.last(self.relu(self.relu(x) - 100).flatten(1))


class Product(Twice):
    def forward(self, x):
        return self.last((x * x).flatten(1))


class Branching(Twice):
    def forward(self, x):
        return self.last(x.flatten(1)) if x.sum() > 0 else self.last(-x.flatten(1))


@pytest.mark.parametrize(
    ("network", "rule", "reason"),
    [
        (Pooled(), "rescale", "no rescale rule for MaxPool2d"),
        (Functional(), "rescale", "no rescale rule for relu"),
        (Functional(), "guided", "calls relu as a function"),
        (Twice(), "rescale", "uses the module relu twice"),
        (Product(), "rescale", "no rescale rule for mul"),
        (Branching(), "rescale", "cannot be traced"),
    ],
)
def test_a_rule_that_cannot_be_put_in_force_is_no_judge(network, rule, reason):
    with pytest.raises(Unjudged, match=reason):
        TorchJudge(network, ["x"], rule)
