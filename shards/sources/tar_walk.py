"""Every member of a tar archive, and the proof that these are all.

tarfile, and what is built on it, takes the first block that is no header for the end: an archive
that was cut between members, has one flipped bit in a header or a hole of zeros is silently short.
Here every header's checksum counts, every member must lie within the file, and the end is two
blocks of zeros with nothing but zeros after them; anything else is an ArchiveError. A tar has no
checksum over the members' bytes, nor over the extended headers (pax, GNU long names).

Format: POSIX.1-1988 ustar, POSIX.1-2001 pax, GNU tar's long names, sparse files and base-256
numbers. Nothing is ever written to a file system: names are labels.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple
from zlib import adler32

from shards.errors import ArchiveError
from shards.names import shown
from shards.sources.random_access import RandomAccess, opened_at

__all__ = ["Archive", "Member", "MemberKind", "opened", "walk"]

BLOCK = 512
ZEROS = bytes(BLOCK)

# One system call for the headers of some small members: a label, a caption.
WINDOW = 16 * BLOCK

# No file system takes longer names; pax headers also hold comments and attributes.
MAX_LONG_NAME = 64 << 10
MAX_PAX = 1 << 20

_READ_BYTES = 1 << 20

_NUMBER = re.compile(rb"[ 0]*([0-7]*)[ \0]*")
# Six digits, NUL and a space, or seven digits and NUL. Before 1988 spaces led instead of zeros.
_CHECKSUM = re.compile(rb"( *[0-7]+)\0 ?")

_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK": "zip",
}


class MemberKind(StrEnum):
    """What a member is."""

    FILE = "file"
    DIRECTORY = "directory"
    LINK = "link"
    SPECIAL = "special_file"
    SPARSE = "sparse_file"


class Member(NamedTuple):
    """One member of an archive.

    Attributes:
        name: As the archive has it: any bytes but NUL, `..` and a leading slash included.
        offset: Where its bytes begin in the archive.
        size: How many there are.
        kind: What it is.
    """

    name: bytes
    offset: int
    size: int
    kind: MemberKind


_KINDS = {
    b"0": MemberKind.FILE,
    b"\0": MemberKind.FILE,
    b"7": MemberKind.FILE,  # contiguous: of no meaning today
    b"1": MemberKind.LINK,
    b"2": MemberKind.LINK,
    b"3": MemberKind.SPECIAL,
    b"4": MemberKind.SPECIAL,
    b"5": MemberKind.DIRECTORY,
    b"6": MemberKind.SPECIAL,
    b"S": MemberKind.SPARSE,
}
"""By type flag; whatever else is there is SPECIAL."""

_WITHOUT_DATA = frozenset((b"1", b"2", b"3", b"4", b"5", b"6"))
"""Their size says nothing of what follows."""


class Archive:
    """An archive that is open.

    Attributes:
        mtime_ns: When it was last changed, nanoseconds since the epoch.
    """

    def __init__(self, path: bytes, file: RandomAccess) -> None:
        self.mtime_ns = file.mtime_ns
        self._path = path
        self._file = file

    def members(self) -> Iterator[Member]:
        """Yield the members in the order of the archive.

        What was yielded may be relied on only once the iteration has ended without an error.

        Raises:
            ArchiveError: It is damaged, or changed meanwhile; names archive, offset and reason.
        """
        try:
            yield from _Walk(self._path, self._file).members()
            has_changed = self._file.has_changed()
        except BlockingIOError:
            has_changed = True
        except OSError as error:
            raise ArchiveError(f"{shown(self._path)}: {error.strerror or error}") from error
        if has_changed:
            raise ArchiveError(f"{shown(self._path)} was changed while it was read")

    def content(self, member: Member) -> bytes:
        """Read a member's bytes.

        Raises:
            ArchiveError: They cannot be read.
        """
        try:
            return self._file.pread(member.size, member.offset)
        except OSError as error:
            raise ArchiveError(f"{shown(self._path)}: {error.strerror or error}") from error


@contextmanager
def opened(path: bytes) -> Iterator[Archive]:
    """Open an archive for the length of a block.

    Args:
        path: A regular file, or an object.

    Raises:
        SourceError: It cannot be opened.
    """
    with opened_at(path) as file:
        yield Archive(path, file)


def walk(path: bytes) -> Iterator[Member]:
    """Yield the members of an archive; see `opened` and `Archive.members`."""
    with opened(path) as archive:
        yield from archive.members()


@dataclass(slots=True)
class _Extension:
    """What extended headers say of the member after them."""

    name: bytes | None = None
    size: int | None = None
    sparse: bool = False


class _Walk:
    """One pass over the headers of an open archive."""

    def __init__(self, path: bytes, file: RandomAccess) -> None:
        self._path = path
        self._file = file
        self._size = file.size
        self._headers = 0
        self._spaced = 0  # whose checksum is written with leading spaces

    def members(self) -> Iterator[Member]:
        """Yield all members; returns when the end is proven."""
        at = base = 0
        window = b""
        extension: _Extension | None = None
        while True:
            start = at - base
            if start + BLOCK > len(window):
                window, base, start = self._window(at), at, 0
            header = window[start : start + BLOCK]
            if header == ZEROS:
                break
            self._check(header, at)
            flag = header[156:157]
            size = self._number(header, at)
            data = at + BLOCK
            if flag in b"LKxXg":
                extension = self._extend(extension or _Extension(), flag, data, size)
                at = data + _padded(size)
                continue
            name = _name(header)
            kind = _KINDS.get(flag, MemberKind.SPECIAL)
            if extension is not None:
                name = name if extension.name is None else extension.name
                size = size if extension.size is None else extension.size
                kind = MemberKind.SPARSE if extension.sparse else kind
                extension = None
            if flag == b"S":
                data = self._after_maps(header, data)
            elif kind is MemberKind.FILE and name.endswith(b"/"):  # as before 1988
                kind = MemberKind.DIRECTORY
            at = data if flag in _WITHOUT_DATA else data + _padded(size)
            if at > self._size:
                raise self._damage(
                    data, f"a member of {size} bytes begins here, and the archive ends too early"
                )
            yield Member(name, data, size, kind)
        if extension is not None:
            raise self._damage(at, "an extended header has no member after it")
        self._check_end(at)

    def _window(self, at: int) -> bytes:
        """Read a header and what follows it."""
        window = self._file.pread(WINDOW, at)
        if len(window) < BLOCK:
            cut = "the archive ends without its end marker: it was cut off"
            raise self._damage(at, _compression(window) if at == 0 and window else cut)
        return window

    def _check(self, header: bytes, at: int) -> None:
        """Hold a header against its checksum: the sum of its bytes, the field itself as spaces."""
        match = _CHECKSUM.fullmatch(header, 148, 156)
        if match is None or (
            (said := int(match[1], 8)) != _sum(header) and said != _signed_sum(header)
        ):
            raise self._damage(at, _why_no_header(header, at))
        self._headers += 1
        self._spaced += match[1][0] == 0x20

    def _number(self, header: bytes, at: int) -> int:
        """Return a header's size."""
        if header[124] == 0x80:  # GNU's binary numbers, for 8 GiB and more
            size = int.from_bytes(header[125:136], "big")
        elif match := _NUMBER.fullmatch(header, 124, 136):
            size = int(match[1] or b"0", 8)
        else:
            raise self._damage(at, "the member's size is no number")
        return size

    def _extend(self, so_far: _Extension, flag: bytes, data: int, size: int) -> _Extension:
        """Add what one extended header says."""
        limit = MAX_LONG_NAME if flag in b"LK" else MAX_PAX
        if size > limit:
            raise self._damage(data, f"an extended header claims {size} bytes")
        text = self._file.pread(_padded(size), data)
        if len(text) < _padded(size):
            raise self._damage(data, "the archive ends inside an extended header")
        if flag == b"L":
            so_far.name = text[:size].partition(b"\0")[0]
        elif flag == b"g":
            if self._pax(text[:size], data) != _Extension():
                raise self._damage(data, "a global header sets a name or a size")
        elif flag != b"K":  # which names the target of a link
            own = self._pax(text[:size], data)
            so_far.name = own.name or so_far.name
            so_far.size, so_far.sparse = own.size, own.sparse
        return so_far

    def _pax(self, text: bytes, at: int) -> _Extension:
        r"""Read the records of a pax header: `LENGTH KEY=VALUE\n`, LENGTH of the whole record."""
        found = _Extension()
        start = 0
        while start < len(text):
            digits, space, _ = text[start : start + 20].partition(b" ")
            stop = start + int(digits) if space and digits.isdigit() else 0
            key, equals, value = text[start + len(digits) + 1 : stop].partition(b"=")
            if not (start < stop <= len(text) and equals and value.endswith(b"\n")):
                raise self._damage(at + start, "an extended header is malformed")
            if key == b"path":
                found.name = value[:-1]
                if b"\0" in value:
                    raise self._damage(at + start, "a member's name holds a zero byte")
            elif key == b"size":
                if not value[:-1].isdigit():
                    raise self._damage(at + start, "the member's size is no number")
                found.size = int(value)
            found.sparse = found.sparse or key.startswith(b"GNU.sparse.")
            start = stop
        return found

    def _after_maps(self, header: bytes, data: int) -> int:
        """Return where the data of an old GNU sparse file begin: behind further maps."""
        more = header[482]
        while more:
            block = self._file.pread(BLOCK, data)
            if len(block) < BLOCK:
                raise self._damage(data, "the archive ends inside a header")
            more = block[504]
            data += BLOCK
        return data

    def _check_end(self, at: int) -> None:
        """See that two blocks of zeros are there, and nothing but zeros to the end of the file."""
        if at + 2 * BLOCK > self._size:
            raise self._damage(at, "the archive ends inside its end marker")
        while chunk := self._file.pread(_READ_BYTES, at):
            if content := chunk.lstrip(b"\0"):
                raise self._damage(
                    at + len(chunk) - len(content),
                    "there are zeros instead of a header, and more content after them",
                )
            at += len(chunk)
        # Leading spaces are one flipped bit away from leading zeros, with the same sum.
        if self._spaced and (self._spaced < self._headers or self._headers == 1):
            raise self._damage(0, "checksums are written in two ways, so one of them is damaged")

    def _damage(self, at: int, reason: str) -> ArchiveError:
        return ArchiveError(f"{shown(self._path)}, offset {at} of {self._size}: {reason}")


