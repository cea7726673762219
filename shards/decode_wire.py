"""What the decode pool and its workers say to each other: plain values, never pickled.

A frame is its length (uint32, little endian) and that many bytes. A request is a frame that
describes its items, five numbers for each, and then the bytes that they carry. A reply is a frame
with two numbers for each image, and then the texts of errors. Replies come from a process that has
parsed other people's bytes, so they are believed no further than they can be checked.
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

_ITEM = struct.Struct("<5q")
"""Length of the path; offset; size; length of the content; length of the root; -1 for None."""

_OUTCOME = struct.Struct("<2q")
"""Width and height; or 0 and the length of a text: error_kind, a line break, what went wrong."""

_BLOCK = 1 << 16
"""Bytes that are asked for at once: more than any reply has."""

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
        memory_bytes: Most memory of a worker, resident.
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
    """Receive one frame from a worker, which sends nothing after it.

    Raises:
        EOFError: The worker is gone.
        ValueError: The frame is not what a worker sends.
    """
    received = _some(channel)
    while len(received) < _LENGTH.size:
        received += _some(channel)
    [length] = _LENGTH.unpack_from(received)
    if length > _MAX_REPLY:
        raise ValueError(f"a reply of {length} bytes")
    while len(received) < _LENGTH.size + length:
        received += _some(channel)
    return received[_LENGTH.size :]


def _some(channel: socket.socket) -> bytes:
    block = channel.recv(_BLOCK)
    if not block:
        raise EOFError("the worker closed the connection")
    return block


def send_items(channel: socket.socket, items: Sequence[Stored]) -> None:
    """Ask for some images."""
    parts = [_LENGTH.pack(len(items) * _ITEM.size)]
    for item in items:
        size = -1 if item.size is None else item.size
        lengths = _size(item.content), _size(item.root)
        parts.append(_ITEM.pack(len(item.path), item.offset, size, *lengths))
    for item in items:
        parts += [item.path, item.root or b""]
        if item.content:  # not joined with the others: it may be large
            channel.sendall(b"".join(parts))
            channel.sendall(item.content)
            parts.clear()
    channel.sendall(b"".join(parts))


def _size(value: bytes | None) -> int:
    return -1 if value is None else len(value)


def receive_outcomes(channel: socket.socket, count: int) -> list[Outcome]:
    """Receive what `send_outcomes` sent.

    Raises:
        EOFError: The worker is gone.
        ValueError: That is no answer to a request for `count` images.
    """
    reply = receive(channel)
    at = count * _OUTCOME.size
    if len(reply) < at:
        raise ValueError(f"{len(reply)} bytes for {count} images")
    outcomes: list[Outcome] = []
    for first, second in _OUTCOME.iter_unpack(reply[:at]):
        if first:
            if not (1 <= first <= _MAX_SIDE and 1 <= second <= _MAX_SIDE):
                raise ValueError(f"an image of {first}x{second}")
            outcomes.append(Decoded(first, second))
        else:
            if not 0 <= second <= len(reply) - at:
                raise ValueError(f"a text of {second} bytes")
            kind, _, text = reply[at : at + second].decode().partition("\n")
            outcomes.append(ImageError(ErrorKind(kind), text[:_MAX_TEXT]))
            at += second
    return outcomes


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
    described = _ITEM.iter_unpack(_frame(stream))
    return [
        Stored(
            path=_read(stream, path),
            offset=offset,
            size=None if size < 0 else size,
            # In the order in which they are sent.
            root=None if root < 0 else _read(stream, root),
            content=None if content < 0 else _read(stream, content),
        )
        for path, offset, size, content, root in described
    ]


def send_outcomes(channel: socket.socket, outcomes: Sequence[Outcome]) -> None:
    """Answer with one outcome for each image."""
    head = bytearray()
    texts = b""
    for outcome in outcomes:
        if isinstance(outcome, Decoded):
            head += _OUTCOME.pack(outcome.width, outcome.height)
        else:
            text = f"{outcome.kind.value}\n{outcome}".encode(errors="backslashreplace")
            head += _OUTCOME.pack(0, len(text))
            texts += text
    send(channel, bytes(head) + texts)


def _frame(stream: BinaryIO) -> bytes:
    [length] = _LENGTH.unpack(_read(stream, _LENGTH.size))
    return _read(stream, length)


def _read(stream: BinaryIO, size: int) -> bytes:
    content = stream.read(size)
    if len(content) < size:
        raise EOFError("the pool closed the connection")
    return content
