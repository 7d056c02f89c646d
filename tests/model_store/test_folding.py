"""Small files that would fill the memory when a runtime loads them."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from model_store import RefusedModel, check_model


def constant(name, value):
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.asarray(value)))


def refused(model, told, limits=None):
    data = model if isinstance(model, bytes) else model.SerializeToString()
    with pytest.raises(RefusedModel) as caught:
        check_model(data, limits)
    assert told in str(caught.value), str(caught.value)


def subgraph(*nodes, inits=()):
    return helper.make_graph(
        list(nodes), "inner", [], [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)], inits
    )


def function(name, nodes, domain="own", inputs=("a",), outputs=("b",), imports=("own",)):
    opsets = [helper.make_opsetid("", 18), *(helper.make_opsetid(each, 1) for each in imports)]
    return helper.make_function(domain, name, list(inputs), list(outputs), list(nodes), opsets)


BOMBS = {
    "constant of shape": [constant("s", [145_000_000]), helper.make_node("ConstantOfShape", ["s"], ["y"])],
    "many of them": [
        node
        for k in range(5)
        for node in (
            constant(f"s{k}", [1 << 24]),
            helper.make_node("ConstantOfShape", [f"s{k}"], [f"y{k}" if k else "y"]),
        )
    ],
    "expand": [
        constant("v", np.float32([1])),
        constant("s", [30_000, 30_000]),
        helper.make_node("Expand", ["v", "s"], ["y"]),
    ],
    "tile": [
        constant("v", np.float32([1, 2])),
        constant("s", [20_000_000]),
        helper.make_node("Tile", ["v", "s"], ["y"]),
    ],
    "range": [
        constant("a", np.int64(0)),
        constant("b", np.int64(200_000_000)),
        constant("c", np.int64(1)),
        helper.make_node("Range", ["a", "b", "c"], ["y"]),
    ],
    "outer product": [
        constant("s", [10_000, 1]),
        constant("t", [1, 10_000]),
        helper.make_node("ConstantOfShape", ["s"], ["u"]),
        helper.make_node("ConstantOfShape", ["t"], ["v"]),
        helper.make_node("MatMul", ["u", "v"], ["y"]),
    ],
    "computed size": [
        constant("e", np.float64([3.0])),
        helper.make_node("Exp", ["e"], ["f"]),
        helper.make_node("Exp", ["f"], ["g"]),
        helper.make_node("Cast", ["g"], ["s"], to=TensorProto.INT64),
        helper.make_node("ConstantOfShape", ["s"], ["y"]),
    ],
    "computed by an operator that is not followed": [
        constant("e", np.float64([19.0])),
        helper.make_node("Sinh", ["e"], ["g"]),
        helper.make_node("Cast", ["g"], ["s"], to=TensorProto.INT64),
        helper.make_node("ConstantOfShape", ["s"], ["y"]),
    ],
    "doubling": [
        constant("v0", np.float32([1])),
        *(helper.make_node("Concat", [f"v{k}"] * 4, [f"v{k + 1}"], axis=0) for k in range(14)),
        helper.make_node("Identity", ["v14"], ["y"]),
    ],
    "in a branch": [
        constant("k", np.bool_(True)),
        constant("s", [145_000_000]),
        helper.make_node(
            "If",
            ["k"],
            ["y"],
            then_branch=subgraph(helper.make_node("ConstantOfShape", ["s"], ["z"])),
            else_branch=subgraph(constant("z", np.float32([1]))),
        ),
    ],
}


@pytest.mark.parametrize("name", BOMBS)
def test_constants_that_would_fill_the_memory_at_load(onnx_model, name):
    model = onnx_model(BOMBS[name], inputs=())
    assert len(model.SerializeToString()) < 2000
    with pytest.raises(RefusedModel, match=r"limit|not known before load"):
        check_model(model.SerializeToString())


def test_a_bomb_inside_a_function(onnx_model):
    inside = [constant("s", [145_000_000]), helper.make_node("ConstantOfShape", ["s"], ["b"])]
    model = onnx_model(
        [helper.make_node("F", ["x"], ["y"], domain="own")], domains=["own"], functions=[function("F", inside)]
    )
    refused(model, "constant")


def test_a_sparse_bomb(onnx_model):
    sparse = onnx_model([helper.make_node("Mul", ["x", "v"], ["y"])])
    values = numpy_helper.from_array(np.ones(1, np.float32), "v")
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "i")
    sparse.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [1 << 25]))
    refused(sparse, "sparse initializer 'v'")


def test_large_weights_are_no_bomb(onnx_model):
    weight = numpy_helper.from_array(np.ones((3, 1 << 17), np.float32), "w")
    nodes = [
        helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0]),
        helper.make_node("Transpose", ["t"], ["u"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "u"], ["y"]),
    ]
    assert check_model(onnx_model(nodes, weights=[weight]).SerializeToString()).parameters == 3 << 17
