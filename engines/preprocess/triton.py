"""Triton's config.pbtxt: the size of a model's input, and the files of its labels.

Source: triton-inference-server/common, `protobuf/model_config.proto`. Triton hands tensors through
as clients send them, so nothing in its configuration tells how images become tensors: mean, range
and resize are the client's, and have to be asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from engines.errors import ModelError
from engines.preprocess.config_file import is_there
from engines.preprocess.recipe import Size
from engines.preprocess.statement import Statement
from engines.preprocess.text_proto import Message, TextProtoError, parse

__all__ = ["CONFIG", "TritonConfig", "read_triton", "triton_statement"]

CONFIG = "config.pbtxt"
MAX_CONFIG_BYTES = 1 << 20

Layout = Literal["nchw", "nhwc"]

_LAYOUTS: dict[object, Layout] = {
    "FORMAT_NCHW": "nchw",
    "FORMAT_NHWC": "nhwc",
    2: "nchw",
    1: "nhwc",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TritonConfig:
    """What config.pbtxt says that a classifier can use.

    Attributes:
        size: Height and width of the one input; None where they are open, or where neither
            `format` nor three channels tell which they are.
        label_files: Name of each output that has a `label_filename` to that file's name.
    """

    size: Size | None
    label_files: Mapping[str, str]


def read_triton(folder: Path) -> TritonConfig | None:
    """The configuration in a model's folder of a Triton repository; None where there is none.

    Raises:
        ModelError: It cannot be read.
    """
    file = folder / CONFIG
    if not is_there(file):
        return None
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_CONFIG_BYTES + 1)
        if len(content) > MAX_CONFIG_BYTES:
            raise ModelError(f"{file}: larger than {MAX_CONFIG_BYTES} bytes; not a configuration")
        config = parse(content.decode())
    except (OSError, UnicodeDecodeError, TextProtoError) as error:
        raise ModelError(f"{file}: cannot be read as Triton's configuration: {error}") from error
    return TritonConfig(
        size=_size(_messages(config, "input")),
        label_files={
            str(_only(output, "name")): name
            for output in _messages(config, "output")
            if isinstance(name := _only(output, "label_filename"), str)
        },
    )


def triton_statement(folder: Path) -> Statement:
    """What config.pbtxt says of preprocessing, which is the input's size at most.

    Raises:
        ModelError: The file cannot be read.
    """
    config = read_triton(folder)
    if config is None or config.size is None:
        return Statement()
    return Statement(origin=CONFIG, sizes=(config.size,), size_source=f"{CONFIG}: dims")


def _size(inputs: Sequence[Message]) -> Size | None:
    if len(inputs) != 1:
        return None
    [only] = inputs
    reshape = _messages(only, "reshape")
    dims = (reshape[0].get("shape") if reshape else None) or only.get("dims", [])
    # With max_batch_size: 0 the batch is a dimension of its own, in front.
    sides = [side if type(side) is int else -1 for side in dims[-3:]]
    if len(sides) != 3:
        return None
    layout = _LAYOUTS.get(_only(only, "format")) or _by_channels(sides)
    height, width = sides[:2] if layout == "nhwc" else sides[1:]
    return (height, width) if layout is not None and min(height, width) > 0 else None


def _by_channels(sides: Sequence[int]) -> Layout | None:
    if (sides[0] == 3) == (sides[2] == 3):
        return None
    return "nchw" if sides[0] == 3 else "nhwc"


def _messages(message: Message, field: str) -> list[Message]:
    return [cast(Message, value) for value in message.get(field, []) if isinstance(value, dict)]


def _only(message: Message, field: str) -> object:
    """The value of a field that does not repeat: the last, as protobuf has it."""
    return next(reversed(message.get(field, [])), None)
