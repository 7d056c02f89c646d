"""Hostile structures, each refused by name: external data, foreign operators, functions, depth, sizes, names."""

import itertools

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from model_store import Limits, RefusedModel, check_model


def constant(name, value):
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.asarray(value)))


def external(name="w", location="weights.bin", count=6):
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[count], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor


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


@pytest.mark.parametrize("location", ["weights.bin", "../../etc/passwd", "/etc/passwd", "*/_ORT_MEM_ADDR_/*", ""])
def test_an_initializer_outside_the_file(onnx_model, location):
    model = onnx_model([helper.make_node("Mul", ["x", "w"], ["y"])], weights=[external(location=location)])
    refused(model, "initializer 'w': its data lie outside the file")
    refused(model, location[:10])


def test_an_external_reference_without_the_flag(onnx_model):
    tensor = external()
    tensor.data_location = TensorProto.DEFAULT
    refused(onnx_model([helper.make_node("Mul", ["x", "w"], ["y"])], weights=[tensor]), "outside the file")


def test_external_data_in_every_other_place(onnx_model):
    mul = helper.make_node("Mul", ["x", "c"], ["y"])
    values, indices = external("v", count=1), numpy_helper.from_array(np.zeros(1, np.int64), "i")
    inner_values = numpy_helper.from_array(np.ones(1, np.float32), "v")
    inside = helper.make_node("Constant", [], ["z"], value=external("t"))
    hidden = helper.make_node("Identity", ["x"], ["c"])
    hidden.attribute.append(helper.make_attribute("note", 1))
    hidden.attribute[0].t.CopyFrom(external())
    models = {
        "Constant attribute": onnx_model([helper.make_node("Constant", [], ["c"], value=external()), mul]),
        "attribute of another declared type": onnx_model([hidden, mul]),
        "list of tensors": onnx_model([helper.make_node("Constant", [], ["c"], tensors=[external()]), mul]),
        "sparse values": onnx_model(
            [helper.make_node("Constant", [], ["c"], sparse_value=helper.make_sparse_tensor(values, indices, [6])), mul]
        ),
        "sparse indices": onnx_model(
            [
                helper.make_node(
                    "Constant", [], ["c"], sparse_value=helper.make_sparse_tensor(inner_values, external("i"), [6])
                ),
                mul,
            ]
        ),
        "subgraph": onnx_model(
            [helper.make_node("If", ["k"], ["y"], then_branch=subgraph(inside), else_branch=subgraph(inside))]
        ),
        "subgraph's initializer": onnx_model(
            [helper.make_node("If", ["k"], ["y"], then_branch=subgraph(inits=[external("z")]), else_branch=subgraph())]
        ),
        "function": onnx_model(
            [helper.make_node("F", ["x"], ["y"], domain="own")],
            domains=["own"],
            functions=[function("F", [helper.make_node("Constant", [], ["b"], value=external())])],
        ),
    }
    default = function("G", [helper.make_node("Identity", ["a"], ["b"])])
    default.attribute_proto.append(helper.make_attribute("value", external()))
    models["function's default"] = onnx_model([mul], domains=["own"], functions=[default])
    sparse = onnx_model([mul])
    sparse.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [6]))
    models["sparse initializer"] = sparse
    for part in ("initialization", "algorithm"):
        training = onnx_model([mul])
        getattr(training.training_info.add(), part).initializer.append(external())
        models[f"training information's {part}"] = training
    for place, model in models.items():
        try:
            refused(model, "outside the file")
        except pytest.fail.Exception:
            pytest.fail(f"external data in a {place} passed")


def test_operators_of_other_domains(onnx_model):
    model = onnx_model(
        [helper.make_node("Gelu", ["x"], ["y"], name="g", domain="com.microsoft")], domains=["com.microsoft"]
    )
    refused(model, "node 'g' (Gelu): the domain 'com.microsoft' is not one of those run here (ai.onnx, ai.onnx.ml)")
    allowed = Limits(domains=Limits().domains | {"com.microsoft"})
    assert check_model(model.SerializeToString(), allowed).operators == {"com.microsoft.Gelu": 1}
    for name in ("EPContext", "PyOp"):
        node = helper.make_node(name, ["x"], ["y"], domain="com.microsoft")
        refused(onnx_model([node], domains=["com.microsoft"]), "never run here", allowed)
    inside = helper.make_node("Evil", [], ["z"], domain="evil")
    branches = {"then_branch": subgraph(inside), "else_branch": subgraph(inside)}
    refused(onnx_model([helper.make_node("If", ["k"], ["y"], **branches)]), "'evil'")
    refused(onnx_model([helper.make_node("NoSuchOperator", ["x"], ["y"])]), "onnx's checker refuses it")


def nested(onnx_model, depth):
    graph = subgraph(constant("z", np.float32(1)))
    for _ in range(depth):
        graph = subgraph(helper.make_node("If", ["k"], ["z"], then_branch=graph, else_branch=subgraph()))
    return onnx_model([helper.make_node("If", ["k"], ["y"], then_branch=graph, else_branch=subgraph())])


