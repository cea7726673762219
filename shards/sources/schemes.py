"""Which schemes of URIs are read here."""

from __future__ import annotations

import re

from shards.bucket import SCHEMES
from shards.errors import SourceError
from shards.names import shown

__all__ = ["check_scheme", "scheme_of"]

_SCHEME = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*)://")


def scheme_of(text: bytes) -> str | None:
    """Return the scheme of a URI, in lower case; None for a path."""
    match = _SCHEME.match(text)
    return match[1].decode().lower() if match else None


def check_scheme(text: bytes) -> None:
    """See that something here reads a URI.

    Raises:
        SourceError: Nothing does.
    """
    scheme = scheme_of(text) or "file"
    if scheme in ("http", "https"):
        raise SourceError(
            f"{shown(text)}: web addresses are not read, for whoever names them would choose what "
            "this machine asks for. Download the images, or give s3:// or local paths."
        )
    if scheme not in ("file", *SCHEMES):
        known = ", ".join(f"{name}://" for name in ("file", *SCHEMES))
        raise SourceError(f"{shown(text)}: nothing reads {scheme}:// here. Known are {known}.")
