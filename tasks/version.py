"""Which Nightshift this is, for records."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version

__all__ = ["tool_version"]


@cache
def tool_version() -> str:
    """The installed version; '0+source' where the source runs without being installed."""
    try:
        return version("nightshift")
    except PackageNotFoundError:
        return "0+source"
