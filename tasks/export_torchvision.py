"""Models of torchvision, with the transform that torchvision keeps in its weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from engines.preprocess import HostTransform, PreprocessSpec
from engines.preprocess.spec import Triple
from tasks.errors import SettingsError
from tasks.export_settings import ExportSettings
from tasks.export_source import (
    Source,
    as_json,
    asked_labels,
    export_extra,
    own_weights,
    weights_in_words,
)
from tasks.export_weights import load_weights

if TYPE_CHECKING:
    import torch
    from torchvision.models import WeightsEnum
    from torchvision.transforms._presets import ImageClassification

__all__ = ["load_torchvision"]


def load_torchvision(settings: ExportSettings) -> Source:
    """A model of torchvision by its name, as `resnet50`, or `resnet50.IMAGENET1K_V1`.

    torchvision has no file for its transforms, so they are written as Nightshift's own
    specification. They are those of the weights that are named, or else of its default weights.

    Raises:
        SettingsError: There is no such model, or its weights cannot be had.
        ModelError: --labels cannot be used.
    """
    with export_extra():
        import torch
        import torchvision
    torch.manual_seed(settings.seed)
    weights, module = _created(settings)
    if settings.checkpoint is not None:
        load_weights(module, Path(settings.checkpoint))
    files = {"preprocessor_config.json": _spec(weights.transforms(), settings).to_json()}
    categories = weights.meta["categories"]
    labels = asked_labels(settings, settings.classes or len(categories))
    if labels is not None or not own_weights(settings):
        files["labels.json"] = as_json(categories if labels is None else labels)
    return Source(
        module=module.eval(),
        files=files,
        weights=weights_in_words(settings, f"torchvision's {weights}"),
        input_name="input",
        versions={"torch": torch.__version__, "torchvision": torchvision.__version__},
    )


def _created(settings: ExportSettings) -> tuple[WeightsEnum, torch.nn.Module]:
    from torchvision import models

    name, _, version = settings.name.partition(".")
    try:
        known = models.get_model_weights(name)
        weights = known[version] if version else known.DEFAULT
        options = {} if settings.classes is None else {"num_classes": settings.classes}
        if own_weights(settings):
            return weights, models.get_model(name, weights=None, **options)
        return weights, models.get_model(name, weights=weights)
    except (KeyError, ValueError, AttributeError) as error:
        raise SettingsError(
            f"torchvision:{settings.name}: there is no such model or weights ({error});"
            " torchvision.models.list_models() has the names"
        ) from error
    except OSError as error:
        raise SettingsError(
            f"torchvision:{settings.name} cannot be downloaded: {error};"
            " --checkpoint FILE and --random-weights need no download"
        ) from error


def _spec(transform: ImageClassification, settings: ExportSettings) -> PreprocessSpec:
    """From torchvision's ImageClassification; another size keeps its ratio of resize to crop."""
    (crop,), (resize,) = transform.crop_size, transform.resize_size
    height, width = settings.input_hw or (crop, crop)
    edge = resize * min(height, width) // crop
    return PreprocessSpec(
        host=HostTransform(
            height=height,
            width=width,
            resize="shortest",
            resize_height=edge,
            resize_width=edge,
            interpolation=transform.interpolation.value,
            crop="center",
        ),
        scale=1 / 255,
        mean=cast(Triple, tuple(transform.mean)),
        std=cast(Triple, tuple(transform.std)),
    )
