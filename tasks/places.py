"""Where things are written: can they be, is there room, and what lies there already?"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from engines.check import Check
from shards.errors import ShardError
from shards.trees import create_tree, is_remote

__all__ = ["cache_check", "output_check"]

LITTLE_ROOM = 2**30
"""Bytes: a table of ten million images has about that many, and so have some engines."""


def cache_check(cache: Path) -> Check:
    """The engine store below a cache folder; nothing is made there.

    Args:
        cache: As `tasks.engine.cache_folder` has it.
    """
    store = cache / "engines"
    plans = sorted(store.glob("*/engine.plan")) if store.is_dir() else []
    nbytes = sum(plan.stat().st_size for plan in plans)
    kept = f"{len(plans)} engine{'s' * (len(plans) != 1)}, {nbytes / 2**20:,.0f} MiB"
    return _writable("engine cache", store, kept if plans else "empty", "--engine-cache")


def output_check(output: str) -> Check:
    """A place for tables; nothing is made there, and nothing is left.

    Args:
        output: A directory, or `s3://bucket/prefix`.
    """
    if is_remote(output):
        return _bucket_check(output)
    folder = Path(output)
    kept = "there already" if folder.is_dir() else "will be made"
    return _writable("output", folder, kept, "--output")


def _bucket_check(output: str) -> Check:
    """A bucket: what a run asks of it before it begins, and room for files in the making."""
    expected = "a bucket that these credentials may write to, whose store keeps to conditions"
    try:
        tree = create_tree(output)
        kept = "there already" if tree.is_there() else "will be made"
    except ShardError as error:
        what, _, advice = str(error).rstrip(".").rpartition(". ")
        return Check(
            name="output",
            status="failed",
            measured=what or advice,
            expected=expected,
            advice=advice if what else "",
        )
    free = shutil.disk_usage(tree.staging).free
    little = free < LITTLE_ROOM
    return Check(
        name="output",
        status="warning" if little else "passed",
        measured=f"{tree.root} ({kept}), conditions hold; {free / 2**30:,.1f} GiB free in "
        f"{tree.staging} for files in the making",
        expected=f"{expected}; {LITTLE_ROOM / 2**30:g} GiB free",
        advice="Make room before a long run, or set TMPDIR" if little else "",
    )


def _writable(name: str, folder: Path, kept: str, option: str) -> Check:
    existing = next((p for p in (folder, *folder.absolute().parents) if p.exists()), Path("/"))
    problem = _problem(existing)
    free = shutil.disk_usage(existing).free
    room = f"{free / 2**30:,.1f} GiB free"
    if problem:
        return Check(
            name=name,
            status="failed",
            measured=f"{folder}: {problem}",
            expected="a directory that this user may write to",
            advice=f"Choose another one with {option}, or change its permissions",
        )
    little = free < LITTLE_ROOM
    return Check(
        name=name,
        status="warning" if little else "passed",
        measured=f"{folder} ({kept}), {room}",
        expected=f"writable, {LITTLE_ROOM / 2**30:g} GiB free",
        advice="Make room before a long run" if little else "",
    )


def _problem(folder: Path) -> str:
    """Why nothing can be written below a path that exists; '' where it can."""
    if not folder.is_dir():
        return f"{folder} is no directory"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"{folder} cannot be written by this user"
    try:
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return f"{folder} cannot be written: {error.strerror}"
