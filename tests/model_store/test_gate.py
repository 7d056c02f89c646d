"""Hostile model files, each refused by name; honest ones pass; the parent lives on."""

import dataclasses
import hashlib
import itertools

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from model_store import Limits, RefusedModel, check_model, gate


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


def test_an_honest_model_passes_with_its_figures(linear):
    report = check_model(linear)
    assert (report.digest, report.size) == (hashlib.sha256(linear).hexdigest(), len(linear))
    assert (report.nodes, report.initializers, report.parameters, report.depth) == (1, 1, 6, 1)
    assert (report.operators, report.opsets) == ({"MatMul": 1}, {"ai.onnx": 18})


def test_the_refusal_of_these_tests_notices_a_model_that_passes(linear):
    with pytest.raises(pytest.fail.Exception):
        refused(linear, "anything")


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"\x00" * 100, b"\x08" * 1000, b"PK\x03\x04", b"\x80\x04cos\nsystem\n."]
)
def test_what_is_no_model_is_refused(data):
    with pytest.raises(RefusedModel, match="the model is refused"):
        check_model(data)


def test_a_file_over_the_limit_is_not_even_looked_at(linear, monkeypatch):
    monkeypatch.setattr(gate, "_ask_child", lambda *_: pytest.fail("a child was asked"))
    refused(linear, "bytes, the limit is 10", Limits(max_bytes=10))


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


def test_a_child_that_dies_hangs_or_babbles_is_a_refusal(linear, monkeypatch):
    scripts = {
        "import os; os.kill(os.getpid(), 11)": "died of it",
        "import time; time.sleep(60)": "took more than 1 s",
        "import os\nwhile True: os.write(1, b'x' * 65536)": "died of it",
        "print('[]')": "died of it",
        "print('{\"report\": {}}')": "died of it",
        "print('{\"refused\": 5}')": "died of it",
    }
    for script, told in scripts.items():
        monkeypatch.setattr(gate, "_CHILD", script)
        refused(linear, told, Limits(wall_seconds=1.0))


def test_limits_of_memory_and_time_hold_in_the_child(linear, monkeypatch):
    real = gate._CHILD
    hungry = real.replace("main()", "import sys; from model_store import gate_child as g; g.examine = EXAMINE; main()")
    monkeypatch.setattr(gate, "_CHILD", hungry.replace("EXAMINE", "lambda data, limits: bytearray(1 << 32)"))
    refused(linear, "more memory")
    busy = "lambda data, limits: [None for _ in iter(int, 1)]"
    monkeypatch.setattr(gate, "_CHILD", hungry.replace("EXAMINE", busy.replace("[None", "sum(0").replace("1)]", "1))")))
    refused(linear, "1 s of computing", Limits(cpu_seconds=1))
    monkeypatch.setattr(gate, "_CHILD", hungry.replace("EXAMINE", "lambda data, limits: open('/etc/hostname')"))
    refused(linear, "died of it")


def test_the_parent_never_parses_the_file(linear, monkeypatch):
    for name in ("load_model_from_string", "load", "load_from_string"):
        monkeypatch.setattr(onnx, name, lambda *_, **__: pytest.fail("the parent parsed the file"))
    assert check_model(linear).nodes == 1


def test_the_gate_works_in_many_threads_and_leaves_no_process(linear):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(check_model, [linear] * 8))
    assert len({report.digest for report in reports}) == 1


def test_an_error_text_of_a_hostile_name_is_short(onnx_model):
    node = helper.make_node("Neg", ["x"], ["y"], name="n" * 100_000, domain="d" * 100_000)
    with pytest.raises(RefusedModel) as caught:
        check_model(onnx_model([node]).SerializeToString())
    assert len(str(caught.value)) < 500


def test_limits_are_plain_values():
    assert dataclasses.replace(Limits(), max_nodes=5).max_nodes == 5
