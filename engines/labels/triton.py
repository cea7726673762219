"""The file of labels that Triton's config.pbtxt names for an output."""

from __future__ import annotations

from pathlib import Path

from engines.errors import ModelError
from engines.preprocess.triton import CONFIG, read_triton

__all__ = ["triton_label_file"]


def triton_label_file(folder: Path, output_name: str) -> Path | None:
    """Where the labels lie that a folder's config.pbtxt names; None where it names none.

    Args:
        folder: Of the model in Triton's repository, above the folders of its versions.
        output_name: Of the model's output that holds the scores; matters where several have labels.

    Raises:
        ModelError: The configuration cannot be read, or names a file outside of the folder.
    """
    triton = read_triton(folder)
    by_output = {} if triton is None else dict(triton.label_files)
    name = by_output.get(output_name)
    if name is None and len(by_output) == 1:
        (name,) = by_output.values()
    if name is None:
        return None
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ModelError(
            f"{folder / CONFIG}: label_filename is {name!r}; expected a file below the model's"
            " folder"
        )
    return folder / name
