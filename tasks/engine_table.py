"""What inspect_engine prints: a few sentences, the costliest layers, the comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from engines.report.shares import IDLE
from tasks.engine_comparison import ComparedEngine

if TYPE_CHECKING:
    from tasks.inspect_engine import InspectSummary, ShownLayer

__all__ = ["COLUMNS", "summary_lines"]

COSTLIEST = 10
"""Layers that are listed: beyond them, none is worth a person's time."""

COLUMNS: dict[str, Callable[[ComparedEngine], str]] = {
    "precision": lambda row: row.precision,
    "engine": lambda row: row.key[:12],
    "batch": lambda row: row.batch,
    "built in": lambda row: f"{row.build_seconds:,.0f} s",
    "plan": lambda row: f"{row.plan_bytes / 2**20:,.1f} MiB",
    "nodes": lambda row: _or_dash(row.nodes, "{:,}"),
    "layers": lambda row: f"{row.layers:,}",
    "reformats": lambda row: f"{row.reformats:,}",
    "in precision": lambda row: f"{row.narrow_share:.1%}",
    "compute only": lambda row: _or_dash(row.compute_only, "{:,.0f}/s"),
    "with transfers": lambda row: _or_dash(row.with_transfers, "{:,.0f}/s"),
    "p50": lambda row: _or_dash(row.latency_p50_ms, "{:.2f} ms"),
    "top-1 as fp32": lambda row: _or_dash(row.agreement, "{:.2%}"),
}
"""Columns of the comparison, for the terminal and for the page."""


def summary_lines(summary: InspectSummary) -> list[str]:
    """The summary for a person."""
    return [
        f"The {summary.precision} engine {summary.key[:12]} of {summary.model_id}: "
        f"{summary.device}, TensorRT {summary.tensorrt}.",
        *_counts(summary),
        *_shares(summary),
        *_costliest(summary.layers),
        *_tuning(summary),
        "",
        *_table(summary.comparison),
        *summary.remarks,
        *(f"{sentence}." for sentence in summary.missing),
        *([f"Page: {summary.page}"] if summary.page else []),
    ]


def _counts(summary: InspectSummary) -> list[str]:
    kernels = sum(layer.group != IDLE for layer in summary.layers)
    became = f"{len(summary.layers):,} layers, {kernels:,} of which run a kernel"
    if summary.nodes is None:
        return [f"It has {became}."]
    gone = len(summary.gone)
    left = f"; {gone:,} {'is' if gone == 1 else 'are'} in no layer" if gone else ""
    return [f"{summary.nodes:,} ONNX nodes became {became}{left}."]


def _shares(summary: InspectSummary) -> list[str]:
    if not summary.shares:
        return []
    parts = [f"{share.group} {share.share:.1%}" for share in summary.shares if share.group != IDLE]
    of = "the time" if summary.profiled else "its layers (not profiled: --profile times them)"
    return [f"Of {of}: {', '.join(parts)}."]


def _costliest(layers: Sequence[ShownLayer]) -> list[str]:
    timed = [(layer.milliseconds, layer) for layer in layers if layer.milliseconds]
    timed.sort(key=lambda pair: -pair[0])
    if not timed:
        return []
    return [
        "Most time:",
        *(
            f"  {layer.share or 0:6.1%} {milliseconds:9.3f} ms  {layer.group:<9} {layer.name}"
            for milliseconds, layer in timed[:COSTLIEST]
        ),
    ]


def _tuning(summary: InspectSummary) -> list[str]:
    if not summary.combinations:
        return []
    return [
        f"{summary.kernels_tried:,} kernels were timed; {summary.combinations_reused:,} of "
        f"{summary.combinations:,} combinations of layer and formats were answered by the "
        "timing cache."
    ]


def _table(rows: Sequence[ComparedEngine]) -> list[str]:
    cells = [list(COLUMNS), *([show(row) for show in COLUMNS.values()] for row in rows)]
    used = [
        column for column in zip(*cells, strict=True) if any(cell != "-" for cell in column[1:])
    ]
    widths = [max(map(len, column)) for column in used]
    return [
        "  ".join(
            cell.ljust(width) if index < 3 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in zip(*used, strict=True)
    ]


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
