"""The picture of an engine report: ONNX nodes above, engine layers below, ribbons between them.

Pure geometry, in the units of the drawing; the page draws it. A node is as wide as any other. A
layer is as wide as its share of the time, so that the eye finds what costs; where the engine was
not profiled, all layers that run a kernel are equally wide, and the page says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from engines.report.assembled import EngineReport, ReportedLayer
from engines.report.shares import IDLE

__all__ = ["Block", "Cell", "Picture", "Run", "draw"]

WIDTH = 1120.0
NODES_TOP, NODES_BOTTOM = 26.0, 46.0
LAYERS_TOP, LAYERS_BOTTOM = 132.0, 180.0

LEAST = 1.5
"""Narrowest layer: still to be seen."""

NUMBERED = 8
"""Layers that get a number and a line in the list of the costliest."""

TEXT_WIDTH = 7.0
"""Of a character in the drawing's type, about."""

COMPUTING = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum"})
CASTING = frozenset({"Cast", "QuantizeLinear", "DequantizeLinear"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """An ONNX node.

    Attributes:
        x: Left edge.
        width: Of the cell.
        kind: 'compute', 'cast' (Q/DQ, too), 'other'; 'view' where no kernel runs for it, 'gone'.
        title: What a pointer shows.
    """

    x: float
    width: float
    kind: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A layer that runs a kernel.

    Attributes:
        x: Left edge.
        width: Of the block.
        group: Its precision, or 'reformat', 'not told'.
        label: Its share of the time, where there is room; else "".
        number: Place among the costliest, from 1; 0 for the others.
        title: What a pointer shows.
        ribbons: Paths from its nodes.
    """

    x: float
    width: float
    group: str
    label: str
    number: int
    title: str
    ribbons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Neighbouring layers of one group: its name stands below them once.

    Attributes:
        x: Left edge.
        width: Of all of them.
        group: Their group.
        label: Its name where there is room, else "".
    """

    x: float
    width: float
    group: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Everything to draw.

    Attributes:
        cells: One for each node.
        blocks: One for each layer with a kernel.
        runs: One for each run of layers of one group.
        profiled: Whether widths are times.
    """

    cells: tuple[Cell, ...]
    blocks: tuple[Block, ...]
    runs: tuple[Run, ...]
    profiled: bool


def draw(report: EngineReport) -> Picture:
    """Lay out the picture of an engine."""
    indices = [i for i, row in enumerate(report.layers) if row.group != IDLE]
    rows = [report.layers[index] for index in indices]
    edges = _edges(rows)
    numbers = {row: place for place, row in enumerate(_costliest(report.layers), start=1)}
    places = _places(report)
    blocks = tuple(
        Block(
            x=left,
            width=right - left,
            group=row.group,
            label=_label(row, right - left),
            number=numbers.get(index, 0),
            title=_title(row),
            ribbons=tuple(_ribbons(places.get(index, []), len(report.fates), left, right)),
        )
        for index, row, (left, right) in zip(indices, rows, edges, strict=True)
    )
    return Picture(
        cells=tuple(_cells(report)),
        blocks=blocks,
        runs=tuple(_runs(blocks)),
        profiled=report.times is not None,
    )


def _costliest(rows: Sequence[ReportedLayer]) -> list[int]:
    """Indices of the layers that take longest."""
    timed = [index for index, row in enumerate(rows) if row.milliseconds]
    return sorted(timed, key=lambda index: -(rows[index].milliseconds or 0.0))[:NUMBERED]


def _edges(rows: Sequence[ReportedLayer]) -> list[tuple[float, float]]:
    """Left and right edge of each layer: its share of the width, never less than can be seen."""
    if not rows:
        return []
    least = min(LEAST, WIDTH / len(rows))
    weights = [row.milliseconds if row.milliseconds is not None else 1.0 for row in rows]
    whole = sum(weights) or 1.0
    spare = WIDTH - least * len(rows)
    edges, x = [], 0.0
    for weight in weights:
        width = least + spare * weight / whole
        edges.append((x, x + width))
        x += width
    return edges


def _places(report: EngineReport) -> dict[int, list[int]]:
    """Positions of the nodes of each layer."""
    places: dict[int, list[int]] = {}
    for position, fate in enumerate(report.fates):
        if fate.layers:
            places.setdefault(fate.layers[0], []).append(position)
    return places


def _cells(report: EngineReport) -> Iterator[Cell]:
    width = WIDTH / max(1, len(report.fates))
    for position, fate in enumerate(report.fates):
        home = report.layers[fate.layers[0]] if fate.layers else None
        if home is None:
            kind, where = "gone", f"in no layer: {fate.why}"
        elif home.group == IDLE:
            kind, where = "view", f"no kernel runs for it: {home.layer.name}"
        else:
            kind, where = _kind(fate.node.op), f"in {home.layer.name}"
        gap = min(1.0, 0.2 * width)
        title = f"{fate.node.op} {fate.node.name}, {where}"
        yield Cell(x=position * width, width=width - gap, kind=kind, title=title)


def _kind(op: str) -> str:
    return "compute" if op in COMPUTING else "cast" if op in CASTING else "other"


def _ribbons(places: Sequence[int], nodes: int, left: float, right: float) -> Iterator[str]:
    """From each run of neighbouring nodes to its part of the layer."""
    middle = (NODES_BOTTOM + LAYERS_TOP) / 2
    width = WIDTH / max(1, nodes)
    x = left
    for run in _neighbours(places):
        start, end = run[0] * width, (run[-1] + 1) * width
        to = x + (right - left) * len(run) / len(places)
        yield (
            f"M{start:.1f} {NODES_BOTTOM} C{start:.1f} {middle} {x:.1f} {middle} {x:.1f} "
            f"{LAYERS_TOP} L{to:.1f} {LAYERS_TOP} C{to:.1f} {middle} {end:.1f} {middle} {end:.1f} "
            f"{NODES_BOTTOM}Z"
        )
        x = to


def _neighbours(places: Sequence[int]) -> Iterator[list[int]]:
    for _, run in groupby(enumerate(places), key=lambda pair: pair[1] - pair[0]):
        yield [place for _, place in run]


def _runs(blocks: Sequence[Block]) -> Iterator[Run]:
    for group, run in groupby(blocks, key=lambda block: block.group):
        members = list(run)
        x, end = members[0].x, members[-1].x + members[-1].width
        fits = len(group) * TEXT_WIDTH < end - x
        yield Run(x=x, width=end - x, group=group, label=group if fits else "")


def _label(row: ReportedLayer, width: float) -> str:
    label = "" if row.share is None else f"{row.share:.1%}"
    return label if len(label) * TEXT_WIDTH < width else ""


def _title(row: ReportedLayer) -> str:
    time = "" if row.milliseconds is None else f", {row.milliseconds:.3f} ms ({row.share:.1%})"
    return f"{row.layer.name}: {row.group}{time}"
