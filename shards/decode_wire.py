"""What the decode pool and its workers say to each other: plain values, never pickled.

A frame is its length (uint32, little endian) and that many bytes of JSON. A request is a frame that
describes its items, and then the bytes that they carry, as they are: names of files need not be
text, and contents are large. Replies come from a process that has parsed other people's bytes, so
they are believed no further than they can be checked.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import BinaryIO

from shards.decode import Decoded, Limits
from shards.errors import ErrorKind, ImageError
from shards.stored import Stored
from shards.transform import Transform

__all__ = [
    "DECODING",
    "HEADER",
    "READING",
    "READY",
    "Outcome",
    "Setup",
    "TransformValues",
    "receive",
    "receive_items",
    "receive_outcomes",
    "receive_setup",
    "send",
    "send_items",
    "send_outcomes",
]

Outcome = Decoded | ImageError
"""What becomes of one image."""

_LENGTH = struct.Struct("<I")

HEADER = struct.Struct("<qq")
"""At the start of the memory that pool and worker share: the row that the worker is at, from 0, or
-1 between requests; and what it does with it."""

READING = 0
DECODING = 1

READY = b"ready"
"""A worker's first word, once it is set up."""

_MAX_REPLY = 1 << 20
"""Bytes; the outcomes of one request are some kilobytes."""

_MAX_SIDE = 2**31 - 1
"""Pixels; what a column of the table holds."""

_MAX_TEXT = 1000
"""Characters of an error, which decoders cut shorter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformValues:
    """A `Transform` that has travelled: the values alone."""

    height: int
    width: int
    resize: str
    resize_height: int
    resize_width: int
    interpolation: str
    rounding: str
    crop_offset: str
    pad_fill: tuple[int, int, int]
    pad_bias: str
    alpha: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a worker is told first.

    Attributes:
        transform: Resize and crop.
        limits: What one image may cost.
        rows: Images that the shared memory holds.
        memory_bytes: Address space that a worker may take beyond what it begins with.
    """

    transform: Transform
    limits: Limits
    rows: int
    memory_bytes: int

    @property
    def image_bytes(self) -> int:
        """Bytes of one decoded image."""
        return self.transform.height * self.transform.width * 3

    @property
    def shared_bytes(self) -> int:
        """Bytes of the shared memory: the header, then the rows."""
        return HEADER.size + self.rows * self.image_bytes

    def to_json(self) -> bytes:
        """Serialize."""
        values = {field.name: getattr(self.transform, field.name) for field in _TRANSFORM_FIELDS}
        return json.dumps(
            {
                "transform": values,
                "limits": asdict(self.limits),
                "rows": self.rows,
                "memory_bytes": self.memory_bytes,
            }
        ).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Setup:
        """Read what `to_json` wrote."""
        values = json.loads(text)
        transform = values.pop("transform")
        transform["pad_fill"] = tuple(transform["pad_fill"])
        limits = Limits(**values.pop("limits"))
        return cls(transform=TransformValues(**transform), limits=limits, **values)


_TRANSFORM_FIELDS = fields(TransformValues)


# The pool's side.


def send(channel: socket.socket, content: bytes) -> None:
    """Send one frame."""
    channel.sendall(_LENGTH.pack(len(content)) + content)


def receive(channel: socket.socket) -> bytes:
    """Receive one frame from a worker.

    Raises:
        EOFError: The worker is gone.
        ValueError: The frame is longer than any reply.
    """
    [length] = _LENGTH.unpack(_exactly(channel, _LENGTH.size))
    if length > _MAX_REPLY:
        raise ValueError(f"a reply of {length} bytes")
    return _exactly(channel, length)


def _exactly(channel: socket.socket, size: int) -> bytes:
    buffer = bytearray(size)
    view = memoryview(buffer)
    while view:
        count = channel.recv_into(view)
        if count == 0:
            raise EOFError("the other side closed the connection")
        view = view[count:]
    return bytes(buffer)


def send_items(channel: socket.socket, items: Sequence[Stored]) -> None:
    """Ask for some images."""
    described = [[_size(i.path), i.offset, i.size, _size(i.content), _size(i.root)] for i in items]
    head = json.dumps(described).encode()
    parts = [_LENGTH.pack(len(head)), head]
    for item in items:
        parts += [item.path, item.root or b""]
        if item.content:  # not joined with the others: it may be large
            channel.sendall(b"".join(parts))
            channel.sendall(item.content)
            parts.clear()
    channel.sendall(b"".join(parts))


def _size(value: bytes | None) -> int | None:
    return None if value is None else len(value)


def receive_outcomes(channel: socket.socket, count: int) -> list[Outcome]:
    """Receive what `send_outcomes` sent.

    Raises:
        EOFError: The worker is gone.
        ValueError: That is no answer to a request for `count` images.
    """
    try:
        values = json.loads(receive(channel))
        outcomes = [_outcome(*value) for value in values]
    except (TypeError, RecursionError) as error:
        raise ValueError(f"no list of outcomes: {error}") from error
    if len(outcomes) != count:
        raise ValueError(f"{len(outcomes)} outcomes of {count} images")
    return outcomes


def _outcome(first: object, second: object) -> Outcome:
    if isinstance(first, int) and isinstance(second, int):
        if not (1 <= first <= _MAX_SIDE and 1 <= second <= _MAX_SIDE):
            raise ValueError(f"an image of {first}x{second}")
        return Decoded(first, second)
    return ImageError(ErrorKind(str(first)), str(second)[:_MAX_TEXT])


# The worker's side.


def receive_setup(stream: BinaryIO) -> Setup:
    """Receive what a worker is told first.

    Raises:
        EOFError: The pool is gone.
    """
    return Setup.from_json(_frame(stream))


def receive_items(stream: BinaryIO) -> list[Stored]:
    """Receive what `send_items` sent; contents are held once.

    Raises:
        EOFError: The pool is gone.
    """
    items = []
    for path_size, offset, size, content_size, root_size in json.loads(_frame(stream)):
        path = _read(stream, path_size)
        root = None if root_size is None else _read(stream, root_size)
        content = None if content_size is None else _read(stream, content_size)
        items.append(Stored(path, offset, size, content, root))
    return items


def send_outcomes(channel: socket.socket, outcomes: Sequence[Outcome]) -> None:
    """Answer with one outcome for each image."""
    values = [
        [outcome.width, outcome.height]
        if isinstance(outcome, Decoded)
        else [outcome.kind.value, str(outcome)]
        for outcome in outcomes
    ]
    send(channel, json.dumps(values).encode())


def _frame(stream: BinaryIO) -> bytes:
    [length] = _LENGTH.unpack(_read(stream, _LENGTH.size))
    return _read(stream, length)


def _read(stream: BinaryIO, size: int) -> bytes:
    content = stream.read(size)
    if len(content) < size:
        raise EOFError("the pool closed the connection")
    return content
