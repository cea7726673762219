"""The throughput of an engine, kept beside it as throughput.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from engines.measure import Latency, Throughput
from engines.report.kept_file import parsing

__all__ = ["parse_throughput", "throughput_json"]

FORMAT = 1


def throughput_json(found: Throughput) -> dict[str, Any]:
    """As plain JSON values."""
    return {"format": FORMAT, **asdict(found)}


def parse_throughput(content: Mapping[str, Any]) -> Throughput:
    """Read what `throughput_json` made.

    Raises:
        ValueError: It is something else, or of a later version.
    """
    with parsing("throughput", content, FORMAT):
        height, width = content["image_size"]
        latency = content["latency_ms"]
        return Throughput(
            batch_size=int(content["batch_size"]),
            image_size=(int(height), int(width)),
            compute_only=float(content["compute_only"]),
            with_transfers=float(content["with_transfers"]),
            latency_ms=Latency(**{name: float(latency[name]) for name in ("p50", "p90", "p99")}),
            cuda_graph=bool(content["cuda_graph"]),
            batches=int(content["batches"]),
        )
