"""Local functions: chains, circles and expansions."""

import pytest
from onnx import TensorProto, helper

from model_store import RefusedModel, check_model


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


def chain(onnx_model, length, calls=1):
    """A function that calls the next `calls` times, `length` functions long."""
    functions = []
    for number in range(length):
        if number == length - 1:
            nodes = [helper.make_node("Identity", ["a"], ["b"])]
        else:
            names = ["a", *(f"t{call}" for call in range(calls - 1)), "b"]
            nodes = [
                helper.make_node(f"F{number + 1}", [names[call]], [names[call + 1]], domain="own")
                for call in range(calls)
            ]
        functions.append(function(f"F{number}", nodes))
    return onnx_model([helper.make_node("F0", ["x"], ["y"], domain="own")], domains=["own"], functions=functions)


def test_functions(onnx_model):
    assert check_model(chain(onnx_model, 5).SerializeToString()).functions == 5
    refused(chain(onnx_model, 3000), "3000 local functions, the limit is 1000")
    refused(chain(onnx_model, 200), "calls functions deeper than the limit of 32")
    refused(chain(onnx_model, 30, calls=2), "expands to more nodes than the limit")
    itself = function("F", [helper.make_node("F", ["a"], ["b"], domain="own")])
    call = [helper.make_node("F", ["x"], ["y"], domain="own")]
    refused(onnx_model(call, domains=["own"], functions=[itself]), "'F' calls itself")
    circle = [
        function("F", [helper.make_node("G", ["a"], ["b"], domain="own")]),
        function("G", [helper.make_node("F", ["a"], ["b"], domain="own")]),
    ]
    refused(onnx_model(call, domains=["own"], functions=circle), "calls itself")
    refused(onnx_model(call, domains=["own"], functions=[itself, itself]), "same name")
    relu = function("Relu", [helper.make_node("Neg", ["a"], ["b"])], domain="", imports=())
    refused(onnx_model([helper.make_node("Relu", ["x"], ["y"])], functions=[relu]), "redefines an operator")


def test_a_call_hidden_in_a_subgraph_is_a_call(onnx_model):
    inner = subgraph(helper.make_node("F", ["a"], ["z"], domain="own"))
    body = [helper.make_node("If", ["a"], ["b"], then_branch=inner, else_branch=inner)]
    call = [helper.make_node("F", ["x"], ["y"], domain="own")]
    refused(onnx_model(call, domains=["own"], functions=[function("F", body)]), "calls itself")
