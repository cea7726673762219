"""Models of transformers, in the layout that Optimum writes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tasks.errors import SettingsError
from tasks.export_settings import ExportSettings
from tasks.export_source import Source, as_json, asked_labels, export_extra, weights_in_words
from tasks.export_weights import load_weights

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig

__all__ = ["load_huggingface"]

PROCESSOR = "preprocessor_config.json"


def load_huggingface(settings: ExportSettings) -> Source:
    """A classifier of transformers, from the hub by name or from a folder.

    Code that a repository brings along is not run. The image processor's configuration is
    copied as it stands, so that what is not in it keeps its class's defaults.

    Raises:
        SettingsError: There is no such model, it is no classifier, or it cannot be had.
        ModelError: --labels cannot be used.
    """
    with export_extra():
        import torch
        import transformers
    torch.manual_seed(settings.seed)
    try:
        config = transformers.AutoConfig.from_pretrained(settings.name)
        if settings.classes is not None:
            config.num_labels = settings.classes
        processor, _ = transformers.ImageProcessingMixin.get_image_processor_dict(settings.name)
        module = _created(settings, config)
    except (OSError, ValueError, KeyError) as error:
        raise SettingsError(
            f"hf:{settings.name} cannot be had: {error}. Expected a classifier's name on the hub or"
            f" a folder with its config.json and {PROCESSOR}; --random-weights needs no weights"
        ) from error
    if settings.checkpoint is not None:
        load_weights(module, Path(settings.checkpoint))
    labels = asked_labels(settings, config.num_labels)
    if labels is not None:
        config.id2label = dict(enumerate(labels))
        config.label2id = {name: index for index, name in config.id2label.items()}
    return Source(
        module=_logits_only(module.eval()),
        files={
            "config.json": config.to_json_string(use_diff=True) + "\n",
            PROCESSOR: as_json(processor),
        },
        weights=weights_in_words(settings, "the repository's"),
        input_name="pixel_values",
        versions={"torch": torch.__version__, "transformers": transformers.__version__},
    )


def _created(settings: ExportSettings, config: PreTrainedConfig) -> torch.nn.Module:
    from transformers import AutoModelForImageClassification as classifier

    if settings.random_weights or settings.checkpoint is not None:
        return classifier.from_config(config)
    return classifier.from_pretrained(settings.name, config=config, dtype="float32")


def _logits_only(module: torch.nn.Module) -> torch.nn.Module:
    """A classifier of transformers returns an object; an ONNX graph returns tensors."""
    import torch

    class Logits(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = module

        def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
            return self.model(pixel_values=pixel_values).logits

    return Logits().eval()
