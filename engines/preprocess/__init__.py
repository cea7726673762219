"""What happens to an image before a model sees it: one specification, many sources."""

from engines.preprocess.overrides import PreprocessOverrides
from engines.preprocess.presets import PRESETS
from engines.preprocess.resolve import GraphSize, Resolved, resolve
from engines.preprocess.spec import HostTransform, PreprocessSpec

__all__ = [
    "PRESETS",
    "GraphSize",
    "HostTransform",
    "PreprocessOverrides",
    "PreprocessSpec",
    "Resolved",
    "resolve",
]
