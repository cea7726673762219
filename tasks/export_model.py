"""From a model of PyTorch's to a folder that classify_dir reads by itself."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from engines.model import Model, ModelRequest, load_model
from engines.preprocess import PreprocessOverrides, resolve
from tasks.errors import SettingsError
from tasks.export_graph import write_graph
from tasks.export_huggingface import load_huggingface
from tasks.export_settings import ExportSettings, Library
from tasks.export_source import Source
from tasks.export_timm import load_timm
from tasks.export_torchvision import load_torchvision
from tasks.export_verify import Agreement, compare

__all__ = ["ExportSummary", "export_model"]

_log = logging.getLogger(__name__)

_LOADERS: Mapping[Library, Callable[[ExportSettings], Source]] = {
    "timm": load_timm,
    "torchvision": load_torchvision,
    "hf": load_huggingface,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportSummary:
    """An exported model; the one JSON object that `--json` prints.

    Attributes:
        status: 'exported'.
        exit_code: What the command returns: 0.
        source: As asked for.
        weights: Which weights it has, in words.
        output: The folder.
        model_id: As classify_dir will have it.
        classes: Scores of an image.
        labels: Where the names of the classes are from, in words.
        height: Of the model's input, pixels.
        width: Of the model's input, pixels.
        opset: Version of ONNX's operators.
        files: Name to size in bytes.
        agreement: ONNX Runtime against PyTorch, through the folder.
        versions: Library name to version.
    """

    status: str
    exit_code: int
    source: str
    weights: str
    output: str
    model_id: str
    classes: int
    labels: str
    height: int
    width: int
    opset: int
    files: dict[str, int]
    agreement: Agreement
    versions: dict[str, str]

    def lines(self) -> list[str]:
        """The summary for a person."""
        found = self.agreement
        return [
            f"Exported {self.source} (weights: {self.weights}) to {self.output}: "
            f"{self.classes:,} classes, images of {self.height}x{self.width}.",
            f"Labels: {self.labels}",
            f"ONNX Runtime and PyTorch agree on {found.top1} of {found.images} made images; worst "
            f"difference of a logit {found.worst_logit:.2g}, the largest logit is "
            f"{found.largest_logit:.3g}.",
            *(f"  {name:<28} {size:>13,} bytes" for name, size in self.files.items()),
        ]


def export_model(settings: ExportSettings) -> ExportSummary:
    """Export a model, read the folder back as classify_dir does, and compare it with PyTorch.

    The folder appears when all of it is done, or not at all.

    Raises:
        SettingsError: The output exists, a library is missing, or the model cannot be had.
        ExportError: PyTorch cannot export the model, or the export does not agree with it.
        EngineError: The exported folder cannot be used.
    """
    output = Path(settings.output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise SettingsError(f"{output} is there already; expected a folder that is new or empty")
    source = _LOADERS[settings.library](settings)
    parent = output.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    staging = Path(mkdtemp(prefix=f".{output.name}-", dir=parent))
    try:
        folder = staging / output.name
        folder.mkdir()
        model, agreement = _written(source, settings, folder)
        os.replace(folder, output)  # noqa: PTH105 - an empty folder may be replaced, as it says
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return _summary(settings, source, model, agreement)


def _written(source: Source, settings: ExportSettings, folder: Path) -> tuple[Model, Agreement]:
    """Write all files, and prove that they say what PyTorch says."""
    for name, text in source.files.items():
        (folder / name).write_text(text, "utf-8")
    overrides = PreprocessOverrides(input_size=settings.input_hw)
    host = resolve(
        folder, preprocess="auto", overrides=overrides, graph_size=(None, None), metadata_props={}
    ).spec.host
    _log.info("Exporting %s for images of %dx%d", settings.source, host.height, host.width)
    write_graph(
        source,
        folder / "model.onnx",
        height=host.height,
        width=host.width,
        opset=settings.opset,
        external_data=settings.external_data,
    )
    model = load_model(ModelRequest(path=folder))
    return model, compare(source.module, model)


def _summary(
    settings: ExportSettings, source: Source, model: Model, agreement: Agreement
) -> ExportSummary:
    output = Path(settings.output)
    return ExportSummary(
        status="exported",
        exit_code=0,
        source=settings.source,
        weights=source.weights,
        output=str(output),
        model_id=model.model_id,
        classes=model.classes,
        labels=model.sources["labels"],
        height=model.input_height,
        width=model.input_width,
        opset=settings.opset,
        files={file.name: file.stat().st_size for file in sorted(output.iterdir())},
        agreement=agreement,
        versions=dict(source.versions),
    )
