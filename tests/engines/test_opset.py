from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, numpy_helper

from engines import opset_runtime
from engines.errors import ModelError
from engines.opset import fit_operators
from engines.opset_runtime import settle_operators
from engines.ort_session import Session, newest_opset
from tests.models.importers import TENSORRT_8_6

X = np.random.default_rng(0).standard_normal((2, 4, 6, 6)).astype(np.float32)


def parse(body, opset, *, shape="2, 4, 6, 6", header=""):
    return onnx.parser.parse_model(
        f"""<ir_version: 10, opset_import: ["": {opset}{header}]>
        g (float[{shape}] x) => (float y) {{ {body} }}"""
    )


def run(model, x=X):
    session = Session(model.SerializeToString(), threads=1, optimise=False)
    return session.run([model.graph.output[0].name], {"x": x})[0]


def fit(model, **options):
    known = {"supports": TENSORRT_8_6.__contains__, "opset": 17, "parser": "TensorRT 8.6.1"}
    fit_operators(model, **known | options)


def assert_lowered_alike(model, atol=1e-6, x=X):
    """Lowering gives a valid graph of opset 17 in 8.6's operators, with the same results."""
    expected = run(model, x)
    fit(model)
    assert [entry.version for entry in model.opset_import if entry.domain == ""] == [17]
    assert model.ir_version == 8
    assert {node.op_type for node in model.graph.node} <= TENSORRT_8_6
    names = [node.name for node in model.graph.node if node.name]
    assert len(set(names)) == len(names)
    onnx.checker.check_model(model, full_check=False)
    np.testing.assert_allclose(run(model, x), expected, rtol=1e-5, atol=atol)


@pytest.mark.parametrize(
    ("opset", "body"),
    [
        (20, "y = Gelu (x)"),
        (20, 'y = Gelu <approximate = "tanh"> (x)'),
        (22, "y = Mish (x)"),
        (24, "y = Swish <alpha = 1.5> (x)"),
        (19, "y = CastLike (x, x)"),
        (
            21,
            """s = Constant <value = float[4] {1, 2, 3, 4}> ()
               b = Constant <value = float[4] {0, 1, 0, 1}> ()
               y = GroupNormalization <num_groups = 2> (x, s, b)""",
        ),
        (
            18,
            """s = Constant <value = float[2] {1, 2}> ()
               b = Constant <value = float[2] {0, 1}> ()
               y = GroupNormalization <num_groups = 2> (x, s, b)""",
        ),
        (23, "y = Attention (x, x, x)"),
        (21, "y = Identity (x)"),
        (22, "a = GlobalAveragePool (x)\n y = HardSwish (a)"),
        (19, "y = AveragePool <kernel_shape = [2, 2], dilations = [1, 1]> (x)"),
        (24, "c = Cast <to = 10, saturate = 1> (x)\n y = Cast <to = 1> (c)"),
        (20, "a = GlobalMaxPool (x)\n y = Flatten <axis = 1> (a)"),
    ],
)
def test_newer_operators_and_types_are_lowered_without_a_difference(opset, body):
    assert_lowered_alike(parse(body, opset))


@pytest.mark.parametrize(
    "operator",
    ["Mean", "Max", "Min", "Prod", "L1", "L2", "LogSumExp", "SumSquare", "Sum"],
)
@pytest.mark.parametrize("axes", ["-1, -2", "1"])
def test_axes_of_a_reduction_become_an_attribute(operator, axes):
    count = axes.count(",") + 1
    model = parse(
        f"""axes = Constant <value = int64[{count}] {{{axes}}}> ()
            y = Reduce{operator} <keepdims = 0> (x, axes)""",
        18,
    )
    assert_lowered_alike(model, atol=1e-4)


def test_a_reduction_without_axes_stays_one_over_all():
    assert_lowered_alike(parse("y = ReduceMean (x)", 18))


