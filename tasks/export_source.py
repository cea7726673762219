"""A model of PyTorch's with its configuration: what every library's loader gives."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from engines.labels import find_labels
from tasks.errors import SettingsError
from tasks.export_settings import ExportSettings

if TYPE_CHECKING:
    import torch

__all__ = ["Source", "as_json", "asked_labels", "export_extra", "own_weights", "weights_in_words"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A module that is ready to be exported.

    Attributes:
        module: torch.nn.Module in evaluation mode, float32, on the CPU: images [N, 3, H, W],
            normalised, to logits [N, classes].
        files: Name to text of the configuration files, in the library's own form.
        weights: Which weights the module has, in words.
        input_name: Of the ONNX graph.
        versions: Library name to version.
    """

    module: torch.nn.Module = field(repr=False)
    files: Mapping[str, str]
    weights: str
    input_name: str
    versions: Mapping[str, str]


@contextmanager
def export_extra() -> Iterator[None]:
    """Around imports of libraries that only exporting needs.

    Raises:
        SettingsError: One is not installed.
    """
    try:
        yield
    except ImportError as error:
        raise SettingsError(
            f"exporting needs PyTorch and the library that has the model: {error}. Install"
            " nightshift[export], in an environment of its own if you like: classifying needs"
            " none of it"
        ) from error


def own_weights(settings: ExportSettings) -> bool:
    """Whether the weights are not the library's: nothing it says of them holds then."""
    return settings.random_weights or settings.checkpoint is not None


def weights_in_words(settings: ExportSettings, library: str) -> str:
    """Which weights a module has; `library` says it for those that come with the model."""
    if settings.random_weights:
        return f"random, seed {settings.seed}"
    return settings.checkpoint or library


def asked_labels(settings: ExportSettings, classes: int) -> tuple[str, ...] | None:
    """The names that --labels gives; None where it is not given.

    Raises:
        ModelError: The file cannot be used, or names another number of classes.
    """
    if settings.labels is None:
        return None
    found = find_labels(Path(settings.output), {}, classes=classes, file=Path(settings.labels))
    return found.names


def as_json(document: object) -> str:
    """A configuration as its file has it."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
