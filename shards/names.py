"""What an image is called: in the table (text), and inside (a key of bytes, see shards.inputs)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import quote_from_bytes, unquote_to_bytes

__all__ = ["SEPARATOR", "file_names_of", "key_of", "shown", "uris_of"]

SEPARATOR = b"\0"
"""Between a container, the name of a member in it, and its number among its namesakes."""

_LOCAL = b"file://"
_URI_UNSAFE = re.compile(rb"[^A-Za-z0-9._~/\0-]")
_SCHEME = re.compile(rb"[a-z][a-z0-9+.-]*://")


def uris_of(keys: Sequence[bytes]) -> list[str]:
    """Return keys as URIs: `file://` (RFC 8089) for what is local.

    Percent-encodes every byte but `/` and the unreserved characters of RFC 3986, and writes
    separators as `!`; `key_of` gives any key back.
    """
    if not _URI_UNSAFE.search(b"/".join(keys)):  # no scheme either: that has a colon
        return [(_LOCAL + key.replace(SEPARATOR, b"!")).decode("ascii") for key in keys]
    return [_uri(key) for key in keys]


def key_of(uri: str) -> bytes:
    """Return the key of a URI that `uris_of` made.

    Raises:
        ValueError: It is no URI of an absolute path or an object.
    """
    text = uri.encode()
    scheme = _SCHEME.match(text)
    if scheme is None or (scheme[0] == _LOCAL and not text.startswith(_LOCAL + b"/")):
        raise ValueError(f"{uri!r} is no URI of an image: expected file:///... or s3://...")
    key = SEPARATOR.join(map(unquote_to_bytes, text[scheme.end() :].split(b"!")))
    return key if scheme[0] == _LOCAL else scheme[0] + key


def file_names_of(keys: Sequence[bytes], root: bytes) -> list[str]:
    r"""Return POSIX paths relative to root, as text for reading and joining.

    Bytes that are not UTF-8 are written `\xNN`, a backslash that is part of a name `\\`, and
    separators `!`. What does not lie below root is named in full.

    Args:
        keys: Of images.
        root: Of a directory.
    """
    prefix = root.rstrip(b"/") + b"/"
    names = [key.removeprefix(prefix) for key in keys]
    together = b"/".join(names)
    if b"\\" in together:
        names = [name.replace(b"\\", rb"\\") for name in names]
    if SEPARATOR in together:
        names = [name.replace(SEPARATOR, b"!") for name in names]
    return [name.decode("utf-8", "backslashreplace") for name in names]


def shown(key: bytes) -> str:
    """Return a key as text for messages."""
    return key.replace(SEPARATOR, b"!").decode("utf-8", "backslashreplace")


def _uri(key: bytes) -> str:
    scheme = _SCHEME.match(key)
    before, rest = (scheme[0], key[scheme.end() :]) if scheme else (_LOCAL, key)
    parts = (quote_from_bytes(part, safe="/") for part in rest.split(SEPARATOR))
    return before.decode() + "!".join(parts)
