"""Tar archives as people have them, for tests and for benchmarks/reliability/tar_damage.py."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable

__all__ = ["FORMATS", "tar"]

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def tar(
    members: Iterable[tuple[str, bytes]],
    *,
    format: int = tarfile.PAX_FORMAT,
    extra: Iterable[tarfile.TarInfo] = (),
) -> bytes:
    """An archive of files, and then of whatever has no content."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in extra:
            archive.addfile(info)
    return buffer.getvalue()
