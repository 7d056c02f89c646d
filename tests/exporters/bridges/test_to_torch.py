"""Captum on the served file says what Captum says on the torch original, and what our own programs say."""

from functools import partial

import numpy as np
import pytest
import torch
from captum import attr
from onnx import TensorProto

import explain
import exporters
from exporters.running import run

pytestmark = pytest.mark.filterwarnings(
    "ignore:Input Tensor . did not already require gradients:UserWarning",
    "ignore:The internal batch size:UserWarning",
    "ignore:You are providing multiple inputs for Lime:UserWarning",
)
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
SCALE = torch.tensor([10.0, 1.0, 100.0])
ROWS = SCALE * torch.from_numpy(np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32))
OTHERS = SCALE * torch.from_numpy(np.random.default_rng(2).normal(size=(6, 3)).astype(np.float32))
TARGET = torch.tensor([0, 1, 1, 0])

METHODS = {
    "Saliency": lambda f: attr.Saliency(f).attribute(ROWS, target=TARGET),
    "InputXGradient": lambda f: attr.InputXGradient(f).attribute(ROWS, target=TARGET),
    "IntegratedGradients": lambda f: attr.IntegratedGradients(f).attribute(ROWS, OTHERS[:1], target=TARGET),
    "GradientShap": lambda f: attr.GradientShap(f).attribute(ROWS, OTHERS, target=TARGET, n_samples=8, stdevs=0.1),
    "NoiseTunnel": lambda f: attr.NoiseTunnel(attr.Saliency(f)).attribute(ROWS, target=TARGET, nt_samples=6),
    "VarGrad": lambda f: attr.NoiseTunnel(attr.Saliency(f)).attribute(ROWS, target=TARGET, nt_type="vargrad"),
    "Occlusion": lambda f: attr.Occlusion(f).attribute(ROWS, (2,), target=TARGET, perturbations_per_eval=4),
    "FeatureAblation": lambda f: attr.FeatureAblation(f).attribute(ROWS, OTHERS[:1], target=TARGET),
    "ShapleyValueSampling": lambda f: attr.ShapleyValueSampling(f).attribute(ROWS, OTHERS[:1], target=TARGET),
    "KernelShap": lambda f: attr.KernelShap(f).attribute(ROWS, OTHERS[:1], target=TARGET, n_samples=20),
    "Lime": lambda f: attr.Lime(f).attribute(ROWS, OTHERS[:1], target=TARGET, n_samples=20),
}


