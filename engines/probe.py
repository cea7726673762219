"""What only a run can tell of a model: how many classes it has."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto

from engines.errors import InferenceError, ModelError
from engines.graph import GraphInfo
from engines.ort_session import Session, available_cores

__all__ = ["count_classes"]


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
