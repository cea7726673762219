"""A graph exported for one batch size, changed in place so that it takes any.

Exporters that trace one example write its batch size into constants: the target of a Reshape, the
rows of a class token before a Concat, the sizes of a Resize. Here the batch is followed from the
images to the scores (engines.batch_axis), and wherever such a constant fixes it, the constant is
replaced:

    Reshape      [1, 197, 12, 64] becomes [-1, 197, 12, 64], wherever in it the batch lies
    Squeeze      of an axis that has size 1 only because the batch has: becomes a Reshape, and so
                 does the Unsqueeze that puts it back
    Concat       with a tensor that has no batch, along another axis: that tensor is expanded
    Gather       from all values in one row (as_strided): from one row for each image
    Resize       to given sizes: the batch's is asked of the tensor
    Expand       to the batch that the tensor has already: to 1, which keeps it
    Add, Mul, …  with a constant of as many equal rows as images: one row is enough

What is not sure is left alone. Nothing here proves that the result is right: engines.batching runs
it beside the graph as it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from engines.batch_axis import (
    Place,
    attribute,
    reshape_place,
    result_place,
    squeezed_axes,
)
from engines.observe import Observed
from engines.wrap import IMAGES

__all__ = ["Rebatched", "rebatch"]

PREFIX = "rebatch/"
"""Of the names of nodes and constants that are added: they belong to the model, and take part in
its precision."""

_BROADCASTING = {"Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Sum", "Where", "MatMul"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebatched:
    """What was done to a graph.

    Attributes:
        changed: The nodes that held the batch size in a constant, as 'Reshape /blocks/0/Reshape'.
        lost: The nodes behind which the images of a batch cannot be told apart, written likewise.
    """

    changed: tuple[str, ...]
    lost: tuple[str, ...]


def rebatch(wrapped: ModelProto, observed: Observed, *, any_size: bool = False) -> Rebatched:
    """Replace constants that fix the batch, in place.

    Args:
        wrapped: The wrapped graph, see engines.wrap.
        observed: Its tensors at the batch size that it was exported for.
        any_size: Height and width are open, so that no size but the batch may be written down;
            less can be replaced then.
    """
    work = _Rebatch(observed, any_size=any_size)
    for node in wrapped.graph.node:
        work.visit(node)
        work.nodes.append(node)
    if work.constants:
        # A protobuf list cannot be spliced, and its nodes die with it.
        nodes = [NodeProto.FromString(node.SerializeToString()) for node in work.nodes]
        del wrapped.graph.node[:]
        wrapped.graph.node.extend(nodes)
        wrapped.graph.initializer.extend(work.constants)
    return Rebatched(changed=tuple(work.changed), lost=tuple(work.lost))


class _Rebatch:
    """One walk through a graph, in the order in which its nodes run."""

    def __init__(self, observed: Observed, *, any_size: bool) -> None:
        self.shapes = observed.shapes
        self.integers = observed.integers
        self.any_size = any_size
        self.batch = self.shapes[IMAGES][0]
        self.places: dict[str, Place] = {IMAGES: Place(0)}
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self.changed: list[str] = []
        self.lost: list[str] = []

    def visit(self, node: NodeProto) -> None:
        """Change a node if it fixes the batch, and note where its outputs have the batch."""
        source = next((i for i, name in enumerate(node.input) if name in self.places), None)
        if source is None or node.op_type in ("Shape", "Size") or not node.output:
            return
        described = f"{node.op_type} {node.name}"
        before = len(self.constants)
        result = self.follow(node, source, self.places[node.input[source]])
        if len(self.constants) > before:
            self.changed.append(described)
        if result is None:
            self.lost.append(described)
            return
        rank = len(self.shapes[node.output[0]])
        for name in node.output:
            if len(self.shapes.get(name, ())) == rank:
                self.places[name] = result

    def follow(self, node: NodeProto, source: int, place: Place) -> Place | None:
        """Where the batch lies behind a node, which is changed if it fixes the batch."""
        given, made = (self.shapes.get(name) for name in (node.input[source], node.output[0]))
        if given is None or made is None:
            return None
        if node.op_type == "Reshape":
            return self.reshape(node, place)
        result = result_place(node, source, place, self.shapes, self.integers)
        match node.op_type:
            case "Squeeze":
                return self.squeeze(node, place, result)
            case "Unsqueeze" if result and given[place.axis] != self.batch and not self.any_size:
                return self.unsqueeze(node, place, result)
            case "Gather" if result is None and source == 0:
                return self.gather(node, place)
            case "Concat" if result and attribute(node, "axis") % len(made) != result.axis:
                for index in self.others(node, len(made), result):
                    self.expand(node, index, node.input[source], result)
            case "Expand" if result and source == 0 and given[place.axis] == made[result.axis]:
                self.leave_batch_alone(node, result.axis)
            case "Resize" if result == Place(0) and len(node.input) > 3:
                self.resize(node)
            case operator if result and operator in _BROADCASTING:
                for index in self.others(node, len(made), result):
                    self.take_one_row(node, index, result.axis - len(made))
        return result

    def reshape(self, node: NodeProto, place: Place) -> Place | None:
        given, made = self.shapes[node.input[0]], self.shapes[node.output[0]]
        result = reshape_place(place, given, made, self.batch)
        target = self.integers.get(node.input[1])
        if result is None:
            return None
        kept = place == result and given[: place.axis] == made[: place.axis]
        means_kept = kept and not attribute(node, "allowzero", 0)
        if target is not None and target[result.axis] in ((-1, 0) if means_kept else (-1,)):
            return result
        if not self.any_size:
            # One that is computed as well: tracing left the batch a number, and asked for the rest.
            self.retarget(node, made, result.axis)
        elif target is not None and means_kept and place == Place(0) and given[0] == made[0]:
            self.set_target(node, [0, *target[1:].tolist()])
        return result

    def squeeze(self, node: NodeProto, place: Place, result: Place | None) -> Place | None:
        given, made = self.shapes[node.input[0]], self.shapes[node.output[0]]
        stated = attribute(node, "axes") is not None or len(node.input) > 1
        if self.any_size or (result is not None and stated):
            return result
        if squeezed_axes(node, given, self.integers) is None:
            return None
        # Without axes, a batch of 1 would lose its axis, and another would not.
        result = result or reshape_place(place, given, made, self.batch)
        if result is not None:
            node.op_type = "Reshape"
            self.retarget(node, made, result.axis)
        return result

    def unsqueeze(self, node: NodeProto, place: Place, result: Place) -> Place:
        """An axis that is added in front of merged images may be the batch's, put back."""
        given, made = self.shapes[node.input[0]], self.shapes[node.output[0]]
        other = reshape_place(place, given, made, self.batch)
        if other is None or other == result or made[other.axis] != self.batch:
            return result
        node.op_type = "Reshape"
        self.retarget(node, made, other.axis)
        return other

    def gather(self, node: NodeProto, place: Place) -> Place | None:
        """From a vector of all images' values: from a row for each, if all rows are read alike."""
        values, indices = self.shapes[node.input[0]], self.integers.get(node.input[1])
        made = self.shapes[node.output[0]]
        if place != Place(0) or len(values) != 1 or indices is None or self.any_size:
            return None
        width = values[0] // self.batch
        if not made or made[0] != self.batch:
            return None
        rows = indices - width * np.arange(self.batch).reshape(-1, *[1] * (indices.ndim - 1))
        if (rows != rows[0]).any() or rows.min() < 0 or rows.max() >= width:
            return None
        name = f"{PREFIX}{node.name}/rows"
        shape = self.constant(f"{name}/shape", [-1, width])
        self.nodes.append(helper.make_node("Reshape", [node.input[0], shape], [name], name=name))
        node.input[:] = [name, self.constant(f"{name}/indices", rows[0])]
        del node.attribute[:]
        node.attribute.append(helper.make_attribute("axis", 1))
        return Place(0)

    def others(self, node: NodeProto, rank: int, place: Place) -> Iterator[int]:
        """Inputs with no batch of their own, which at its axis have one entry or one per image."""
        for index, name in enumerate(node.input):
            shape = self.shapes.get(name, ())
            if name in self.places or place.outer != 1 or len(shape) < rank - place.axis:
                continue
            if shape[place.axis - rank] in (1, self.batch):
                yield index

    def expand(self, node: NodeProto, index: int, batched: str, place: Place) -> None:
        """Give an input of a Concat as many entries at the batch's axis as another has."""
        sizes = self.shapes[batched]
        self.take_one_row(node, index, place.axis - len(sizes))
        name = f"{PREFIX}{node.name}/{index}"
        ones = [1] * len(sizes)
        shape = self.sizes_with_batch(name, batched, place.axis, ones)
        self.nodes.append(helper.make_node("Expand", [node.input[index], shape], [name], name=name))
        node.input[index] = name

    def take_one_row(self, node: NodeProto, index: int, axis: int) -> None:
        """Replace an input of `batch` rows, if that is more than one, by its first row."""
        rank, size = len(self.shapes[node.input[index]]), self.shapes[node.input[index]][axis]
        if size == 1:
            return
        name = f"{PREFIX}{node.name}/{index}/row"
        bounds = {"start": 0, "end": 1, "axis": axis % rank}
        inputs = [self.constant(f"{name}/{part}", [value]) for part, value in bounds.items()]
        self.nodes.append(
            helper.make_node("Slice", [node.input[index], *inputs], [name], name=name)
        )
        node.input[index] = name

    def leave_batch_alone(self, node: NodeProto, axis: int) -> None:
        target, rank = self.integers.get(node.input[1]), len(self.shapes[node.output[0]])
        if target is not None and len(target) == rank and target[axis] > 1:
            changed = [1 if index == axis else size for index, size in enumerate(target.tolist())]
            node.input[1] = self.constant(f"{PREFIX}{node.name}/target", changed)

    def resize(self, node: NodeProto) -> None:
        sizes = self.integers.get(node.input[3])
        if sizes is not None and len(sizes) == len(self.shapes[node.input[0]]):
            name = f"{PREFIX}{node.name}/sizes"
            node.input[3] = self.sizes_with_batch(name, node.input[0], 0, sizes.tolist())

    def sizes_with_batch(self, name: str, batched: str, axis: int, sizes: list[int]) -> str:
        """Add nodes that give `sizes`, but at one axis the size that `batched` has there."""
        every, one, result = (f"{name}/{part}" for part in ("every", "one", "sizes"))
        parts = [one]
        if axis > 0:
            parts.insert(0, self.constant(f"{name}/before", sizes[:axis]))
        if axis + 1 < len(sizes):
            parts.append(self.constant(f"{name}/after", sizes[axis + 1 :]))
        index = self.constant(f"{name}/axis", [axis])
        self.nodes += [
            helper.make_node("Shape", [batched], [every], name=every),
            helper.make_node("Gather", [every, index], [one], name=one, axis=0),
            helper.make_node("Concat", parts, [result], name=result, axis=0),
        ]
        return result

    def retarget(self, node: NodeProto, sizes: Sequence[int], free: int) -> None:
        """Make a Reshape to `sizes`, one of which follows from the others."""
        self.set_target(node, [-1 if axis == free else size for axis, size in enumerate(sizes)])

    def set_target(self, node: NodeProto, target: list[int]) -> None:
        del node.attribute[:]  # `allowzero` of Reshape, `axes` of what was a Squeeze
        del node.input[1:]
        node.input.append(self.constant(f"{PREFIX}{node.name}/target", target))

    def constant(self, name: str, value: NDArray[np.integer] | list[int]) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value, np.int64), name))
        return name
