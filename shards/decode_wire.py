"""What the decode pool and its workers say to each other: frames of plain values, never pickled.

A frame is its length (uint32, little endian) and that many bytes. Set-up and replies are JSON; a
request is a JSON line that describes its items, and then the bytes that they carry: names of files
need not be text.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

from shards.decode import Decoded, Limits
from shards.errors import ErrorKind, ImageError
from shards.stored import Stored
from shards.transform import Transform

__all__ = [
    "HEADER",
    "Outcome",
    "Setup",
    "TransformValues",
    "receive",
    "receive_items",
    "receive_outcomes",
    "send",
    "send_items",
    "send_outcomes",
]

Outcome = Decoded | ImageError
"""What becomes of one image."""

_LENGTH = struct.Struct("<I")

HEADER = struct.Struct("<qd")
"""At the start of the memory that pool and worker share: the row that is being decoded, from 0, and
when it was begun (time.monotonic, one clock for all processes); -1 between requests."""


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


def send(channel: socket.socket, *parts: bytes) -> None:
    """Send one frame, made of the parts."""
    channel.sendall(b"".join((_LENGTH.pack(sum(map(len, parts))), *parts)))


def receive(channel: socket.socket) -> bytes:
    """Receive one frame.

    Raises:
        EOFError: The other side is gone.
    """
    [length] = _LENGTH.unpack(_exactly(channel, _LENGTH.size))
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
    described = [
        [len(i.path), i.offset, i.size, None if i.content is None else len(i.content)]
        for i in items
    ]
    carried = [part for i in items for part in (i.path, i.content or b"")]
    send(channel, json.dumps(described).encode(), b"\n", *carried)


def receive_items(channel: socket.socket) -> list[Stored]:
    """Receive what `send_items` sent.

    Raises:
        EOFError: The other side is gone.
    """
    head, _, carried = receive(channel).partition(b"\n")
    items = []
    at = 0
    for path_length, offset, size, content_length in json.loads(head):
        path = carried[at : at + path_length]
        at += path_length
        content = None if content_length is None else carried[at : at + content_length]
        at += content_length or 0
        items.append(Stored(path, offset, size, content))
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


def receive_outcomes(channel: socket.socket) -> list[Outcome]:
    """Receive what `send_outcomes` sent.

    Raises:
        EOFError: The other side is gone.
    """
    return [
        Decoded(first, second) if isinstance(first, int) else ImageError(ErrorKind(first), second)
        for first, second in json.loads(receive(channel))
    ]