def seeded(method, network):
    """A method's answer; both streams that Captum draws from begin anew."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        np.random.seed(0)
        return method(network).detach()


def furthest(found, expected):
    """Attribution error over all rows together, as the reference has it."""
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("name", METHODS)
def test_captum_on_the_served_file_is_captum_on_the_original(name, exported, small, engine):
    served = exporters.as_torch(exported, engine=engine)
    expected = seeded(METHODS[name], small.network)
    assert furthest(seeded(METHODS[name], served), expected) <= 1e-5


@pytest.mark.parametrize("name", METHODS)
def test_another_model_is_seen_by_the_same_comparison(name, exported, small, engine):
    """The probability instead of the logit is another value, and every method above tells them apart."""
    served = exporters.as_torch(exported, engine=engine, space="probability")
    assert furthest(seeded(METHODS[name], served), seeded(METHODS[name], small.network)) > 1e-2
    assert furthest(seeded(METHODS[name], served), seeded(METHODS[name], small)) <= 1e-5


@pytest.mark.parametrize(
    ("method", "name", "options"),
    [
        ("saliency", "Saliency", {}),
        ("input_x_gradient", "InputXGradient", {}),
        ("integrated_gradients", "IntegratedGradients", {"baseline": OTHERS[0].numpy()}),
    ],
)
def test_our_own_methods_agree_with_captum_on_the_served_file(method, name, options, exported, engine):
    captum = seeded(METHODS[name], exporters.as_torch(exported, engine=engine)).numpy()
    own = explain.attribute(
        explain.Model(exported.model),
        {"x": ROWS.numpy()},
        method=method,
        target=TARGET.tolist(),
        run=partial(run, engine),
        **options,
    )
    assert explain.attribution_error(own.values["x"], captum) <= 1e-5


def test_several_inputs_and_codes(source, engine):
    """Numbers have gradients; codes have none and are ablated like everything else."""
    served = exporters.as_torch(source.exported, engine=engine)
    x, codes = torch.from_numpy(source.x[:5]), torch.from_numpy(source.codes[:5])
    others = torch.from_numpy(source.x[9:10]), torch.from_numpy(source.codes[9:10])
    for network in (served, source.network.logits):
        assert network(x, codes).shape == (5, 3)
    found = [
        attr.IntegratedGradients(network).attribute(x, target=1, additional_forward_args=codes)
        for network in (served, source.network.logits)
    ]
    assert furthest(*found) <= 1e-5
    ablated = [
        attr.FeatureAblation(network).attribute((x, codes), others, target=2)
        for network in (served, source.network.logits)
    ]
    for one, other in zip(*ablated, strict=True):
        assert furthest(one, other) <= 1e-5
    grown = x.clone().requires_grad_()
    served(grown, codes).sum().backward()
    assert grown.grad.shape == x.shape
    assert codes.grad is None


def test_double_precision_tensors_are_answered_in_the_precision_of_the_file(exported, small, engine):
    served = exporters.as_torch(exported, engine=engine)
    rows = ROWS.double().requires_grad_()
    value = served(rows)
    assert value.dtype == torch.float32
    (gradient,) = torch.autograd.grad(value[:, 0].sum(), rows)
    assert gradient.dtype == torch.float64
    plain = ROWS.clone().requires_grad_()
    (expected,) = torch.autograd.grad(small.network(plain)[:, 0].sum(), plain)
    torch.testing.assert_close(gradient.float(), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="GPU: torch sees no CUDA device")
def test_tensors_on_a_gpu_are_answered_there(exported, small, engine):
    rows = ROWS.cuda().requires_grad_()
    value = exporters.as_torch(exported, engine=engine)(rows)
    assert value.device == rows.device
    (gradient,) = torch.autograd.grad(value[:, 0].sum(), rows)
    assert gradient.device == rows.device
    torch.testing.assert_close(value.cpu(), small.network(ROWS))


def test_a_gradient_of_the_gradient_is_refused_by_name(exported, engine):
    rows = ROWS.clone().requires_grad_()
    value = exporters.as_torch(exported, engine=engine)(rows)
    (gradient,) = torch.autograd.grad(value.sum(), rows, create_graph=True)
    with pytest.raises(exporters.InvalidBridge, match="a gradient of the gradient was asked for"):
        torch.autograd.grad(gradient.sum(), rows)


@pytest.mark.parametrize("method", ["DeepLift", "GuidedBackprop", "Deconvolution", "LRP"])
@pytest.mark.filterwarnings("ignore:Setting:UserWarning")
def test_methods_that_hook_layers_are_refused(method, exported, engine):
    """Without a refusal each would find no layer and answer something else under its name."""
    served = exporters.as_torch(exported, engine=engine)
    refusal, text = {"LRP": (TypeError, "ServedGraph")}.get(method, (exporters.InvalidBridge, "hooks layers"))
    with pytest.raises(refusal, match=text):
        getattr(attr, method)(served).attribute(ROWS.clone(), target=TARGET)  # a refusal leaves it marked


def test_tensors_that_do_not_fit_are_refused(source, engine):
    served = exporters.as_torch(source.exported, engine=engine)
    x, codes = torch.from_numpy(source.x[:2]), torch.from_numpy(source.codes[:2])
    with pytest.raises(exporters.InvalidBridge, match="came 1 tensors, expected one for each of x, codes"):
        served(x)
    with pytest.raises(exporters.InvalidBridge, match="input 'codes': came values that int64 cannot hold"):
        served(x, codes + 0.5)


def products(made, axis):
    """y = tanh(x) * w over three features, items along ``axis`` of x and y; and an input that nothing reads much of."""
    shape = [None, None]
    shape[axis], shape[1 - axis] = "N", 3
    weights = {"w": np.array([1.0, -2.0, 3.0], np.float32).reshape((1, 3) if axis == 0 else (3, 1))}
    nodes = [
        ("Tanh", ["x"], ["t"], {}),
        ("Mul", ["t", "w"], ["m"], {}),
        ("Shape", ["idle"], ["s"], {}),
        ("ConstantOfShape", ["s"], ["nothing"], {}),
        ("Add", ["m", "nothing"], ["y"], {}),
    ]
    return made(nodes, {"x": (FLOAT, shape), "idle": (FLOAT, shape)}, {"y": (FLOAT, shape)}, weights)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("row_by_row", [False, True])
def test_a_batch_axis_elsewhere_and_models_of_one_row(axis, row_by_row, made, engine):
    handle = explain.Model(
        products(made, axis), batch_axes=dict.fromkeys(["x", "idle", "y"], axis), row_by_row=row_by_row
    )
    served = exporters.as_torch(handle, engine=engine)
    x = ROWS.clone().requires_grad_()
    idle = ROWS.clone().requires_grad_()
    value = served(x, idle)
    weights = torch.tensor([1.0, -2.0, 3.0])
    torch.testing.assert_close(value, torch.tanh(ROWS) * weights)
    value.sum().backward()
    torch.testing.assert_close(x.grad, (1 - torch.tanh(ROWS) ** 2) * weights)
    torch.testing.assert_close(idle.grad, torch.zeros_like(ROWS))


def test_a_model_without_a_gradient_is_ablated_and_its_gradient_refused_by_name(made, engine):
    nodes = [("Floor", ["x"], ["f"], {}), ("ReduceSum", ["f", "axes"], ["y"], {"keepdims": 1})]
    model = made(nodes, {"x": (FLOAT, ["N", 3])}, {"y": (FLOAT, ["N", 1])}, {"axes": np.array([1])})
    served = exporters.as_torch(model, engine=engine)
    found = attr.FeatureAblation(served).attribute(ROWS, target=0)
    torch.testing.assert_close(found, torch.floor(ROWS))
    with pytest.raises(explain.MethodUnavailable, match="no input reaches output 'y' through a gradient"):
        attr.Saliency(served).attribute(ROWS.clone(), target=0)
