"""Everything that is known of one engine of the store, from the files beside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from engines import verdict as verdicts
from engines.errors import PlanError
from engines.measure import Throughput
from engines.report.fates import Fate, find_fates
from engines.report.layers import Layer, parse_layers
from engines.report.measured import parse_throughput
from engines.report.nodes import Node, Nodes, parse_nodes
from engines.report.shares import Share, group_of, shares_of
from engines.report.steps import StepReader, Steps, said
from engines.report.times import LayerTimes, parse_times
from engines.report.tuning import LayerTuning, Tuning, TuningReader
from engines.store_entry import (
    LAYERS_FILE,
    LOG_FILE,
    NODES_FILE,
    PROFILE_FILE,
    THROUGHPUT_FILE,
    Entry,
    read_beside,
    read_built,
    read_entry,
)
from engines.verdict import Verdict

__all__ = ["EngineReport", "ReportedLayer", "assemble", "read_report"]

Content = TypeVar("Content")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedLayer:
    """A layer and all that is said of it.

    Attributes:
        layer: The layer.
        group: One of `engines.report.shares.GROUPS`.
        nodes: ONNX nodes in it, in the graph's order; a node in several layers is listed in the
            first that runs a kernel.
        milliseconds: Its time; None where it was not profiled.
        share: Of all layers' time, 0 to 1; None where it was not profiled.
        tuning: How its kernel was found; None where the log does not say.
    """

    layer: Layer
    group: str
    nodes: tuple[Node, ...]
    milliseconds: float | None
    share: float | None
    tuning: LayerTuning | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineReport:
    """One engine.

    Attributes:
        key: Its name in the store.
        entry: What it was built from, when, and why.
        layers: In the order of execution.
        shares: The layers by precision, and how much of the time that is.
        nodes: The ONNX graph; None for engines of earlier versions, which did not list it.
        fates: What became of each node; () where there are no nodes.
        steps: Fusions and removals, from the build log; None where there is no log.
        tuning: Kernels tried, from the same log.
        times: Of a profiled run; None where there was none.
        throughput: As build_engine measured it; None where it did not.
        verdict: Agreement with fp32; None where it was not compared.
        missing: What could not be read, one sentence each.
    """

    key: str
    entry: Entry
    layers: tuple[ReportedLayer, ...]
    shares: tuple[Share, ...]
    nodes: Nodes | None
    fates: tuple[Fate, ...]
    steps: Steps | None
    tuning: Tuning | None
    times: LayerTimes | None
    throughput: Throughput | None
    verdict: Verdict | None
    missing: tuple[str, ...]

    @property
    def precision(self) -> str:
        """What was asked for: 'fp32', 'fp16', 'int8'."""
        return self.entry.manifest.computes_in

    @property
    def kernels(self) -> int:
        """Layers that run a kernel."""
        return sum(not row.layer.idle for row in self.layers)

    @property
    def gone(self) -> tuple[Fate, ...]:
        """Nodes that are in no layer."""
        return tuple(fate for fate in self.fates if not fate.layers)

    @property
    def images_per_second(self) -> float | None:
        """Kernels alone, nothing copied: as measured, else as profiled, else not known."""
        if self.throughput is not None:
            return self.throughput.compute_only
        return None if self.times is None else self.times.images_per_second


def read_report(folder: Path) -> EngineReport:
    """Read the files of one engine; what is missing or damaged is left out, and said.

    Raises:
        FileNotFoundError: There is no such folder.
        PlanError: Its manifest is damaged, or the folder is not ours.
    """
    entry = read_entry(folder)
    missing: list[str] = []

    def built(name: str, parse: Callable[[str], Content], absent: str) -> Content | None:
        return _parsed(name, lambda: read_built(folder, entry, name), parse, missing, absent)

    def later(name: str, parse: Callable[[Mapping[str, Any]], Content]) -> Content | None:
        return _parsed(
            name, lambda: read_beside(folder, name), lambda text: parse(_object(text)), missing
        )

    log = built(LOG_FILE, _read_log, "fusions and kernels tried are not known")
    return assemble(
        entry,
        layers=built(LAYERS_FILE, parse_layers, "the layers are not known") or (),
        nodes=built(
            NODES_FILE, parse_nodes, "built before nodes were listed: build it again to see them"
        ),
        log=log,
        times=later(PROFILE_FILE, parse_times),
        throughput=later(THROUGHPUT_FILE, parse_throughput),
        verdict=verdicts.read(folder),
        missing=missing,
    )


def assemble(
    entry: Entry,
    *,
    layers: tuple[Layer, ...],
    nodes: Nodes | None = None,
    log: tuple[Steps, Tuning] | None = None,
    times: LayerTimes | None = None,
    throughput: Throughput | None = None,
    verdict: Verdict | None = None,
    missing: list[str] | None = None,
) -> EngineReport:
    """Join what was read: nodes with layers, layers with their times and their tuning."""
    steps, tuning = log or (None, None)
    layers = (*layers, *_only_profiled(layers, times))
    removals = {} if steps is None else steps.removals
    fates = () if nodes is None else find_fates(nodes.nodes, layers, removals)
    milliseconds = _milliseconds(layers, times)
    return EngineReport(
        key=entry.manifest.key(),
        entry=entry,
        layers=tuple(_reported(layers, milliseconds, fates, tuning)),
        shares=shares_of(zip(layers, milliseconds, strict=True)),
        nodes=nodes,
        fates=fates,
        steps=steps,
        tuning=tuning,
        times=times,
        throughput=throughput,
        verdict=verdict,
        missing=tuple(missing or ()),
    )


def _reported(
    layers: tuple[Layer, ...],
    milliseconds: list[float | None],
    fates: tuple[Fate, ...],
    tuning: Tuning | None,
) -> list[ReportedLayer]:
    inside: dict[int, list[Node]] = {}
    for fate in fates:
        if fate.layers:
            inside.setdefault(fate.layers[0], []).append(fate.node)
    whole = sum(time or 0.0 for time in milliseconds)
    return [
        ReportedLayer(
            layer=layer,
            group=group_of(layer),
            nodes=tuple(inside.get(index, ())),
            milliseconds=time,
            share=None if time is None or not whole else time / whole,
            tuning=None if tuning is None else tuning.layers.get(layer.name),
        )
        for index, (layer, time) in enumerate(zip(layers, milliseconds, strict=True))
    ]


def _milliseconds(layers: tuple[Layer, ...], times: LayerTimes | None) -> list[float | None]:
    """By name; of layers of one name the first has the time of all. A layer without a kernel: 0."""
    if times is None:
        return [None] * len(layers)
    left = dict(zip(times.names, times.milliseconds, strict=True))
    return [left.pop(layer.name, 0.0) for layer in layers]


def _only_profiled(layers: tuple[Layer, ...], times: LayerTimes | None) -> tuple[Layer, ...]:
    """What the profiler names and the inspector does not: its time must not get lost."""
    known = {layer.name for layer in layers}
    return tuple(Layer(name=name) for name in (times.names if times else ()) if name not in known)


def _read_log(text: str) -> tuple[Steps, Tuning]:
    steps, tuning = StepReader(), TuningReader()
    for line in text.splitlines():
        words = said(line)
        steps.take(words)
        tuning.take(words)
    return steps.result(), tuning.result()


def _parsed(
    name: str,
    read: Callable[[], bytes | None],
    parse: Callable[[str], Content],
    missing: list[str],
    absent: str = "",
) -> Content | None:
    """Read and parse a file; where that is not possible, None and a sentence in `missing`."""
    try:
        content = read()
        if content is not None:
            return parse(content.decode(errors="replace"))
    except (PlanError, ValueError, RecursionError) as error:
        missing.append(f"{name} cannot be used: {error}")
        return None
    if absent:
        missing.append(f"There is no {name}: {absent}")
    return None


def _object(text: str) -> dict[str, Any]:
    content = json.loads(text)
    if not isinstance(content, dict):
        raise ValueError("it is no JSON object")
    return content
