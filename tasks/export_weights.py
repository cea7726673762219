"""A user's own checkpoint, read without running any code that it may hold."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.errors import SettingsError
from tasks.export_source import export_extra

if TYPE_CHECKING:
    import torch

__all__ = ["load_weights"]

_WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Under which trainers keep the weights, beside their optimizer's state and the epoch."""

_PREFIXES = ("module.", "_orig_mod.", "model.")
"""What DistributedDataParallel, torch.compile and Lightning put in front of every name."""

MAX_SHOWN = 4


def load_weights(module: torch.nn.Module, path: Path) -> None:
    """Give a module the weights of a file, all of them and no others.

    Raises:
        SettingsError: The file cannot be read, holds more than tensors, or is of another model.
    """
    weights = _stripped(_read(path), set(module.state_dict()))
    try:
        missing, unexpected = module.load_state_dict(weights, strict=False)
    except RuntimeError as error:  # Shapes differ; the text has a line for each.
        lines = [line.strip() for line in str(error).splitlines()[1 : 1 + MAX_SHOWN]]
        raise SettingsError(
            f"--checkpoint {path} has other shapes than the model: {' '.join(lines)} Where the"
            " last layer differs, say with --classes how many it has"
        ) from error
    if missing or unexpected:
        raise SettingsError(
            f"--checkpoint {path} is of another model: it lacks {_some(missing)}, and has"
            f" {_some(unexpected)} that the model does not know"
        )


def _read(path: Path) -> Mapping[str, torch.Tensor]:
    if not path.is_file():
        raise SettingsError(f"--checkpoint {path}: there is no such file")
    with export_extra():
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    try:
        if path.suffix == ".safetensors":
            document: object = load_file(path)
        else:
            document = torch.load(path, map_location="cpu", weights_only=True)
    except torch.serialization.pickle.UnpicklingError as error:
        raise SettingsError(
            f"--checkpoint {path} holds more than tensors, and reading the rest could run any"
            " code. Save the weights alone, as torch.save(model.state_dict(), ...) or with"
            " safetensors"
        ) from error
    except (OSError, RuntimeError, ValueError, EOFError, SafetensorError) as error:
        raise SettingsError(f"--checkpoint {path} cannot be read: {error}") from error
    for key in _WRAPPERS:
        if isinstance(document, Mapping) and isinstance(document.get(key), Mapping):
            document = document[key]
    if not isinstance(document, Mapping):
        raise SettingsError(
            f"--checkpoint {path} holds {type(document).__name__}; expected names and tensors"
        )
    return document


def _stripped(weights: Mapping[str, torch.Tensor], known: set[str]) -> dict[str, torch.Tensor]:
    """Without the prefixes of wrappers, where the model knows the names only without them."""
    stripped = dict(weights)
    for prefix in _PREFIXES:
        if stripped and not known & set(stripped):
            stripped = {name.removeprefix(prefix): value for name, value in stripped.items()}
    return stripped


def _some(names: list[str]) -> str:
    if not names:
        return "nothing"
    rest = len(names) - MAX_SHOWN
    return ", ".join(names[:MAX_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