@pytest.mark.parametrize(("axis", "count"), [(0, 2), (1, 3), (-1, 3)])
def test_parts_of_a_split_get_their_sizes(axis, count):
    """Seven channels in three parts are 3, 3 and 1."""
    names = ", ".join(f"p{index}" for index in range(count))
    body = f"""{names} = Split <axis = {axis}, num_outputs = {count}> (x)
               y = Concat <axis = {axis}> ({", ".join(reversed(names.split(", ")))})"""
    x = np.random.default_rng(1).standard_normal((2, 7, 6, 6)).astype(np.float32)
    assert_lowered_alike(parse(body, 18, shape="2, 7, 6, 6"), x=x)


def test_axes_of_pads_and_scales_are_written_out():
    pads = """pads = Constant <value = int64[4] {1, 2, 3, 4}> ()
              axes = Constant <value = int64[2] {3, -2}> ()
              y = Pad (x, pads, , axes)"""
    assert_lowered_alike(parse(pads, 18))
    scales = """scales = Constant <value = float[2] {2, 3}> ()
                y = Resize <axes = [2, 3], mode = "nearest", nearest_mode = "floor",
                            coordinate_transformation_mode = "asymmetric", antialias = 0,
                            keep_aspect_ratio_policy = "stretch"> (x, , scales)"""
    assert_lowered_alike(parse(scales, 19))


@pytest.mark.parametrize("mode", ["linear", "cubic", "nearest"])
def test_modes_of_grid_sample_get_their_old_names(mode):
    body = f"""grid = Constant <value = float[1, 1, 2, 2] {{0, 0.5, -0.5, 0.1}}> ()
              one = Constant <value = int64[4] {{2, 1, 2, 2}}> ()
              wide = Expand (grid, one)
              y = GridSample <mode = "{mode}"> (x, wide)"""
    assert_lowered_alike(parse(body, 20))


def test_a_type_stated_by_quantize_becomes_a_zero_point():
    body = """s = Constant <value = float {0.1}> ()
              q = QuantizeLinear <output_dtype = 3, block_size = 0, saturate = 1> (x, s)
              y = DequantizeLinear <output_dtype = 1> (q, s)"""
    model = parse(body, 23)
    assert_lowered_alike(model)
    [zero] = [tensor for tensor in model.graph.initializer if "zero_point" in tensor.name]
    assert (zero.data_type, numpy_helper.to_array(zero)) == (TensorProto.INT8, 0)


def test_nodes_keep_their_names_and_definitions_are_named_after_what_they_define():
    model = parse("a = Relu (x)\n b = Gelu (a)\n c = Neg (b)\n y = Mish (c)", 22)
    for node, name in zip(
        model.graph.node, ("nightshift/relu", "/act", "/neg", "/last"), strict=True
    ):
        node.name = name
    fit(model)
    names = [node.name for node in model.graph.node]
    assert names[0] == "nightshift/relu"
    assert names[1:].count("/neg") == 1
    end = names.index("/neg")
    assert all(name.startswith("/act/") for name in names[1:end])
    assert all(name.startswith("/last/") for name in names[end + 1 :])


def test_branches_are_lowered_too():
    body = """axes = Constant <value = int64[2] {2, 3}> ()
              yes = Constant <value = bool {1}> ()
              y = If (yes) <
                then_branch = a () => (float t) { t = ReduceMean (x, axes) },
                else_branch = b () => (float e) { e = ReduceMax (x, axes) }
              >"""
    assert_lowered_alike(parse(body, 18))


def test_a_graph_that_is_old_enough_stays_byte_for_byte():
    model = parse("y = Relu (x)", 13)
    before = model.SerializeToString(deterministic=True)
    fit(model)
    assert model.SerializeToString(deterministic=True) == before


