"""ONNX Runtime sessions on the CPU: how they are opened, and its errors as ours."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from typing import Any

from numpy.typing import NDArray
from onnx import TensorProto, defs, helper

from engines.errors import InferenceError, ModelError

__all__ = ["Session", "available_cores", "newest_opset", "runtime_version"]

Array = NDArray[Any]

_NOTHING_LOGGED = 4
"""Only what ends the process: errors arrive as exceptions, and warnings concern the exporter."""


class Session:
    """A graph that is ready to run on the CPU; same input, same threads, same result.

    Inputs that are contiguous are read where they lie; outputs are new arrays.
    """

    def __init__(self, graph: bytes, *, threads: int, optimise: bool = True) -> None:
        """Load a graph.

        Args:
            graph: A serialised model, complete in itself.
            threads: Threads that share the work of one operator, the caller's among them.
            optimise: Fuse and lay out operators for speed, which takes time once.

        Raises:
            ModelError: ONNX Runtime does not accept the graph.
        """
        import onnxruntime  # which a run that only lists images does not need

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        level = onnxruntime.GraphOptimizationLevel
        options.graph_optimization_level = (
            level.ORT_ENABLE_ALL if optimise else level.ORT_DISABLE_ALL
        )
        options.log_severity_level = _NOTHING_LOGGED
        options.use_deterministic_compute = True
        # A thread that waits for work by spinning takes its core from the decoders.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                graph, sess_options=options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's fifteen exception classes share no base
            raise ModelError(
                f"ONNX Runtime {onnxruntime.__version__} does not accept the model: {_line(error)}"
            ) from error

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what the graph gives."""
        return tuple(output.name for output in self._session.get_outputs())

    def run(self, outputs: Sequence[str], feeds: dict[str, Array]) -> list[Array]:
        """Compute the named outputs.

        Raises:
            InferenceError: ONNX Runtime failed; with its message.
        """
        try:
            results: list[Array] = self._session.run(list(outputs), feeds)
        except Exception as error:  # as above
            shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in feeds.items())
            raise InferenceError(f"ONNX Runtime failed on {shapes}: {_line(error)}") from error
        return results


def runtime_version() -> str:
    """Of ONNX Runtime."""
    import onnxruntime

    version: str = onnxruntime.__version__
    return version


def available_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0))


@cache
def newest_opset() -> int:
    """The newest opset that this ONNX Runtime reads; found by asking, as it does not say."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "identity", [x], [y])
    opset: int = defs.onnx_opset_version()
    while opset > 1:
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
        try:
            Session(model.SerializeToString(), threads=1, optimise=False)
        except ModelError:
            opset -= 1
        else:
            break
    return opset


def _line(error: Exception) -> str:
    """ONNX Runtime's message, which may have several lines, on one."""
    return " ".join(str(error).split())
