"""Models of timm, with the config.json that timm itself would write."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

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

__all__ = ["load_timm"]

_KEPT = (
    *("test_input_size", "fixed_input_size", "test_crop_pct", "num_classes", "pool_size"),
    *("first_conv", "classifier", "license", "description", "label_names", "label_descriptions"),
)
"""Of pretrained_cfg, beside the transform. What tells where weights are from is another matter."""


def load_timm(settings: ExportSettings) -> Source:
    """A model of timm by its name, as `resnet18.a1_in1k`.

    Its configuration says which data set the weights know (`tag`) only where they are timm's own.

    Raises:
        SettingsError: There is no such model, or its weights cannot be had.
        ModelError: --labels cannot be used.
    """
    with export_extra():
        import timm
        import torch
    torch.manual_seed(settings.seed)
    module = _created(settings)
    if settings.checkpoint is not None:
        load_weights(module, Path(settings.checkpoint))
    config = _config(module, settings)
    return Source(
        module=module.eval(),
        files={"config.json": as_json(config)},
        weights=weights_in_words(settings, "timm's"),
        input_name="input",
        versions={"timm": timm.__version__, "torch": torch.__version__},
    )


def _created(settings: ExportSettings) -> torch.nn.Module:
    import timm

    options: dict[str, object] = {}
    if settings.classes is not None:
        options["num_classes"] = settings.classes
    size = settings.input_hw
    try:
        known = timm.get_pretrained_cfg(settings.name)
        if size is not None and known is not None and known.fixed_input_size:
            options["img_size"] = size
        return timm.create_model(
            settings.name, pretrained=not own_weights(settings), exportable=True, **options
        )
    except (RuntimeError, OSError, ValueError) as error:
        raise SettingsError(
            f"timm:{settings.name} cannot be had: {error}. timm.list_models() has the names;"
            " --checkpoint FILE and --random-weights need no download"
        ) from error


def _config(module: torch.nn.Module, settings: ExportSettings) -> dict[str, object]:
    from timm.data import resolve_model_data_config

    known: Mapping[str, object] = module.pretrained_cfg
    options = {} if settings.input_hw is None else {"input_size": (3, *settings.input_hw)}
    transform = resolve_model_data_config(module, args=options)
    kept = {key: known[key] for key in _KEPT if known.get(key) is not None}
    if own_weights(settings):
        kept = {key: value for key, value in kept.items() if not key.startswith("label_")}
    elif known.get("tag"):
        kept["tag"] = known["tag"]
    if options:
        kept = {key: value for key, value in kept.items() if not key.startswith("test_")}
    config: dict[str, object] = {
        "architecture": known["architecture"],
        "num_classes": module.num_classes,
        "num_features": module.num_features,
        "pretrained_cfg": {**kept, **transform, "num_classes": module.num_classes},
    }
    labels = asked_labels(settings, module.num_classes)
    return config if labels is None else {**config, "label_names": labels}
