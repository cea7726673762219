"""Where a model's ONNX file and its configuration lie, in the layouts that exporters write.

model.onnx                        torch.onnx.export, timm
<model>/model.onnx                Optimum, Hugging Face
<model>/<any one>.onnx
<model>/onnx/model.onnx           transformers.js on Hugging Face's hub; configs one level up
<model>/<version>/model.onnx      Triton, the highest version; config.pbtxt one level up
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engines.errors import ModelError
from engines.labels import LABEL_FILES
from engines.preprocess.config_file import is_there
from engines.preprocess.sidecars import config_folders

__all__ = ["Location", "locate"]

WEIGHTS_FOLDER = "onnx"
TRITON_CONFIG = "config.pbtxt"
HUB_CACHE = "models--"
"""models--<owner>--<name>/snapshots/<commit>/, as huggingface_hub lays its cache out."""

MAX_NAME_LENGTH = 80
"""A path segment holds 255 bytes; the digest and `model=` need 21."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """A model on disk.

    Attributes:
        file: The ONNX file.
        folder: Holds config.json and files of labels, if there are any.
        name: Of the folder that was given, of Triton's folder of a model, of the repository in
            Hugging Face's cache, or of the file without its suffix; letters, digits and `._-` only,
            so that it can stand in a path.
    """

    file: Path
    folder: Path
    name: str


def locate(path: Path) -> Location:
    """Find a model.

    Args:
        path: An .onnx file, or a folder that holds one.

    Raises:
        ModelError: There is none, or several; the message lists what is there. Or what lies beside
            it is a link that leads nowhere.
    """
    try:
        is_folder = path.is_dir()
        if not is_folder and not path.exists():
            raise ModelError(
                f"no such model: {path}; expected an .onnx file or a folder that holds one"
            )
        file = _in_folder(path) if is_folder else path
        folder = _configured(path)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    in_a_version = folder != path.parent and path.absolute().parent.name != WEIGHTS_FOLDER
    called = _called(folder) if is_folder or in_a_version else path.stem
    return Location(file=file, folder=folder, name=_name(called))


def _called(folder: Path) -> str:
    """A folder's name; of Hugging Face's cache the repository's, which stands two levels up."""
    parts = (folder.resolve() if folder.name in ("", "..") else folder.absolute()).parts
    if parts[-2:-1] == ("snapshots",) and parts[-3].startswith(HUB_CACHE):
        return parts[-3].removeprefix(HUB_CACHE)
    return parts[-1]


def _configured(path: Path) -> Path:
    """The folder that names the classes: the one given, or the model's around its weights."""
    nearest, *around = config_folders(path)
    for folder in around:
        if is_there(folder / TRITON_CONFIG) or (_names(folder) and not _names(nearest)):
            return folder
    return nearest


def _names(folder: Path) -> bool:
    """Whether a folder may name classes."""
    return any(is_there(folder / name) for name in ("config.json", *LABEL_FILES))


def _in_folder(folder: Path) -> Path:
    found = sorted(folder.glob("*.onnx")) or sorted(_below(folder).glob("*.onnx"))
    for file in found:
        if file.name == "model.onnx" or len(found) == 1:
            return file
    if found:
        raise ModelError(
            f"{folder} holds several ONNX files and none is called model.onnx: {_list(found)};"
            " give the one you want"
        )
    raise ModelError(
        f"{folder} holds {_list(sorted(folder.iterdir()))}; expected model.onnx, one other .onnx"
        f" file, {WEIGHTS_FOLDER}/model.onnx, or {TRITON_CONFIG} with <version>/model.onnx"
    )


def _below(folder: Path) -> Path:
    """Where weights lie that are not in the model's folder itself."""
    if is_there(folder / TRITON_CONFIG):
        versions = [path for path in folder.iterdir() if path.name.isdecimal() and path.is_dir()]
        return max(versions, key=lambda path: int(path.name), default=folder)
    return folder / WEIGHTS_FOLDER


def _list(files: Sequence[Path]) -> str:
    names = [file.name for file in files[:12]] + (["..."] if len(files) > 12 else [])
    return ", ".join(names) or "nothing"


def _name(text: str) -> str:
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", text)[:MAX_NAME_LENGTH].lstrip(".")
    return name or "model"
