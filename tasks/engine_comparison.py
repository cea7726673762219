"""Engines of one model side by side: what a narrower precision costs and what it brings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from engines.report.assembled import EngineReport
from engines.report.shares import REFORMAT

__all__ = ["ComparedEngine", "compare", "remarks"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedEngine:
    """One engine in the comparison. None stands for what is not known.

    Attributes:
        precision: What was asked for.
        key: Of the engine.
        batch: Batch sizes that it serves; throughput is of the largest.
        build_seconds: How long it took to build.
        plan_bytes: Size of its plan.
        nodes: ONNX nodes that TensorRT was given.
        layers: Layers that run a kernel.
        reformats: Layers that only change dtype or memory format.
        narrow_share: Share of the layers that compute in the precision asked for, of the time where
            it was profiled.
        compute_only: Images a second, nothing copied.
        with_transfers: Images a second with uploads and downloads.
        latency_p50_ms: Of a batch by itself.
        agreement: Top-1 agreement with fp32, 0 to 1.
        images_compared: Images behind the agreement.
        passed: Whether it may serve.
    """

    precision: str
    key: str
    batch: str
    build_seconds: float
    plan_bytes: int
    nodes: int | None
    layers: int
    reformats: int
    narrow_share: float
    compute_only: float | None
    with_transfers: float | None
    latency_p50_ms: float | None
    agreement: float | None
    images_compared: int | None
    passed: bool | None


def compare(reports: Sequence[EngineReport]) -> tuple[ComparedEngine, ...]:
    """A row for each engine; what was not measured by itself has the speed that auto measured."""
    speeds = {
        (report.entry.manifest.batch, precision): speed
        for report in reports
        if report.verdict is not None
        for precision, speed in report.verdict.evidence.speeds.items()
    }
    return tuple(
        _compared(report, speeds.get((report.entry.manifest.batch, report.precision)))
        for report in reports
    )


def remarks(rows: Sequence[ComparedEngine]) -> list[str]:
    """What a person should not overlook: a narrower engine that is slower, or that failed."""
    said = []
    for row in rows:
        if row.passed is False:
            said.append(
                f"{row.precision} failed the comparison with fp32 and does not serve by itself."
            )
    for wide, narrow in pairwise(rows):
        slow, fast = _speeds(narrow, wide)
        if slow < fast:
            said.append(
                f"{narrow.precision} is slower than {wide.precision} on this GPU: "
                f"{slow:,.0f} against {fast:,.0f} images/s."
            )
    if len({row.batch for row in rows}) > 1:
        said.append("The engines serve different batch sizes: compare throughput with care.")
    return said


def _speeds(narrow: ComparedEngine, wide: ComparedEngine) -> tuple[float, float]:
    """Images a second of both, measured alike; twice 0 where they were not."""
    if narrow.compute_only is not None and wide.compute_only is not None:
        return narrow.compute_only, wide.compute_only
    if narrow.with_transfers is not None and wide.with_transfers is not None:
        return narrow.with_transfers, wide.with_transfers
    return 0.0, 0.0


def _compared(report: EngineReport, speed: float | None) -> ComparedEngine:
    throughput, verdict = report.throughput, report.verdict
    found = None if verdict is None else verdict.evidence.comparison
    asked = {"fp32": {"fp32", "tf32"}}.get(report.precision, {report.precision})
    return ComparedEngine(
        precision=report.precision,
        key=report.key,
        batch=report.entry.manifest.batch,
        build_seconds=round(report.entry.seconds, 1),
        plan_bytes=report.entry.plan_bytes,
        nodes=None if report.nodes is None else len(report.nodes.nodes),
        layers=report.kernels,
        reformats=sum(row.group == REFORMAT for row in report.layers),
        narrow_share=sum(share.share for share in report.shares if share.group in asked),
        compute_only=report.images_per_second,
        with_transfers=speed if throughput is None else throughput.with_transfers,
        latency_p50_ms=None if throughput is None else throughput.latency_ms.p50,
        agreement=None if found is None else found.top1_agreement,
        images_compared=None if found is None else found.images,
        passed=None if verdict is None else verdict.passed,
    )
