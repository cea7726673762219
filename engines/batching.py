"""Batches of any size, from a model that was exported for one.

Whether a graph takes other batches cannot be read off it, so it is run: on one image and on
several. Where several fail, or get other scores than alone, the constants that hold the batch size
are replaced (engines.rebatch), and the result has to pass the same, and to give the scores of the
graph as it was exported.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto

from engines.errors import InferenceError, ModelError
from engines.graph import GraphInfo
from engines.observe import observe, stated_integers
from engines.ort_session import Session, available_cores
from engines.rebatch import Rebatched, rebatch
from engines.wrap import IMAGES, LOGITS

__all__ = ["free_batch"]

RELATIVE_TOLERANCE = 1e-3
"""Of the largest logit. Float32 kernels differ by 1e-6 between batch sizes, and float16 by 5e-4;
a model that mixes the images of a batch is wrong by whole logits."""

_RUNNING = re.compile(r"while running (\w+) node\. Name:'([^']*)'(?: Status Message: )?(.*)")
"""How ONNX Runtime says which node failed."""

Images = NDArray[np.uint8]
Logits = NDArray[np.float32]


def free_batch(
    wrapped: ModelProto, info: GraphInfo, height: int, width: int, *, any_size: bool = False
) -> str:
    """Make sure that a wrapped graph scores the images of a batch as it scores them alone.

    Args:
        wrapped: The wrapped graph; constants that hold the batch size are replaced in place.
        info: What `inspect` said of the model.
        height: Rows of an image.
        width: Columns of an image.
        any_size: Other heights and widths have to work afterwards as well.

    Returns:
        What was found and done, in words.

    Raises:
        ModelError: The graph fixes the batch in a way that cannot be undone here; with the node.
    """
    if info.batch is None and not _may_fix_the_batch(wrapped.graph):
        return "symbolic in the graph"
    exported = info.batch or 1
    size = (max(2, exported), height, width, 3)
    images = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    problem = _problem(wrapped, images)
    if problem is None:
        return f"{info.batch or 'symbolic'} in the graph, which takes any"
    try:
        observed = observe(wrapped, images[:exported])
    except InferenceError as error:
        raise _refusal(info, f"a batch of {exported} does not run: {_where(error)}") from error
    rebatched = rebatch(wrapped, observed, any_size=any_size)
    if rebatched.changed:
        problem = _problem(wrapped, images, observed.logits)
    if problem is not None:
        raise _refusal(info, problem + _suspects(rebatched))
    first, *others = rebatched.changed
    also = f" and {len(others)} more" if others else ""
    return f"{exported} in the graph's {first}{also}, rewritten to take any"


def _may_fix_the_batch(graph: GraphProto) -> bool:
    """Whether a symbolic batch may be one in name only: a constant target begins with a size.

    Weights are reshaped likewise, so that this only says whether a run is worth its time.
    """
    targets = dict(stated_integers(graph))
    return any(
        node.op_type == "Reshape" and targets[node.input[1]].reshape(-1)[:1] > 0
        for node in graph.node
        if node.op_type == "Reshape" and node.input[1] in targets
    )


def _problem(wrapped: ModelProto, images: Images, expected: Logits | None = None) -> str | None:
    """What is wrong with the logits of all images at once, in words; None if nothing is.

    Logits are compared and not scores, which may all have saturated.

    Args:
        wrapped: The wrapped graph.
        images: At least two.
        expected: Of the first images, from the graph as it was exported.
    """
    session = Session(wrapped.SerializeToString(), threads=available_cores(), optimise=False)
    try:
        [together] = session.run([LOGITS], {IMAGES: images})
        alone = [session.run([LOGITS], {IMAGES: images[i : i + 1]})[0] for i in range(2)]
    except InferenceError as error:
        return f"batches of 1 and of {len(images)} do not both run: {_where(error)}"
    if len(together) != len(images) or not _alike(together[:2], np.concatenate(alone)):
        return f"{len(images)} images at once get other scores than one by one"
    if expected is not None and not _alike(together[: len(expected)], expected):
        return "other batches got other scores when its constants were replaced"
    return None


def _alike(left: Logits, right: Logits) -> bool:
    if left.shape != right.shape:
        return False
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        return np.array_equal(left, right, equal_nan=True)
    difference = np.abs(left.astype(np.float64) - right).max()
    return bool(difference <= RELATIVE_TOLERANCE * np.abs(right).max())


def _where(error: InferenceError) -> str:
    """The node that failed and why, out of ONNX Runtime's message."""
    found = _RUNNING.search(str(error))
    return f"{found[1]} {found[2]!r} fails: {found[3]}" if found else str(error)


def _suspects(rebatched: Rebatched) -> str:
    """The first node behind which images were lost sight of."""
    return f" (it may be {rebatched.lost[0]} that mixes them)" if rebatched.lost else ""


def _refusal(info: GraphInfo, problem: str) -> ModelError:
    stated = f"for batches of exactly {info.batch}" if info.batch else "with a symbolic batch"
    return ModelError(
        f"the model was exported {stated}, and {problem}. Export it with a batch that is symbolic"
        ' all through: torch.onnx.export(..., dynamic_shapes=({0: "batch"},)), or'
        " dynamic_axes={'input': {0: 'batch'}} of the older exporter, with model code that takes"
        " the batch size from x.shape[0]"
    )
