"""Who reads a graph in reduced precision: each wants it written in another way."""

from __future__ import annotations

from typing import Literal

__all__ = ["Target"]

Target = Literal["tensorrt-8", "tensorrt-10", "onnxruntime"]
"""'tensorrt-8' builds with precision flags; 'tensorrt-10', and later, what the graph says."""
