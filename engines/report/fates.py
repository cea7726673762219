"""Which ONNX node went into which layer of the engine, and what became of the others.

TensorRT says it in three places, and none of them is complete. In this order:

    metadata   the inspector's `Metadata` of a layer lists ONNX nodes; Myelin's often have none
    name       a fused layer's name joins the names of what was fused
    log        the build log names what was absorbed by which layer, and what was removed and why
    flow       `{ForeignNode[a...b]}`, a region that Myelin compiled: what leads from nodes of other
               layers to b and is in no layer itself (inferred, not said)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from engines.report.layers import Layer
from engines.report.nodes import Node
from engines.report.steps import Removal, parts_of

__all__ = ["Fate", "find_fates"]

Source = Literal["metadata", "name", "log", "flow", ""]

FOREIGN = re.compile(r"\{ForeignNode\[(.+?)(?:\.\.\.(.+))?\]\}")
SUFFIX = re.compile(r"(?:_clone_\d+|_copy(?:_\w+)?| \[profile \d+\]|_myl\d+_\d+)+$")
"""Of names that TensorRT derives from a node's."""

COPY = "Reformatting CopyNode"
"""Followed by the name of the layer that it copies for, which is another layer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What became of a node.

    Attributes:
        node: The node.
        layers: Indices of the layers that it is in, in the order of execution; () where none.
        source: What says so.
        why: Why it is in no layer, in words; "" where it is in one.
    """

    node: Node
    layers: tuple[int, ...]
    source: Source
    why: str = ""


def find_fates(
    nodes: Sequence[Node], layers: Sequence[Layer], removals: dict[str, Removal]
) -> tuple[Fate, ...]:
    """Say of each node where it is.

    Args:
        nodes: In the graph's order.
        layers: Of the engine.
        removals: What the build log says of layers that are gone; {} where there is no log.

    Returns:
        A fate for each node, in order.
    """
    search = _Search(nodes, layers, removals)
    search.by_metadata()
    search.by_name()
    search.by_log()
    search.by_flow()
    return tuple(search.fate(node) for node in nodes)


class _Search:
    """Homes found so far: what was found first is not found again from a weaker source."""

    def __init__(
        self, nodes: Sequence[Node], layers: Sequence[Layer], removals: dict[str, Removal]
    ) -> None:
        self.nodes = {node.name: node for node in nodes}
        self.layers = layers
        self.removals = removals
        self.homes: dict[str, tuple[tuple[int, ...], Source]] = {}

    def by_metadata(self) -> None:
        self._settle(
            "metadata",
            ((name, i) for i, layer in enumerate(self.layers) for name in layer.onnx),
        )

    def by_name(self) -> None:
        self._settle(
            "name",
            (
                (name, i)
                for i, layer in enumerate(self.layers)
                if not layer.name.startswith(COPY)
                for part in _names_in(layer.name)
                for name in (part, SUFFIX.sub("", part))
            ),
        )

    def by_log(self) -> None:
        """Follow 'fusing A into B' until B is in a layer."""
        found: list[tuple[str, int]] = []
        for name in self.nodes:
            seen, at = {name}, self._removal(name)
            while at is not None and at.into is not None and at.into not in seen:
                seen.add(at.into)
                homes = next((self.homes[p][0] for p in parts_of(at.into) if p in self.homes), ())
                found += ((name, index) for index in homes[:1])
                at = None if homes else self.removals.get(at.into)
        self._settle("log", found)

    def by_flow(self) -> None:
        makers = {out: node.name for node in self.nodes.values() for out in node.outputs}
        for index, layer in enumerate(self.layers):
            for match in FOREIGN.finditer(layer.name):
                inside = self._leading_to(match[2] or match[1], index, makers)
                self._settle("flow", ((name, index) for name in inside))

    def fate(self, node: Node) -> Fate:
        layers, source = self.homes.get(node.name, ((), ""))
        if layers:
            return Fate(node=node, layers=layers, source=source)
        removal = self._removal(node.name)
        if removal is not None:
            into = f", into {removal.into}" if removal.into else ""
            return Fate(node=node, layers=(), source="log", why=f"{removal.why}{into}")
        if node.op == "Constant":
            return Fate(node=node, layers=(), source="", why="a constant, no layer of its own")
        return Fate(node=node, layers=(), source="", why="TensorRT does not say")

    def _removal(self, name: str) -> Removal | None:
        return self.removals.get(name)

    def _settle(self, source: Source, found: Iterable[tuple[str, int]]) -> None:
        """Give nodes without a home all the layers that were found for them; kernels first."""
        new: dict[str, list[int]] = {}
        for name, index in found:
            if name in self.nodes and name not in self.homes:
                new.setdefault(name, []).append(index)
        for name, indices in new.items():
            working = [i for i in indices if not self.layers[i].idle]
            idle = [i for i in indices if self.layers[i].idle]
            self.homes[name] = (tuple(dict.fromkeys(working + idle)), source)

    def _leading_to(self, last: str, index: int, makers: dict[str, str]) -> Iterator[str]:
        """The node `last` and all before it, up to those that are in another layer or removed."""
        waiting, seen = [last], {last}
        while waiting:
            name = waiting.pop()
            elsewhere = name in self.homes and index not in self.homes[name][0]
            if name not in self.nodes or elsewhere or name in self.removals:
                continue
            yield name
            before = {makers[tensor] for tensor in self.nodes[name].inputs if tensor in makers}
            waiting += before - seen
            seen |= before


def _names_in(name: str) -> Iterator[str]:
    """Names that a layer's name holds; of a compiled region its ends."""
    for part in parts_of(name):
        foreign = FOREIGN.fullmatch(part)
        yield from (end for end in foreign.groups() if end) if foreign else (part,)