def test_depth(onnx_model):
    refused(nested(onnx_model, 20), "nested deeper than the limit of 16")


def length_delimited(field: int, payload: bytes) -> bytes:
    size, encoded = len(payload), b""
    while True:
        encoded += bytes([size & 127 | (128 if size > 127 else 0)])
        size >>= 7
        if not size:
            return bytes([field << 3 | 2]) + encoded + payload


@pytest.mark.parametrize("kind", ["subgraphs", "types"])
def test_messages_nested_very_deep_are_refused_in_the_child(kind):
    payload = b""
    for _ in range(5_000):
        if kind == "subgraphs":
            # graph.node -> node.attribute -> attribute.g
            payload = length_delimited(1, length_delimited(5, length_delimited(6, payload)))
        else:
            # type.sequence_type -> sequence.elem_type
            payload = length_delimited(4, length_delimited(1, payload))
    if kind == "types":
        payload = length_delimited(11, length_delimited(2, payload))
    refused(length_delimited(7, payload), "no ONNX model")


def test_types_nested_deep(onnx_model):
    model = onnx_model([helper.make_node("Identity", ["x"], ["y"])])
    kind = model.graph.input[0].type
    kind.Clear()
    for _ in range(20):
        kind = kind.sequence_type.elem_type
    kind.tensor_type.elem_type = 1
    refused(model, "its type is nested deeper")


def test_counts(onnx_model):
    names = ["x", *(f"v{k}" for k in range(50)), "y"]
    model = onnx_model([helper.make_node("Relu", [a], [b]) for a, b in itertools.pairwise(names)])
    assert check_model(model.SerializeToString(), Limits(max_nodes=51)).nodes == 51
    refused(model, "more nodes than the limit of 50", Limits(max_nodes=50))
    weights = [numpy_helper.from_array(np.ones(1, np.float32), f"w{k}") for k in range(5)]
    identity = [helper.make_node("Identity", ["x"], ["y"])]
    refused(onnx_model(identity, weights=weights), "more initializers than the limit of 4", Limits(max_initializers=4))


@pytest.mark.parametrize(
    ("dims", "told"),
    [
        ([1 << 40], "larger than the limit"),
        ([1 << 32, 1 << 32], "larger than the limit"),
        ([(1 << 63) - 1, 2, 8], "larger than the limit"),
        ([-1, -6], "negative"),
        ([0, 1 << 62], "larger than the limit"),
        ([1] * 65, "65 axes"),
        ([7], "takes 28 bytes, it holds 24"),
    ],
)
def test_declared_sizes(onnx_model, dims, told):
    weight = numpy_helper.from_array(np.ones(6, np.float32), "w")
    weight.ClearField("dims")
    weight.dims.extend(dims)
    refused(onnx_model([helper.make_node("Mul", ["x", "w"], ["y"])], weights=[weight]), told)


def test_tensors_that_contradict_themselves(onnx_model):
    node = [helper.make_node("Mul", ["x", "w"], ["y"])]
    twice = numpy_helper.from_array(np.ones(6, np.float32), "w")
    twice.float_data.extend([1.0] * 6)
    refused(onnx_model(node, weights=[twice]), "stand in raw_data and in float_data")
    wrong = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2], int64_data=[1, 2])
    refused(onnx_model(node, weights=[wrong]), "stand in int64_data")
    unknown = TensorProto(name="w", data_type=99, dims=[1], raw_data=b"1")
    refused(onnx_model(node, weights=[unknown]), "tensor type 99")
    parts = numpy_helper.from_array(np.ones(6, np.float32), "w")
    parts.segment.begin = 1
    refused(onnx_model(node, weights=[parts]), "segments")
    texts = TensorProto(name="w", data_type=TensorProto.STRING, dims=[3])
    refused(onnx_model(node, weights=[texts]), "3 texts")
    typed = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3], float_data=[1, 2, 3])
    assert check_model(onnx_model(node, weights=[typed]).SerializeToString()).parameters == 3


def test_names_that_stand_twice(onnx_model):
    weight = numpy_helper.from_array(np.ones(3, np.float32), "w")
    twice = [helper.make_node("Mul", ["x", "w"], ["y"])]
    refused(onnx_model(twice, weights=[weight, weight]), "initializers: the name 'w' stands twice")
    refused(onnx_model(twice * 2, weights=[weight]), "values: the name 'y' stands twice")
    refused(onnx_model([helper.make_node("Neg", ["x"], ["x"])], outputs=["x"]), "'x' stands twice")
    refused(onnx_model(twice, weights=[weight], inputs=("x", "x")), "inputs: the name 'x' stands twice")
    several = onnx_model(twice, weights=[weight])
    several.opset_import.append(helper.make_opsetid("ai.onnx", 17))
    refused(several, "two versions")
    several.opset_import[1].version = 18
    assert check_model(several.SerializeToString()).opsets == {"ai.onnx": 18}


def test_opsets(onnx_model):
    model = onnx_model([helper.make_node("Neg", ["x"], ["y"])])
    model.opset_import[0].version = 10_000
    refused(model, "imports opset 10000")
