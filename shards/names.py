"""What an image is called: in the table (text), and on disk (bytes)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import quote_from_bytes, unquote_to_bytes

__all__ = ["file_names_of", "path_of", "shown", "uris_of"]

_SCHEME = "file://"
_URI_UNSAFE = re.compile(rb"[^A-Za-z0-9._~/-]")


def uris_of(paths: Sequence[bytes]) -> list[str]:
    """Return the `file:` URIs of absolute paths (RFC 8089).

    Percent-encodes every byte but `/` and the unreserved characters of RFC 3986; `path_of` gives
    any path back.
    """
    if not _URI_UNSAFE.search(b"/".join(paths)):
        return [_SCHEME + path.decode("ascii") for path in paths]
    return [_SCHEME + quote_from_bytes(path, safe="/") for path in paths]


def path_of(uri: str) -> bytes:
    """Return the path of a URI that `uris_of` made.

    Raises:
        ValueError: It is no `file:` URI of an absolute path.
    """
    if not uri.startswith(_SCHEME + "/"):
        raise ValueError(f"{uri!r} is not a URI of a local file: expected file:///...")
    return unquote_to_bytes(uri.removeprefix(_SCHEME))


def file_names_of(paths: Sequence[bytes], root: bytes) -> list[str]:
    r"""Return POSIX paths relative to root, as text for reading and joining.

    Bytes that are not UTF-8 are written `\xNN`, and a backslash that is part of a name `\\`, so
    that the text is unambiguous.

    Args:
        paths: Absolute, below root.
        root: Absolute.
    """
    skip = len(root.rstrip(b"/")) + 1
    names = [path[skip:] for path in paths]
    if b"\\" in b"/".join(names):
        names = [name.replace(b"\\", rb"\\") for name in names]
    return [name.decode("utf-8", "backslashreplace") for name in names]


def shown(path: bytes) -> str:
    """Return a path as text for messages."""
    return path.decode("utf-8", "backslashreplace")
