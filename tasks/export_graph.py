"""From a PyTorch module to model.onnx, with any batch and one image size."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tasks.errors import ExportError
from tasks.export_source import Source, export_extra

if TYPE_CHECKING:
    import torch

__all__ = ["write_graph"]

_OUTPUT_NAME = "logits"

TRACED_BATCH = 2
"""PyTorch takes a batch of one for a constant."""

MAX_INSIDE_BYTES = 1_500_000_000
"""Of weights inside of model.onnx; protobuf ends at 2 GiB, the graph included."""


def write_graph(
    source: Source, file: Path, *, height: int, width: int, opset: int, external_data: bool
) -> None:
    """Export a module and write it.

    Where the sources of PyTorch lie on this machine, which its exporter notes at every operator,
    is left out: the same model gives the same file everywhere.

    Raises:
        ExportError: PyTorch cannot export it.
    """
    with export_extra():
        import onnxscript  # noqa: F401 - the exporter's own, and missing only when it is needed
        import torch
    example = torch.zeros(TRACED_BATCH, 3, height, width)
    try:
        program = torch.onnx.export(
            source.module,
            (example,),
            input_names=[source.input_name],
            output_names=[_OUTPUT_NAME],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            opset_version=opset,
            dynamo=True,
            verbose=False,
        )
    except (RuntimeError, torch.onnx.OnnxExporterError) as error:
        raise ExportError(
            f"PyTorch {torch.__version__} cannot export the model: {error}"
        ) from error
    _forget_origins(program)
    weights = sum(tensor.nbytes for tensor in source.module.state_dict().values())
    program.save(file, external_data=external_data or weights > MAX_INSIDE_BYTES)


def _forget_origins(program: torch.onnx.ONNXProgram) -> None:
    """Remove stack traces and the like."""
    model = program.model
    model.metadata_props.clear()
    for graph in (model.graph, *(function.graph for function in model.functions.values())):
        graph.metadata_props.clear()
        for node in graph.all_nodes():
            node.metadata_props.clear()
            node.doc_string = None
            for value in node.outputs:
                value.metadata_props.clear()