def _why_no_header(header: bytes, at: int) -> str:
    return "the checksum of the header here does not match" if at else _compression(header)


def _compression(header: bytes) -> str:
    """Say what a file is that does not begin as a tar archive."""
    for magic, name in _COMPRESSED.items():
        if header.startswith(magic):
            return f"this is {name}, not tar: unpack it first, for members are read by offset"
    return "this is no tar archive, or its first header is damaged"


def _padded(size: int) -> int:
    return (size + BLOCK - 1) // BLOCK * BLOCK


def _sum(header: bytes) -> int:
    """Sum the bytes of a header, those of the checksum field as spaces.

    The low half of Adler-32 is 1 plus the sum modulo 65521, which 256 bytes do not reach; `sum`
    would take 20 times as long.
    """
    low, high = adler32(header[:148]) & 0xFFFF, adler32(header[156:334]) & 0xFFFF
    return low + high + (adler32(header[334:]) & 0xFFFF) - 3 + 8 * 0x20


def _signed_sum(header: bytes) -> int:
    """The same of signed bytes, as some systems computed it."""
    return _sum(header) - 256 * sum(map((0x7F).__lt__, header[:148] + header[156:]))


def _name(header: bytes) -> bytes:
    name = header[:100].partition(b"\0")[0]
    if header[257:263] == b"ustar\0" and header[345]:
        return header[345:500].partition(b"\0")[0] + b"/" + name
    return name
