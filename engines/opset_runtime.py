"""A model as it came, in the operators that ONNX Runtime and the tools here read.

Apart from engines.opset, which a build process needs without ONNX Runtime.
"""

from __future__ import annotations

import onnx.inliner
from onnx import ModelProto, defs

from engines.graph import model_opset
from engines.opset import fit_operators
from engines.ort_session import newest_opset, runtime_version

__all__ = ["settle_operators"]

READ_BY_ALL = 21
"""An opset that every ONNX Runtime since 1.20 reads: asking loads it, for nothing in most runs."""


def settle_operators(model: ModelProto) -> None:
    """Make a model one that ONNX Runtime and the tools here read, in place.

    Calls of the model's own functions are replaced by their nodes: torch.onnx.export writes
    functions where it is told not to optimise, and TensorRT 8.6 reads none. An opset that is newer
    than ONNX Runtime is lowered to its newest.

    Raises:
        ModelError: An operator is of a newer opset, and cannot be written in an older one.
    """
    if model.functions:
        model.CopyFrom(onnx.inliner.inline_local_functions(model))
    if model_opset(model) <= READ_BY_ALL:
        return
    newest = newest_opset()
    if newest < model_opset(model) <= defs.onnx_opset_version():
        fit_operators(
            model,
            supports=lambda _: True,
            opset=newest,
            parser=f"ONNX Runtime {runtime_version()}",
            instead="a newer onnxruntime",
        )
