"""Models of other opsets: converted, relabelled or refused, and computing the same as the file that is served."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import explain
from explain.prepare import IR_VERSION, opset_of, prepare
from tests.explain.single import assert_close, gradients, numbers, session

F = torch.nn.functional
N = helper.make_node


def model(
    opset: int, nodes: list[onnx.NodeProto], shape: list[Any], rank: int = 2, **constants: np.ndarray
) -> onnx.ModelProto:
    """A model from x to y at an opset, with its constants by name."""
    graph = helper.make_graph(
        nodes,
        "old_or_new",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", *[None] * (rank - 1)])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    ir = helper.find_min_ir_version_for([helper.make_opsetid("", opset)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


VECTORS, CUBES, IMAGES = ["N", 6], ["N", 3, 4], ["N", 2, 5, 4]
SCALE = numbers(2, low=0.5, high=2.0).astype(np.float32)
Judge = Callable[[torch.Tensor], torch.Tensor]
WEIGHT = numbers(6, 3, seed=1).astype(np.float32)
# At opset 12 and before, Softmax flattened at its axis; axes, pads, parts and bounds were attributes.
OLD: list[tuple[str, onnx.ModelProto, Judge]] = [
    (
        "softmax-flattened",
        model(11, [N("Softmax", ["x"], ["y"], axis=1)], CUBES, 3),
        lambda x: torch.softmax(x.flatten(1), 1).reshape(x.shape),
    ),
    (
        "softmax-default-axis",
        model(11, [N("Softmax", ["x"], ["y"])], CUBES, 3),
        lambda x: torch.softmax(x.flatten(1), 1).reshape(x.shape),
    ),
    ("softmax-13", model(13, [N("Softmax", ["x"], ["y"])], CUBES, 3), lambda x: torch.softmax(x, -1)),
    ("log-softmax", model(11, [N("LogSoftmax", ["x"], ["y"], axis=-1)], VECTORS), lambda x: torch.log_softmax(x, -1)),
    (
        "reduce-mean-axes",
        model(13, [N("ReduceMean", ["x"], ["y"], axes=[-1], keepdims=0)], CUBES),
        lambda x: x.mean(-1),
    ),
    (
        "reduce-sum-axes",
        model(11, [N("ReduceSum", ["x"], ["y"], axes=[1], keepdims=1)], CUBES, 3),
        lambda x: x.sum(1, True),
    ),
    ("reduce-sum-input", model(13, [N("ReduceSum", ["x", "a"], ["y"])], CUBES, 3, a=ints(1)), lambda x: x.sum(1, True)),
    (
        "reduce-l2",
        model(17, [N("ReduceL2", ["x"], ["y"], axes=[2], keepdims=0)], CUBES),
        lambda x: x.square().sum(2).sqrt(),
    ),
    ("reduce-max", model(11, [N("ReduceMax", ["x"], ["y"], axes=[2], keepdims=0)], CUBES), lambda x: x.amax(2)),
    (
        "split",
        model(11, [N("Split", ["x"], ["a", "b"], axis=1, split=[2, 4]), N("Exp", ["b"], ["y"])], VECTORS),
        lambda x: x[:, 2:].exp(),
    ),
    (
        "split-13",
        model(13, [N("Split", ["x"], ["a", "b"], axis=1), N("Exp", ["b"], ["y"])], VECTORS),
        lambda x: x[:, 3:].exp(),
    ),
    (
        "squeeze",
        model(
            11,
            [N("Unsqueeze", ["x"], ["u"], axes=[1]), N("Squeeze", ["u"], ["s"], axes=[1]), N("Exp", ["s"], ["y"])],
            VECTORS,
        ),
        torch.exp,
    ),
    (
        "clip-input",
        model(11, [N("Clip", ["x", "l", "h"], ["y"])], VECTORS, l=np.float32(-1), h=np.float32(1)),
        lambda x: x.clamp(-1, 1),
    ),
    ("clip-attribute", model(10, [N("Clip", ["x"], ["y"], min=-1.0, max=1.0)], VECTORS), lambda x: x.clamp(-1, 1)),
    ("dropout", model(11, [N("Dropout", ["x"], ["d"], ratio=0.4), N("Exp", ["d"], ["y"])], VECTORS), torch.exp),
    ("slice", model(9, [N("Slice", ["x"], ["y"], axes=[1], starts=[1], ends=[-1])], VECTORS), lambda x: x[:, 1:-1]),
    (
        "pad",
        model(10, [N("Pad", ["x"], ["y"], pads=[0, 1, 0, 2], mode="reflect")], VECTORS),
        lambda x: F.pad(x[:, None], (1, 2), "reflect")[:, 0],
    ),
    ("pad-input", model(17, [N("Pad", ["x", "p"], ["y"])], VECTORS, p=ints(0, 1, 0, 2)), lambda x: F.pad(x, (1, 2))),
    (
        "gemm",
        model(9, [N("Gemm", ["x", "w", "b"], ["y"])], VECTORS, w=WEIGHT, b=floats(1, 2, 3)),
        lambda x: x @ torch.as_tensor(WEIGHT) + torch.tensor([1.0, 2, 3]),
    ),
    (
        "upsample",
        model(9, [N("Upsample", ["x", "s"], ["y"], mode="nearest")], IMAGES, 4, s=floats(1, 1, 2, 3)),
        lambda x: x.repeat_interleave(2, 2).repeat_interleave(3, 3),
    ),
    (
        "resize-11",
        model(11, [N("Resize", ["x", "r", "s"], ["y"], mode="linear")], IMAGES, 4, r=floats(), s=floats(1, 1, 2, 2)),
        lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    ),
    (
        "batch-norm",
        model(11, [N("BatchNormalization", ["x", "s", "s", "s", "s"], ["y"])], IMAGES, 4, s=SCALE),
        lambda x: F.batch_norm(x, *[torch.as_tensor(SCALE)] * 4),
    ),
    (
        "batch-norm-14",
        model(14, [N("BatchNormalization", ["x", "s", "s", "s", "s"], ["y"])], IMAGES, 4, s=SCALE),
        lambda x: F.batch_norm(x, *[torch.as_tensor(SCALE)] * 4),
    ),
    (
        "max-pool",
        model(11, [N("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], ceil_mode=1)], IMAGES, 4),
        lambda x: F.max_pool2d(x, 2, 1),
    ),
    (
        "average-pool",
        model(11, [N("AveragePool", ["x"], ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 1])], IMAGES, 4),
        lambda x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False),
    ),
    ("hard-swish-14", model(14, [N("HardSwish", ["x"], ["y"])], VECTORS), F.hardswish),
    (
        "layer-norm-17",
        model(17, [N("LayerNormalization", ["x", "s"], ["y"])], VECTORS, s=np.ones(6, np.float32)),
        lambda x: F.layer_norm(x, (6,)),
    ),
]
OLD += [
    (
        "stft-default",
        model(17, [N("STFT", ["x", "s", "w"], ["y"])], ["N", 16, 1], 4, s=np.array(3), w=np.ones(6, np.float32)),
        lambda x: torch.view_as_real(torch.fft.rfft(x[..., 0].unfold(1, 6, 3))),
    )
]
GROUP_SCALE = numbers(4, low=0.5, high=2.0).astype(np.float32)


def dilated(x: torch.Tensor, kernel: int, stride: int, dilation: int, before: int, after: int, ceil: bool) -> Any:
    """[N, C, windows, kernel] along the last axis, NaN outside; and whether a place is input or padding."""
    size, reach = x.shape[-1], (kernel - 1) * dilation
    room = size + before + after - reach - 1
    count = (-(-room // stride) if ceil else room // stride) + 1
    count -= ceil and (count - 1) * stride >= size + before
    places = torch.tensor([[w * stride - before + k * dilation for k in range(kernel)] for w in range(count)])
    inside = (places >= 0) & (places < size)
    return torch.where(inside, x[..., places.clamp(0, size - 1)], 0.0), inside, places < size + after


def dilated_mean(x: torch.Tensor, count_pads: bool = False, ceil: bool = False, pads: Any = (1, 0, 2, 1)) -> Any:
    """3 x 2 windows, 2 apart along the first axis and 2 along the second, every 2nd and every 1st."""
    rows, in_row, row_pad = dilated(x.mT, 3, 2, 2, pads[0], pads[2], ceil)  # [N, C, W, windows, 3]
    both, in_both, both_pad = dilated(rows.permute(0, 1, 3, 4, 2), 2, 1, 2, pads[1], pads[3], ceil)
    weights = (row_pad if count_pads else in_row).double(), (both_pad if count_pads else in_both).double()
    counts = torch.einsum("ik,jl->ij", *weights)
    return (both.sum((3, 5)) / counts).to(x.dtype)


def dilated_pool(**given: Any) -> onnx.ModelProto:
    node = N("AveragePool", ["x"], ["y"], kernel_shape=[3, 2], strides=[2, 1], dilations=[2, 2], **given)
    return model(19, [node], ["N", 2, 9, 8], 4)


NEW: list[tuple[str, onnx.ModelProto, Judge]] = [
    *(
        (
            f"average-pool-19-{count}-{ceil}",
            dilated_pool(pads=[1, 0, 2, 1], count_include_pad=count, ceil_mode=ceil),
            lambda x, count=count, ceil=ceil: dilated_mean(x, bool(count), bool(ceil)),
        )
        for count in (0, 1)
        for ceil in (0, 1)
    ),
    (
        "average-pool-19-undilated",
        model(19, [N("AveragePool", ["x"], ["y"], kernel_shape=[2, 2], dilations=[1, 1])], IMAGES, 4),
        lambda x: F.avg_pool2d(x, 2, 1),
    ),
    ("relu-22-is-relabelled", model(19, [N("Relu", ["x"], ["y"])], VECTORS), torch.relu),
    ("relu-23-is-relabelled", model(23, [N("Relu", ["x"], ["y"])], VECTORS), torch.relu),
    ("gelu-20", model(20, [N("Gelu", ["x"], ["y"])], VECTORS), F.gelu),
    (
        "gelu-20-tanh",
        model(20, [N("Gelu", ["x"], ["y"], approximate="tanh")], VECTORS),
        lambda x: F.gelu(x, approximate="tanh"),
    ),
    (
        "pad-wrap",
        model(19, [N("Pad", ["x", "p"], ["y"], mode="wrap")], VECTORS, p=ints(0, 1, 0, 2)),
        lambda x: F.pad(x[:, None], (1, 2), "circular")[:, 0],
    ),
    (
        "half-pixel-symmetric",
        model(
            19,
            [N("Resize", ["x", "", "s"], ["y"], mode="linear", coordinate_transformation_mode="half_pixel_symmetric")],
            IMAGES,
            4,
            s=floats(1, 1, 2, 2),
        ),
        lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    ),
    (
        "group-norm-21",
        model(21, [N("GroupNormalization", ["x", "s", "s"], ["y"], num_groups=2)], ["N", 4, 3], 3, s=GROUP_SCALE),
        lambda x: F.group_norm(x, 2, *[torch.as_tensor(GROUP_SCALE)] * 2),
    ),
    ("cast-19", model(21, [N("Cast", ["x"], ["y"], to=TensorProto.FLOAT, saturate=1)], VECTORS), lambda x: x * 1),
    (
        "rms-norm-23",
        model(23, [N("RMSNormalization", ["x", "s"], ["y"])], VECTORS, s=np.ones(6, np.float32)),
        lambda x: F.rms_norm(x, (6,), eps=1e-5),
    ),
    ("swish-24", model(24, [N("Swish", ["x"], ["y"])], VECTORS), F.silu),
    (
        "attention-23",
        model(23, [N("Attention", ["x", "x", "x"], ["y"])], ["N", 2, 3, 4], 4),
        lambda x: F.scaled_dot_product_attention(x, x, x),
    ),
]


@pytest.mark.parametrize(("proto", "judge"), [entry[1:] for entry in OLD + NEW], ids=[entry[0] for entry in OLD + NEW])
def test_other_opsets_compute_and_differentiate_the_same(proto: onnx.ModelProto, judge: Judge) -> None:
    before = proto.SerializeToString()
    dims = [dim.dim_value or 3 for dim in proto.graph.input[0].type.tensor_type.shape.dim]
    x = numbers(*dims).astype(np.float32)
    handle = explain.Model(proto)
    program = explain.compile(handle, "forward")
    onnx.checker.check_model(program.model, full_check=True)
    assert opset_of(program.model) == 18
    leaf = torch.tensor(x, requires_grad=True)
    y = judge(leaf)
    served = session(proto).run(None, {"x": x})[0]
    assert_close(served, y.detach().numpy(), 1e-4, "judge")
    assert_close(session(program.model).run(None, {"x": x})[0], served, 1e-5, "prepared forward value")
    torch.autograd.backward(y.sum())
    assert_close(gradients(handle, {"x": x})["x"], leaf.grad.numpy(), 1e-4, "gradient")
    assert proto.SerializeToString() == before


REFUSED = [
    ("Wobble", model(18, [N("Wobble", ["x"], ["y"], name="w")], VECTORS), explain.UnsupportedOperator, "Wobble"),
    (
        "Cast",
        model(21, [N("Cast", ["x"], ["y"], name="narrow", to=TensorProto.FLOAT, saturate=0)], VECTORS),
        explain.UnsupportedOperator,
        r"Cast \(node 'narrow', opset 21\): attribute 'saturate' does not exist at opset 18",
    ),
    (
        "TensorScatter",
        model(24, [N("TensorScatter", ["x", "x"], ["y"], name="cache")], IMAGES, 4),
        explain.UnsupportedOperator,
        r"TensorScatter \(node 'cache', opset 24\): the operator is newer than opset 18 and has no ONNX function body",
    ),
    (
        "DFT",
        model(
            20,
            [N("Shape", ["x"], ["s"]), N("Size", ["s"], ["a"]), N("DFT", ["x", "", "a"], ["y"], name="turn")],
            IMAGES,
        ),
        explain.UnsupportedOperator,
        r"DFT \(node 'turn', opset 18\): its axis is computed at run time",
    ),
]


@pytest.mark.parametrize(
    ("proto", "error", "text"), [entry[1:] for entry in REFUSED], ids=[entry[0] for entry in REFUSED]
)
def test_what_cannot_be_put_at_opset_18_is_refused_by_name(proto: onnx.ModelProto, error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        explain.compile(proto, "vjp")


def test_local_functions_are_inlined() -> None:
    opsets = [helper.make_opsetid("", 18)]
    inner = helper.make_function("local", "Twice", ["a"], ["b"], [N("Add", ["a", "a"], ["b"])], opsets)
    call = N("Square", ["c"], ["d"], domain="local")
    own = [*opsets, helper.make_opsetid("local", 1)]
    outer = helper.make_function("local", "Outer", ["c"], ["e"], [call, N("Twice", ["d"], ["e"], domain="local")], own)
    square = helper.make_function("local", "Square", ["a"], ["b"], [N("Mul", ["a", "a"], ["b"])], opsets)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, VECTORS) for name in "xy")
    graph = helper.make_graph([N("Outer", ["x"], ["y"], domain="local")], "called", [x], [y])
    proto = helper.make_model(graph, opset_imports=own, functions=[inner, outer, square], ir_version=9)
    x = numbers(2, 6).astype(np.float32)
    assert gradients(proto, {"x": x})["x"] == pytest.approx(4 * x)


@pytest.mark.parametrize("attribute", ["value", "value_int", "value_ints", "value_float", "value_floats"])
def test_constants_become_initializers(attribute: str) -> None:
    value: Any = {
        "value": numpy_helper.from_array(floats(2.0)),
        "value_int": 2,
        "value_ints": [2],
        "value_float": 2.0,
        "value_floats": [2.0],
    }[attribute]
    nodes = [
        N("Constant", [], ["c"], **{attribute: value}),
        N("CastLike", ["c", "x"], ["f"]),
        N("Mul", ["x", "f"], ["y"]),
    ]
    prepared = prepare(model(18, nodes, VECTORS))
    assert [tensor.name for tensor in prepared.graph.initializer] == ["c"]
    assert "Constant" not in {entry.op_type for entry in prepared.graph.node}
    assert gradients(model(18, nodes, VECTORS), {"x": np.ones((1, 6), np.float32)})["x"].tolist() == [[2.0] * 6]


def test_an_initializer_that_is_an_input_too_is_a_constant() -> None:
    proto = model(18, [N("Mul", ["x", "c"], ["y"])], VECTORS, c=floats(3.0))
    proto.graph.input.append(helper.make_tensor_value_info("c", TensorProto.FLOAT, [1]))
    assert list(explain.Model(proto).graph.inputs) == ["x"]
    assert gradients(proto, {"x": np.ones((1, 6), np.float32)})["x"].tolist() == [[3.0] * 6]


def without_outputs() -> onnx.ModelProto:
    proto = model(18, [N("Exp", ["x"], ["y"])], VECTORS)
    del proto.graph.output[:]
    return proto


def without_opset() -> onnx.ModelProto:
    proto = model(18, [N("Exp", ["x"], ["y"])], VECTORS)
    del proto.opset_import[:]
    return proto


def with_sparse_weights() -> onnx.ModelProto:
    proto = model(18, [N("Exp", ["x"], ["y"])], VECTORS)
    values, indices = numpy_helper.from_array(floats(1.0), "w"), numpy_helper.from_array(ints(0), "w.indices")
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [6]))
    return proto


UNREADABLE = [
    (without_outputs, "the model has no outputs"),
    (without_opset, "opset_import is missing"),
    (with_sparse_weights, "sparse initializers"),
    (lambda: model(11, [N("NoSuchOperator", ["x"], ["y"])], VECTORS), "could not be read"),
]


@pytest.mark.parametrize(("make", "text"), UNREADABLE, ids=[text for _, text in UNREADABLE])
def test_a_file_that_makes_no_sense_is_an_invalid_model(make: Callable[[], onnx.ModelProto], text: str) -> None:
    with pytest.raises(explain.InvalidModel, match=text):
        prepare(make())


def test_the_copy_has_a_version_that_runtimes_load() -> None:
    proto = model(23, [N("Exp", ["x"], ["y"])], VECTORS)
    proto.ir_version = 13
    prepared = prepare(proto)
    assert (opset_of(prepared), prepared.ir_version) == (18, IR_VERSION)
    assert (opset_of(proto), proto.ir_version) == (23, 13)
