"""What only a run can tell of a model: how many classes it has, and whether batches are safe."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, TensorProto, helper

from engines.errors import InferenceError, ModelError
from engines.graph import GraphInfo
from engines.ort_session import Session, available_cores
from engines.wrap import IMAGES, LOGITS

__all__ = ["check_batching", "count_classes"]

RELATIVE_TOLERANCE = 1e-3
"""Of the largest logit. Float32 kernels differ by 1e-6 between batch sizes, and float16 by 5e-4;
a model that mixes the images of a batch is wrong by whole logits."""


def count_classes(model: ModelProto, info: GraphInfo, height: int, width: int) -> int:
    """Run a model once, on a black image, to see how many scores it gives.

    Args:
        model: The model as it came, not wrapped.
        info: What `inspect` said of it.
        height: Rows of an image.
        width: Columns of an image.

    Raises:
        ModelError: It does not run, or its output is not one row of scores for each image.
    """
    batch = info.batch or 1
    size = (3, height, width) if info.layout == "nchw" else (height, width, 3)
    images = np.zeros((batch, *size), info.dtype)
    session = Session(model.SerializeToString(), threads=available_cores(), optimise=False)
    try:
        [scores] = session.run([info.output_name], {info.input_name: images})
    except InferenceError as error:
        raise ModelError(
            f"the model does not run on an image of {height}x{width}: {error}"
        ) from error
    if scores.ndim < 2 or scores.shape[0] != batch or scores[0].size != scores.shape[1]:
        raise ModelError(
            f"the model's output {info.output_name} has shape {list(scores.shape)} for {batch}"
            " image(s); expected [batch, classes]. Choose another one with --output-name"
        )
    return int(scores.shape[1])


def check_batching(wrapped: ModelProto, info: GraphInfo, height: int, width: int) -> None:
    """Make sure that a model exported for one batch size gives the same scores at others.

    Logits are compared, even where nobody asked for them: scores may all have saturated.

    Args:
        wrapped: The wrapped graph.
        info: What `inspect` said of the model.
        height: Rows of `images`.
        width: Columns of `images`.

    Raises:
        ModelError: It fails on two images together, or scores them differently than alone.
    """
    images = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), np.uint8)
    with_logits = ModelProto()
    with_logits.CopyFrom(wrapped)
    del with_logits.graph.output[:]
    with_logits.graph.output.append(helper.make_tensor_value_info(LOGITS, TensorProto.FLOAT, None))
    try:
        session = Session(
            with_logits.SerializeToString(), threads=available_cores(), optimise=False
        )
        [together] = session.run([LOGITS], {IMAGES: images})
        alone = [session.run([LOGITS], {IMAGES: images[i : i + 1]})[0] for i in range(2)]
    except (InferenceError, ModelError) as error:
        raise _fixed_batch(info, f"two images at once fail: {error}") from error
    together, expected = together.astype(np.float64), np.concatenate(alone).astype(np.float64)
    tolerance = RELATIVE_TOLERANCE * max(1.0, float(np.abs(expected).max()))
    if together.shape != expected.shape or np.abs(together - expected).max() > tolerance:
        raise _fixed_batch(info, "two images at once get other scores than one by one")


def _fixed_batch(info: GraphInfo, what: str) -> ModelError:
    return ModelError(
        f"the model was exported for batches of exactly {info.batch}, and {what}. Export it with a"
        f' symbolic batch: torch.onnx.export(..., dynamic_shapes=({{0: "batch"}},))'
    )
