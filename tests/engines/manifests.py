"""A manifest to vary in tests."""

from __future__ import annotations

from dataclasses import replace

from engines.manifest import Manifest

BASE = Manifest(
    graph_digest="a" * 64,
    precision="fp16/1",
    calibration_digest=None,
    batch="1:256:256",
    height="224",
    width="224",
    workspace_bytes=None,
    optimization_level=3,
    tf32=False,
    max_aux_streams=None,
    version_compatible=False,
    hardware_compatibility="none",
    recipe_version=1,
    tensorrt_version="8.6.1",
    gpu_name="NVIDIA H200",
    compute_capability="9.0",
    model="resnet50",
    model_id="resnet50@0123456789ab",
    gpu_memory_bytes=150 * 10**9,
    driver_version="13.0",
    cuda_version="12.9",
    onnx_version="1.23.2",
    onnxruntime_version="1.32.0",
)


def manifest(**changes: str | int | bool | None) -> Manifest:
    """The base manifest with some fields changed."""
    return replace(BASE, **changes)
