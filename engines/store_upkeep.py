"""Keep the engine store within its size: what nobody uses goes, the least recently used first."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path

from engines.locks import FileLock

__all__ = ["Layout", "evict", "keep_newest", "remove_leftovers"]

KEY_LENGTH = 64


class Layout:
    """Where things are in the store's folder; the names of engines have no dot.

    Attributes:
        root: Holds a folder for each engine, named by its key.
        staging: Engines being built: `<key>.<random>`.
        quarantine: Engines that were damaged or did not load: `<key>.<random>`.
        failed: Logs of builds that failed: `<key>.log`.
        unbuilt: Why they did: `<key>.json` (engines.failed_builds).
        locks: Lock files.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.staging = root / ".staging"
        self.quarantine = root / ".quarantine"
        self.failed = root / ".failed"
        self.unbuilt = root / ".unbuilt"
        self.locks = root / ".locks"

    def entry(self, key: str) -> Path:
        """The engine's folder."""
        return self.root / key

    def entries(self) -> list[Path]:
        """The folders of all engines."""
        return [path for path in self.root.iterdir() if len(path.name) == KEY_LENGTH]

    def build_lock(self, key: str) -> Path:
        """Held, exclusively, by the process that builds the engine."""
        return self.locks / f"{key}.build"

    def use_lock(self, key: str) -> Path:
        """Held, shared, by those who use the engine; changed when it was last opened."""
        return self.locks / f"{key}.use"


def evict(layout: Layout, max_bytes: int) -> list[str]:
    """Remove quarantined engines, then the least recently used, until the rest fits.

    An engine in use stays, whatever the size. Where the file system has no locks, nobody can know
    what is in use, and nothing is removed.

    Returns:
        Keys of the engines removed.
    """
    sizes = {path: _size(path) for path in layout.entries()}
    total = sum(sizes.values()) + _size(layout.quarantine)
    if total <= max_bytes:
        return []
    total -= _size(layout.quarantine)
    keep_newest(layout.quarantine, 0)
    removed = []
    for path in sorted(sizes, key=lambda path: _last_used(layout, path.name)):
        if total <= max_bytes:
            break
        if _remove_unused(layout, path):
            removed.append(path.name)
            total -= sizes[path]
    return removed


def remove_leftovers(layout: Layout, *, locked: str) -> None:
    """Remove what killed builds left in staging; what is being built stays.

    Args:
        layout: Of the store.
        locked: Key whose build lock the caller holds.
    """
    for path in layout.staging.iterdir():
        key = path.name.split(".")[0]
        if key == locked:
            _delete(path)
        else:
            _exclusively(layout.build_lock(key), partial(_delete, path))


def keep_newest(folder: Path, count: int) -> None:
    """Remove all but the `count` newest entries of a folder."""
    newest = sorted(folder.iterdir(), key=_changed, reverse=True)
    for path in newest[count:]:
        _delete(path)


def _remove_unused(layout: Layout, path: Path) -> bool:
    """Take the engine out of the store in one step, then delete it at leisure."""
    trash = layout.staging / f"{path.name}.{uuid.uuid4().hex}"
    moved = _exclusively(layout.use_lock(path.name), partial(path.rename, trash))
    if moved:
        _delete(trash)
    return moved


def _delete(path: Path) -> None:
    """Delete a folder or a file; others may do so at the same time."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _exclusively(lock_path: Path, act: Callable[[], object]) -> bool:
    """Act while nobody else holds the lock; False where somebody does, or it locks nothing."""
    try:
        with FileLock(lock_path) as lock:
            if not lock.effective:
                return False
            act()
            return True
    except (BlockingIOError, FileNotFoundError):
        return False


def _last_used(layout: Layout, key: str) -> float:
    return _changed(layout.use_lock(key))


def _changed(path: Path) -> float:
    """Time of the last change; 0 where it is gone: others remove things, too."""
    try:
        return path.lstat().st_mtime
    except FileNotFoundError:
        return 0.0


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_size
        except FileNotFoundError:
            continue
    return total
