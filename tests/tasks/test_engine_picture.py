"""The geometry of the picture: what is as wide as what, and what leads where."""

from __future__ import annotations

import pytest

from engines.report.assembled import EngineReport, assemble
from engines.report.layers import Layer
from engines.report.nodes import Node, Nodes
from engines.report.times import LayerTimes
from engines.store_entry import Entry
from tasks.engine_picture import LEAST, WIDTH, draw
from tests.engines.manifests import BASE

ENTRY = Entry(
    manifest=BASE,
    plan_digest="",
    plan_bytes=1,
    files={},
    seconds=1.0,
    built_at=0.0,
    why=(),
)
LAYERS = (
    Layer(name="conv1 + relu1", precision="int8"),
    Layer(name="view", idle=True),
    Layer(name="copy", reformat=True),
    Layer(name="conv2 + relu2", precision="fp16"),
    Layer(name="fc", precision="fp16"),
)
NODES = [
    Node(name="conv1", op="Conv"),
    Node(name="q", op="QuantizeLinear"),
    Node(name="relu1", op="Relu"),
    Node(name="view", op="Flatten"),
    Node(name="conv2", op="Conv"),
    Node(name="relu2", op="Relu"),
    Node(name="fc", op="Gemm"),
]


def report(*milliseconds: float) -> EngineReport:
    names = tuple(layer.name for layer in LAYERS if not layer.idle)
    times = LayerTimes(
        batch_size=1,
        height=8,
        width=8,
        batches=1,
        names=names,
        milliseconds=milliseconds,
        batch_ms=1.0,
    )
    return assemble(
        ENTRY,
        layers=LAYERS,
        nodes=Nodes(nodes=tuple(NODES), before_precision=6),
        times=times if milliseconds else None,
    )


def test_layers_fill_the_width_each_with_its_share_of_the_time():
    picture = draw(report(6.0, 1.0, 3.0, 0.0))
    assert picture.profiled
    widths = [block.width for block in picture.blocks]
    assert sum(widths) == pytest.approx(WIDTH)
    spare = WIDTH - 4 * LEAST
    assert widths == pytest.approx([LEAST + spare * share for share in (0.6, 0.1, 0.3, 0)])
    edges = [block.x + block.width for block in picture.blocks]
    assert [block.x for block in picture.blocks[1:]] == pytest.approx(edges[:-1])
    assert [block.number for block in picture.blocks] == [1, 3, 2, 0]
    assert [block.label for block in picture.blocks] == ["60.0%", "10.0%", "30.0%", ""]


def test_without_a_profile_all_layers_are_equally_wide_and_none_is_the_costliest():
    picture = draw(report())
    assert not picture.profiled
    assert [block.width for block in picture.blocks] == pytest.approx([WIDTH / 4] * 4)
    assert {(block.number, block.label) for block in picture.blocks} == {(0, "")}


def test_nodes_are_equally_wide_and_say_where_they_went():
    cells = draw(report()).cells
    assert [cell.kind for cell in cells] == [
        "compute",
        "gone",
        "other",
        "view",
        "compute",
        "other",
        "compute",
    ]
    assert cells[1].title == "QuantizeLinear q, in no layer: TensorRT does not say"
    assert cells[4].title == "Conv conv2, in conv2 + relu2"
    assert len({round(cell.width, 6) for cell in cells}) == 1


def test_a_ribbon_leads_from_each_run_of_nodes_to_its_part_of_the_layer():
    blocks = draw(report()).blocks
    assert [len(block.ribbons) for block in blocks] == [2, 0, 1, 1]  # conv1 and relu1 are apart
    node = WIDTH / len(NODES)
    ribbon = blocks[2].ribbons[0]  # conv2 and relu2
    assert ribbon.startswith(f"M{4 * node:.1f} ")
    assert ribbon.endswith(f" {6 * node:.1f} 46.0Z")
    assert f"{blocks[2].x:.1f} 132.0 L{blocks[2].x + blocks[2].width:.1f} 132.0" in ribbon


def test_neighbours_of_one_precision_are_named_once():
    runs = draw(report()).runs
    assert [(run.group, run.label) for run in runs] == [
        ("int8", "int8"),
        ("reformat", "reformat"),
        ("fp16", "fp16"),
    ]
    assert runs[2].width == pytest.approx(WIDTH / 2)


def test_an_engine_without_anything_is_an_empty_picture():
    picture = draw(assemble(ENTRY, layers=()))
    assert (picture.cells, picture.blocks, picture.runs) == ((), (), ())
