"""A model's files, read once: checked, hashed, and every weight brought inside the proto.

A model larger than a few megabytes keeps its weights in files beside the ONNX file, and says where
by name, offset and length. Those names come from whoever made the model, and parsers have read
files outside the model's folder because of them (CVE-2022-25882 and CVE-2026-34447 in onnx;
onnxruntime 1.32 still follows hard links). So no parser gets a path here: ONNX Runtime and TensorRT
receive bytes that are complete in themselves.

Where a data file may lie, once links are resolved:

- in the folder that holds the model, or below it; or
- in the very folder where the model file itself lies behind its own link. That is how Hugging
  Face's cache is built: `snapshots/<revision>/model.onnx` and `model.onnx_data` both link into one
  `blobs` folder.

It must be a regular file with one name: a second hard link could be any file of the same disk.
Stores that save space by hard links (DVC, Bazel, `cp -l`) make such files too; where the user says
which digest the model has, that is what vouches for its content, and links are no matter.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from google.protobuf.message import (  # type: ignore[import-untyped]  # ships no types
    DecodeError,
    Message,
)
from onnx import ModelProto, TensorProto

from engines.errors import ModelError
from engines.foreign import refuse_foreign

__all__ = ["MAX_MODEL_BYTES", "ModelFiles", "read_model"]

MAX_MODEL_BYTES = 2**31 - 2**20
"""Protobuf cannot serialise 2 GiB, and wrapping the graph adds some kilobytes."""

_DATA_SUFFIXES = (".data", "_data")
"""Of the files that PyTorch and Optimum put weights into."""

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_OTHER_FORMATS = (
    (_LFS_POINTER, "a Git LFS pointer: run `git lfs pull` in its repository to get the file"),
    (b"<", "a web page or XML, perhaps a download page under this name: download it again"),
    (b"PK\x03\x04", "a zip archive, perhaps a PyTorch checkpoint: use torch.onnx.export"),
    (b"\x80\x02", "a Python pickle, perhaps a PyTorch checkpoint: use torch.onnx.export"),
    (b"\x89HDF", "an HDF5 file, perhaps a Keras model: convert it with tf2onnx"),
    (b"ftrt", "a TensorRT plan: give the ONNX model, engines are built from it"),
    (b"ptrt", "a TensorRT plan: give the ONNX model, engines are built from it"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFiles:
    """A model as it was read, complete in memory.

    Attributes:
        proto: The model; no tensor of it refers to a file any more.
        digest: SHA-256 in hexadecimal of the ONNX file where that is all, as `sha256sum` prints it;
            else of such digests, one on a line: the ONNX file's, then its data files' in order of
            their names.
        files: Name of each file, as the model refers to it, to its SHA-256.
    """

    proto: ModelProto
    digest: str
    files: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Reference:
    """A tensor whose bytes lie in a file."""

    tensor: TensorProto
    location: str
    offset: int
    length: int | None


def read_model(path: Path, sha256: str | None = None) -> ModelFiles:
    """Read an ONNX file and all of its external data.

    Args:
        path: The ONNX file. It may be a link.
        sha256: The digest that the whole must have, see `ModelFiles`; None takes any.

    Raises:
        ModelError: A file is missing, unreadable, not a regular file or not what it should be; it
            lies where data may not lie; a tensor reaches behind the end of its file; the whole
            is too large, has operators of foreign libraries, or another digest.
    """
    content = _read(path, path, links=False)
    _refuse_other_formats(path, content)
    proto = _parse(path, content)
    refuse_foreign(path, proto)
    files = {path.name: hashlib.sha256(content).hexdigest()}
    by_location: dict[str, list[_Reference]] = defaultdict(list)
    for tensor in _tensors(proto):
        if tensor.data_location == TensorProto.EXTERNAL:
            reference = _reference(path, tensor)
            by_location[reference.location].append(reference)
    budget = MAX_MODEL_BYTES - len(content)
    del content
    for location in sorted(by_location):
        tensor = by_location[location][0].tensor
        data = _read_data(path, location, tensor.name, links=sha256 is None)
        files[location] = hashlib.sha256(data).hexdigest()
        for reference in by_location[location]:
            budget -= _embed(path, reference, data, budget)
    digest = _digest(files)
    if sha256 is not None and digest != sha256.lower():
        raise ModelError(
            f"{path} is another model than the one that is asked for: its SHA-256 is {digest},"
            f" expected {sha256.lower()} (--model-sha256). Give the right file, or the digest of"
            " this one if you trust it"
        )
    return ModelFiles(proto=proto, digest=digest, files=files)


def _digest(files: Mapping[str, str]) -> str:
    digests = list(files.values())
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("".join(f"{digest}\n" for digest in digests).encode()).hexdigest()


def _read(model: Path, path: Path, *, links: bool) -> bytes:
    """Bytes of a regular file of bounded size; `links` demands that it has no second hard link."""
    try:
        # NONBLOCK: opening a FIFO that nobody writes to would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise ModelError(f"{model}: {path} is not a regular file")
            if links and status.st_nlink != 1:
                raise ModelError(
                    f"{model}: its data file {path} has {status.st_nlink} hard links, so it may be"
                    " any file of this disk; expected one. Copy it (cp, not cp -l) beside the"
                    " model, or say by --model-sha256 which digest the model has"
                )
            if status.st_size > MAX_MODEL_BYTES:
                raise ModelError(_too_large(model, f"{path} alone has {status.st_size:,} bytes"))
            return file.read(status.st_size)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error


def _too_large(path: Path, given: str) -> str:
    return (
        f"{path} is too large: {given}; expected at most {MAX_MODEL_BYTES:,} with its weights, the"
        " limit of the ONNX format in one piece. Export it in float16"
    )


def _refuse_other_formats(path: Path, content: bytes) -> None:
    start = content[:4096].lstrip(b"\xef\xbb\xbf \t\r\n")
    if not start:
        raise ModelError(f"{path} is empty; expected an ONNX model")
    for prefix, what in _OTHER_FORMATS:
        if start.startswith(prefix):
            raise ModelError(f"{path} is not an ONNX model but {what}")


def _parse(path: Path, content: bytes) -> ModelProto:
    try:
        proto = ModelProto()
        proto.ParseFromString(content)
    except DecodeError as error:
        raise ModelError(
            f"{path} is not an ONNX model or is cut short ({len(content):,} bytes): {error}"
        ) from error
    # Protobuf accepts many byte strings that nobody wrote as a model.
    if not (proto.ir_version and proto.graph.node and proto.opset_import):
        raise ModelError(f"{path} is not an ONNX model: it has no IR version, operators or opset")
    return proto


def _tensors(message: Message) -> Iterator[TensorProto]:
    """Every tensor of a message, wherever it stands: subgraphs, functions, attributes, sparse."""
    for field, value in message.ListFields():
        if field.message_type is not None:
            for item in (value,) if isinstance(value, Message) else value:
                if isinstance(item, TensorProto):
                    yield item
                else:
                    yield from _tensors(item)


def _reference(path: Path, tensor: TensorProto) -> _Reference:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    parts = PurePosixPath(location).parts
    if not parts or location.startswith("/") or ".." in parts or {"\\", "\0"} & set(location):
        raise ModelError(
            f"{path}: tensor {tensor.name!r} says that its data lies in {location!r}; expected a"
            " relative path inside the model's folder. Do not use this file: re-export the model"
        )
    offset = _number(path, tensor, entries.get("offset", "0"))
    length = entries.get("length")
    return _Reference(
        tensor, location, offset, None if length is None else _number(path, tensor, length)
    )


def _number(path: Path, tensor: TensorProto, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ModelError(
            f"{path}: tensor {tensor.name!r} has {text[:40]!r} as offset or length of its data;"
            " expected a whole number of bytes. Re-export the model"
        )
    return int(text)


def _read_data(path: Path, location: str, tensor_name: str, *, links: bool) -> bytes:
    target_folder = path.resolve().parent
    candidates = [folder / location for folder in (path.parent, target_folder)]
    found = next((candidate for candidate in candidates if os.path.lexists(candidate)), None)
    if found is None:
        raise ModelError(
            f"{path}: its weights (tensor {tensor_name!r} first) lie in {location!r}, and there is"
            f" no such file in {path.parent}. torch.onnx.export writes the weights beside the"
            f" model: copy {location!r} too{_renamed(path, location)}"
        )
    resolved = Path(os.path.realpath(found))  # Path.resolve raises RuntimeError on a loop
    inside = resolved.is_relative_to(path.parent.resolve())
    if not inside and resolved.parent != target_folder:
        raise ModelError(
            f"{path}: its data file {location!r} leads to {resolved}, outside the model's folder."
            " Copy the file itself beside the model"
        )
    data = _read(path, resolved, links=links)
    if data.startswith(_LFS_POINTER):
        raise ModelError(f"{path}: its data file {location!r} is {_OTHER_FORMATS[0][1]}")
    return data


def _renamed(path: Path, location: str) -> str:
    """A hint at a file that may be the one that is missing: a model is often renamed alone."""
    name = PurePosixPath(location).name
    others = sorted(
        other.name
        for other in path.parent.iterdir()
        if other.name.endswith(_DATA_SUFFIXES) and other.name != name
    )
    return f", or rename {others[0]!r} to that if it is the file" if others else ""


def _embed(path: Path, reference: _Reference, data: bytes, budget: int) -> int:
    """Move the bytes that a tensor refers to into it; returns how many."""
    tensor, start = reference.tensor, reference.offset
    length = len(data) - start if reference.length is None else reference.length
    if length < 0 or start + length > len(data):
        raise ModelError(
            f"{path}: tensor {tensor.name!r} wants {length:,} bytes from byte {start:,} of"
            f" {reference.location!r}, which has {len(data):,}. The file is cut short or belongs"
            " to another export: copy both files again"
        )
    if length > budget:
        raise ModelError(_too_large(path, f"its tensors go past {MAX_MODEL_BYTES:,} bytes"))
    tensor.raw_data = data[start : start + length]
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")
    return length
