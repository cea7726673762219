"""A file or directory of an output, wherever it lies: a path, or the key of an object.

`pathlib.Path` is a Place, and so is `shards.object_path.ObjectPath`. Both raise OSError.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, Self, runtime_checkable

import pyarrow as pa

__all__ = ["Place", "RemotePlace", "footer_source", "opened", "opened_in_parts"]


class Place(Protocol):
    """What outputs need of a path; see pathlib.Path."""

    @property
    def name(self) -> str:
        """The last part."""

    @property
    def stem(self) -> str:
        """The last part without its suffix."""

    @property
    def parent(self) -> Self:
        """What holds it."""

    def __lt__(self, other: Self, /) -> bool:
        """For sorting."""

    def __truediv__(self, name: str, /) -> Self:
        """What it holds under a name."""

    def exists(self) -> bool:
        """Whether there is such a file or directory."""

    def is_dir(self) -> bool:
        """Whether there is such a directory."""

    def is_file(self) -> bool:
        """Whether there is such a file."""

    def iterdir(self) -> Iterator[Self]:
        """Yield what it holds, in no order."""

    def read_bytes(self) -> bytes:
        """Return what is in the file."""

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the file."""


@runtime_checkable
class RemotePlace(Place, Protocol):
    """A place that pyarrow cannot open by itself."""

    def read_tail(self, size: int) -> bytes:
        """Return the last bytes of the file, all of them where it is shorter."""

    def open_in_parts(self) -> pa.NativeFile:
        """Open the version that is there, to be read in several steps."""


TAIL_BYTES = 1 << 16
"""Read in one request: a footer takes some 10 KiB."""

MAGIC = b"PAR1"


def opened(place: Place) -> pa.NativeFile:
    """Open a file for reading; whoever replaces it meanwhile, one version of it is read.

    An object is read whole, in one request.

    Raises:
        OSError: It cannot be read.
    """
    if isinstance(place, Path):
        return pa.OSFile(os.fsencode(place))  # a str would have to be UTF-8
    return pa.BufferReader(place.read_bytes())


def opened_in_parts(place: Place) -> pa.NativeFile:
    """Open a file so that parts of it can be read; raises where it is replaced meanwhile.

    Raises:
        OSError: It cannot be read.
    """
    return place.open_in_parts() if isinstance(place, RemotePlace) else opened(place)


def footer_source(place: Place) -> pa.NativeFile:
    """Open a Parquet file for its footer alone.

    Raises:
        OSError: It cannot be read.
    """
    if not isinstance(place, RemotePlace):
        return opened(place)
    size = TAIL_BYTES
    while True:
        tail = place.read_tail(size)
        # The last 8 bytes are the footer's length and the magic number.
        needed = int.from_bytes(tail[-8:-4], "little") + 8
        if needed <= len(tail) or len(tail) < size or not tail.endswith(MAGIC):
            return pa.BufferReader(tail)
        size = needed  # another version with a longer footer may be there by then