def test_a_parser_without_limit_still_gets_definitions_for_what_it_lacks():
    model = parse(
        "a = Gelu (x)\n axes = Constant <value_ints = [1]> ()\n y = ReduceMean (a, axes)", 20
    )
    expected = run(model)
    fit(model, opset=None)
    assert model.opset_import[0].version == 20
    assert "Gelu" not in {node.op_type for node in model.graph.node}
    np.testing.assert_allclose(run(model), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("opset", "body", "message"),
    [
        (
            18,
            """one = Constant <value = int64[1] {1}> ()
               s = Shape (x)
               r = Div (s, s)
               axes = Slice (r, one, one)
               y = ReduceMean (x, axes)""",
            r"ReduceMean 'n\d'.*input 2 is computed.*opset_version=17.*--backend onnxruntime",
        ),
        (
            19,
            """s = Constant <value = float[4] {1, 1, 2, 2}> ()
               y = Resize <antialias = 1, mode = "linear"> (x, , s)""",
            "Resize 'n1' cannot be written in it: opset 17 has no attribute .antialias. there",
        ),
        (
            19,
            "y = AveragePool <kernel_shape = [2, 2], dilations = [2, 2]> (x)",
            "AveragePool 'n0'.*dilations",
        ),
        (
            23,
            """s = Constant <value = float[6] {1, 2, 3, 4, 5, 6}> ()
               y = RMSNormalization <axis = -1> (x, s)""",
            "ReduceMean 'n1/ReduceMean_.*input 2 is computed",
        ),
        (18, "c = Cast <to = 6> (x)\n n = BitwiseNot (c)\n y = Cast <to = 1> (n)", "BitwiseNot"),
    ],
)
def test_what_cannot_be_lowered_is_refused_by_node(opset, body, message):
    model = parse(body, opset)
    for index, node in enumerate(model.graph.node):
        node.name = f"n{index}"
    with pytest.raises(ModelError, match=message):
        fit(model)


def test_operators_of_other_vendors_are_refused_by_name_all_at_once():
    model = parse(
        """a = com.microsoft.FusedConv (x)
           b = com.microsoft.BiasGelu (a)
           c = com.microsoft.BiasGelu (b)
           y = NonMaxSuppression_2 (c)""",
        17,
        header=', "com.microsoft": 1',
    )
    for index, node in enumerate(model.graph.node):
        node.name = f"n{index}"
    with pytest.raises(
        ModelError,
        match=r"TensorRT 8.6.1 has no operator com.microsoft.FusedConv \(first node 'n0'\),"
        r" com.microsoft.BiasGelu \(first node 'n1'\), NonMaxSuppression_2 .*--backend onnxruntime",
    ):
        fit(model)


def test_local_functions_are_written_out():
    model = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["": 20, "pkg": 1]>
        g (float[2, 4, 6, 6] x) => (float[2, 4, 6, 6] y) { y = pkg.twice (x) }
        <domain: "pkg", opset_import: ["": 20]>
        twice (a) => (b) { b = Add (a, a) }"""
    )
    expected = run(model)
    settle_operators(model)
    assert not model.functions
    assert [node.op_type for node in model.graph.node] == ["Add"]
    np.testing.assert_array_equal(run(model), expected)


def test_an_opset_newer_than_onnx_runtime_is_lowered_to_its_newest(monkeypatch):
    """As onnx 1.23 with onnxruntime 1.27, which ends at an earlier opset."""
    monkeypatch.setattr(opset_runtime, "newest_opset", lambda: 22)
    model = parse("a = Swish <alpha = 1.5> (x)\n y = Relu (a)", 24)
    expected = run(model)
    settle_operators(model)
    assert model.opset_import[0].version == 22
    assert "Swish" not in {node.op_type for node in model.graph.node}
    np.testing.assert_allclose(run(model), expected, atol=1e-6)
    model = parse("s = Shape (x)\n y = TensorScatter (x, x)", 24)
    with pytest.raises(ModelError, match=r"ONNX Runtime .*TensorScatter.*or use a newer onnxrunt"):
        settle_operators(model)


def test_onnx_runtime_says_which_opset_is_its_newest():
    assert 23 <= newest_opset() <= onnx.defs.onnx_opset_version()
