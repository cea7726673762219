"""Which images that were listed once, and are not listed now, are really gone."""

from __future__ import annotations

import os
from collections.abc import Sequence

from shards.names import SEPARATOR

__all__ = ["gone_files"]


def gone_files(keys: Sequence[bytes]) -> list[bool]:
    """Say which local files are no more; members of an archive are gone with it.

    What exists and is not listed was left out for another reason: its suffix, --no-recursive, a
    link that leads elsewhere. What cannot be looked at, or lies in an object store, may exist.
    """
    known: dict[bytes, bool] = {}
    for path in {key.partition(SEPARATOR)[0] for key in keys}:
        known[path] = path.startswith(b"/") and _is_gone(path)
    return [known[key.partition(SEPARATOR)[0]] for key in keys]


def _is_gone(path: bytes) -> bool:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False
