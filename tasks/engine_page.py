"""The page of an engine report: one HTML file that needs nothing else, no script and no network."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import jinja2

from engines.report.assembled import EngineReport, ReportedLayer
from engines.report.shares import GROUPS, IDLE, OTHER, REFORMAT
from engines.report.tensors import Tensor
from tasks import engine_picture
from tasks.engine_comparison import ComparedEngine
from tasks.engine_table import COLUMNS

__all__ = ["render_page"]

TEMPLATE = "engine_page.html.j2"

TILES = 3
"""Shares that are written large."""

CAPTIONS = {REFORMAT: "only change dtype or memory format", OTHER: "in a precision not told"}
"""Of groups that are no precision."""

LISTED_NAMES = 60
"""Nodes named in full for one reason; a quantized network has hundreds."""


def render_page(
    report: EngineReport, rows: Sequence[ComparedEngine], remarks: Sequence[str]
) -> str:
    """Make the page.

    Args:
        report: The engine that the page is about.
        rows: It and the engines to compare it with.
        remarks: What should not be overlooked.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["slug"] = lambda group: group.replace(" ", "-")
    environment.tests["idle"] = lambda group: group == IDLE
    template = environment.from_string(files("tasks").joinpath(TEMPLATE).read_text())
    return template.render(_content(report, rows, remarks))


def _content(
    report: EngineReport, rows: Sequence[ComparedEngine], remarks: Sequence[str]
) -> dict[str, Any]:
    manifest = report.entry.manifest
    picture = engine_picture.draw(report)
    shares = [share for share in report.shares if share.group != IDLE]
    return {
        "report": report,
        "manifest": manifest,
        "built": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(report.entry.built_at)),
        "nodes": len(report.fates),
        "picture": picture,
        "drawing": engine_picture,
        "groups": GROUPS,
        "shares": shares,
        "largest": sorted(shares, key=lambda share: -share.share)[:TILES],
        "captions": CAPTIONS,
        "idle": sum(row.group == IDLE for row in report.layers),
        "costliest": _costliest(report, picture),
        "columns": _used_columns(rows),
        "compared": rows,
        "fastest": max((row.compute_only or 0.0 for row in rows), default=0.0),
        "remarks": remarks,
        "gone": _gone(report),
        "operators": Counter(fate.node.op for fate in report.fates).most_common(),
        "tensors": _tensors,
        "formats_told": any(tensor.dtype for row in report.layers for tensor in row.layer.outputs),
    }


def _costliest(
    report: EngineReport, picture: engine_picture.Picture
) -> list[tuple[int, ReportedLayer]]:
    """The numbered layers of the picture, the longest first."""
    kernels = [row for row in report.layers if row.group != IDLE]
    numbered = zip(picture.blocks, kernels, strict=True)
    return sorted(
        ((block.number, row) for block, row in numbered if block.number), key=lambda pair: pair[0]
    )


def _used_columns(rows: Sequence[ComparedEngine]) -> list[tuple[str, list[str]]]:
    """Columns of the comparison that have anything in them."""
    shown = [(title, [show(row) for row in rows]) for title, show in COLUMNS.items()]
    return [(title, cells) for title, cells in shown if any(cell != "-" for cell in cells)]


def _gone(report: EngineReport) -> list[Mapping[str, Any]]:
    """Nodes that are in no layer, by reason and operator, the most frequent first."""
    grouped: dict[tuple[str, str], list[str]] = {}
    for fate in report.gone:
        why = fate.why.partition(", into ")[0]
        grouped.setdefault((fate.node.op, why), []).append(fate.node.name)
    ordered = sorted(grouped.items(), key=lambda item: -len(item[1]))
    return [
        {
            "op": op,
            "why": why,
            "count": len(names),
            "names": names[:LISTED_NAMES],
            "more": max(0, len(names) - LISTED_NAMES),
        }
        for (op, why), names in ordered
    ]


def _tensors(tensors: Sequence[Tensor]) -> str:
    """Dtype and format of a layer's inputs or outputs, each kind once."""
    told = [f"{tensor.dtype or '?'} {tensor.format}".strip() for tensor in tensors]
    return ", ".join(dict.fromkeys(told)) if any(t != "?" for t in told) else ""
