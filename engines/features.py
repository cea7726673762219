"""What this TensorRT can do, asked of the module itself instead of its version number.

One probe serves 8.6, 10 and 11. Precision is a property of the ONNX file; on 8.6, the last
release with weakly typed networks, builder flags permit it besides. Everything else that the
builder and the runner call exists in all three.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from types import ModuleType

from engines.errors import BackendUnavailableError
from engines.quantize.target import Target

__all__ = ["Features", "import_tensorrt", "probe"]

EXTERNAL_TACTIC_SOURCES = frozenset({"CUBLAS", "CUBLAS_LT", "CUDNN"})
"""Kernels of other libraries: 11 dropped them, 10 leaves them off; 8.6 does without them too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """The differences between TensorRT versions that matter here.

    Attributes:
        version: As `tensorrt.__version__` says it.
        typed: Whether networks are strongly typed: the ONNX file alone decides every dtype.
        network_flags: Bit mask for `Builder.create_network`.
        fp16_flags: `BuilderFlag` names that an fp16 graph, and what an int8 graph has outside of
            its Q/DQ pairs, needs permission from; () where typed.
        int8_flags: Likewise for Q/DQ pairs.
        preview_features: `PreviewFeature` names to switch on.
        tactic_sources: `TacticSource` names to allow; () leaves TensorRT's default, which
            holds no external library.
        progress_monitor: Whether a build reports its phases and steps.
        parser_node_names: Whether the ONNX parser's errors know the node's name and operator.
        opset: The newest that the ONNX parser reads, where it misreads newer ones without a word;
            None where it refuses what it does not know.
    """

    version: str
    typed: bool
    network_flags: int
    fp16_flags: tuple[str, ...]
    int8_flags: tuple[str, ...]
    preview_features: tuple[str, ...]
    tactic_sources: tuple[str, ...]
    progress_monitor: bool
    parser_node_names: bool
    opset: int | None

    @property
    def target(self) -> Target:
        """Which of the forms of a graph in reduced precision this TensorRT reads."""
        return "tensorrt-10" if self.typed else "tensorrt-8"


def import_tensorrt() -> ModuleType:
    """Import TensorRT, which loads its libraries: hundreds of megabytes and about a second.

    Raises:
        BackendUnavailableError: It is not installed, or its libraries do not load.
    """
    try:
        return import_module("tensorrt")
    except (ImportError, OSError) as error:
        raise BackendUnavailableError(
            f"TensorRT cannot be used here: {error}. It comes with the containers "
            "nvcr.io/nvidia/tensorrt (see docs/docker.md) or `pip install 'nightshift[gpu]'`; "
            "without an NVIDIA GPU use --backend onnxruntime."
        ) from error


def probe(trt: ModuleType) -> Features:
    """Ask the TensorRT module which of the features it has."""
    typed = hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")
    sources = _names(trt.TacticSource)
    return Features(
        version=str(trt.__version__),
        typed=typed,
        network_flags=_network_flags(trt),
        # OBEY keeps the layers that are pinned to fp32 there: fp16 is only a permission.
        fp16_flags=() if typed else ("FP16", "OBEY_PRECISION_CONSTRAINTS"),
        int8_flags=() if typed else ("INT8",),
        # Several contexts on one dynamic profile; later versions always allow them.
        preview_features=() if typed else ("PROFILE_SHARING_0806",),
        tactic_sources=(
            tuple(sorted(sources - EXTERNAL_TACTIC_SOURCES))
            if sources & EXTERNAL_TACTIC_SOURCES
            else ()
        ),
        progress_monitor=hasattr(trt, "IProgressMonitor"),
        parser_node_names=hasattr(trt.ParserError, "node_name"),
        opset=None if typed else 17,  # docs/operators.md of onnx-tensorrt, branch 8.6-GA
    )


def _network_flags(trt: ModuleType) -> int:
    """STRONGLY_TYPED wherever it exists, even where it is ignored; else EXPLICIT_BATCH (8.6)."""
    flags = trt.NetworkDefinitionCreationFlag
    for name in ("STRONGLY_TYPED", "EXPLICIT_BATCH"):
        if hasattr(flags, name):
            return 1 << int(getattr(flags, name))
    return 0


def _names(enum: object) -> set[str]:
    """The member names of one of TensorRT's pybind11 enumerations."""
    return set(getattr(enum, "__members__", ()))
