"""The engine store: built once, kept under the digest of every ingredient, checked before each use.

    <cache>/engines/<key>/     one engine, see engines.store_entry; appears whole or not at all
    <cache>/engines/.*/        locks, builds under way, quarantine, what failed builds left
    <cache>/timings/           TensorRT's timing caches

Correct without its locks: an engine is published by one rename of a folder that is complete and on
disk. The locks only keep others from building the same, and from removing what is in use.
"""

from __future__ import annotations

import shutil
import tempfile
import time
import uuid
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from engines.build_report import BuildEvent, Report, silent
from engines.errors import EngineBuildError, PlanError
from engines.failed_builds import FailedBuild, forget, recall, remember
from engines.locks import FileLock
from engines.manifest import Manifest, nearest
from engines.store_entry import (
    LOG_FILE,
    Entry,
    flush,
    make_private,
    read_entry,
    read_plan,
    write_entry,
)
from engines.store_upkeep import Layout, evict, keep_newest, remove_leftovers

__all__ = ["DEFAULT_MAX_BYTES", "EngineStore", "StoredEngine"]

DEFAULT_MAX_BYTES = 20 * 2**30
"""Some hundred engines of ResNet-50's size."""

KEPT_IN_QUARANTINE = 3
KEPT_LOGS = 8

BUILD_WAIT_S = 2 * 3600.0
"""How long to wait for another process that builds the same, before building beside it: twice the
default deadline of a build, so only a process that is stopped or on a broken file system."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEngine:
    """An engine of the store, in use until it is closed: until then it is not evicted.

    Attributes:
        key: Its name in the store.
        folder: Where it lies.
        plan: The checked bytes of engine.plan; deserialize these, do not read the file again.
        manifest: The ingredients it was built from.
        built: Whether this call built it.
        seconds: What building, waiting and reading took this call.
        why: Why it was built, one sentence each; empty where it was not.
    """

    key: str
    folder: Path
    plan: bytes
    manifest: Manifest
    built: bool
    seconds: float
    why: tuple[str, ...]
    _in_use: FileLock

    def close(self) -> None:
        """Allow its eviction. Idempotent."""
        self._in_use.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class EngineStore:
    """Engines by key, shared by any number of processes of one user.

    Args:
        cache: Folder of the cache; made where there is none. What lies below is for this user only.
        max_bytes: Size above which the least recently used engines go.

    Raises:
        PlanError: The store's folder is somebody else's, or others may write to it.
    """

    def __init__(self, cache: Path, *, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self._layout = layout = Layout(cache / "engines")
        self._max_bytes = max_bytes
        self.timings = cache / "timings"
        hidden = (layout.staging, layout.quarantine, layout.failed, layout.unbuilt, layout.locks)
        for folder in (layout.root, *hidden, self.timings):
            make_private(folder)

    def get_or_build(
        self,
        manifest: Manifest,
        build: Callable[[Path], None],
        *,
        rebuild: bool = False,
        report: Report = silent,
    ) -> StoredEngine:
        """Return the engine of this manifest; build it where there is none or it is damaged.

        One process builds, the others wait for it. Whatever is returned was checked.

        Args:
            manifest: What the engine is to be built from.
            build: Builds it into the folder given: engine.plan, nodes.json, layers.json,
                build.log.
            rebuild: Build even where there is one, which goes into quarantine once its successor
                is complete, and stays where it is if the build fails.
            report: Told what is going on.

        Raises:
            EngineBuildError: The build failed; its log is kept, and the message says where.
            PlanError: What was built is damaged as soon as it is read, or the store is not ours.
        """
        started = time.monotonic()
        key = manifest.key()
        stored = None if rebuild else self._load_undamaged(key)
        if stored is None:
            lock = FileLock.wait(
                self._layout.build_lock(key),
                timeout_s=BUILD_WAIT_S,
                on_wait=lambda: report(
                    BuildEvent(
                        text="Waiting for the process that builds this engine",
                        seconds=time.monotonic() - started,
                    )
                ),
            )
            with lock or nullcontext():
                if lock is not None and lock.effective:
                    remove_leftovers(self._layout, locked=key)
                stored = self._load_or_build(manifest, build, rebuild, report)
        return replace(stored, seconds=time.monotonic() - started)

    def load(self, key: str) -> StoredEngine | None:
        """Open an engine by its key, as another process of this run was told it.

        Returns:
            The engine, or None where there is none.

        Raises:
            PlanError: It is damaged, or the store is not ours.
        """
        in_use = FileLock.wait(self._layout.use_lock(key), shared=True, timeout_s=BUILD_WAIT_S)
        if in_use is None:
            raise PlanError(f"engine {key} is locked for removal, and stays so")
        try:
            folder = self._layout.entry(key)
            entry, plan = read_plan(folder)
            in_use.touch()
        except BaseException as error:
            in_use.close()
            if isinstance(error, FileNotFoundError):
                return None
            raise
        return StoredEngine(
            key=key,
            folder=folder,
            plan=plan,
            manifest=entry.manifest,
            built=False,
            seconds=0.0,
            why=(),
            _in_use=in_use,
        )

    def quarantine(self, key: str) -> Path | None:
        """Set an engine aside: it is damaged, does not load, or has a successor.

        Returns:
            Where it lies now; None where it was gone already.
        """
        aside = self._layout.quarantine / f"{key}.{uuid.uuid4().hex}"
        try:
            self._layout.entry(key).rename(aside)
        except FileNotFoundError:
            return None
        keep_newest(self._layout.quarantine, KEPT_IN_QUARANTINE)
        return aside

    def folder(self, key: str) -> Path:
        """Where an engine of this key lies, if there is one."""
        return self._layout.entry(key)

    def failure(self, key: str) -> FailedBuild | None:
        """Why an engine could not be built of late; None where there is one, or nothing is known.

        Whoever has something else to serve need not try again; `get_or_build` always does.
        """
        return None if self.folder(key).is_dir() else recall(self._layout.unbuilt, key)

    def entries(self) -> list[Entry]:
        """What the manifests of all undamaged engines say, the newest first."""
        found = []
        for folder in self._layout.entries():
            try:
                found.append(read_entry(folder))
            except (PlanError, FileNotFoundError):
                continue
        return sorted(found, key=lambda entry: entry.built_at, reverse=True)

    def _load_undamaged(self, key: str) -> StoredEngine | None:
        try:
            return self.load(key)
        except PlanError:
            return None  # looked into under the lock

    def _load_or_build(
        self, manifest: Manifest, build: Callable[[Path], None], rebuild: bool, report: Report
    ) -> StoredEngine:
        """Look again, now that nobody else builds; quarantine what is damaged; build."""
        key = manifest.key()
        try:
            stored = self.load(key)
        except PlanError as error:
            aside = self.quarantine(key)
            why = [f"the stored engine is damaged and now in {aside}: {error}"]
        else:
            if stored is not None and not rebuild:
                return stored
            why = self._why(manifest) if stored is None else ["another build of it was asked for"]
            if stored is not None:
                stored.close()
        report(BuildEvent(text=f"Building the engine: {'; '.join(why)}"))
        self._build(manifest, build, why, replaced=rebuild)
        try:
            stored = self.load(key)
        except PlanError:
            self.quarantine(key)
            raise
        if stored is None:
            raise PlanError(f"the engine {key} was removed as soon as it was built")
        evict(self._layout, self._max_bytes)
        return replace(stored, built=True, why=tuple(why))

    def _why(self, manifest: Manifest) -> list[str]:
        """How it differs from the nearest one; another precision is another engine, no reason."""
        stored = (entry.manifest for entry in self.entries())
        precision = manifest.computes_in
        earlier = nearest(manifest, (other for other in stored if other.computes_in == precision))
        if earlier is None:
            return [f"the store holds no {precision} engine of {manifest.model}"]
        return manifest.explain(earlier)

    def _build(
        self,
        manifest: Manifest,
        build: Callable[[Path], None],
        why: list[str],
        *,
        replaced: bool,
    ) -> None:
        """Build aside and publish, or leave nothing but the log of the failure."""
        started = time.monotonic()
        key = manifest.key()
        staging = Path(tempfile.mkdtemp(prefix=f"{key}.", dir=self._layout.staging))
        try:
            try:
                build(staging)
            except EngineBuildError as error:
                text = f"{error}{self._keep_log(key, staging)}"
                with suppress(OSError):  # a full disk, say: then it is tried again
                    remember(self._layout.unbuilt, manifest, text, time.monotonic() - started)
                raise EngineBuildError(text) from error
            seconds = time.monotonic() - started
            write_entry(staging, manifest, seconds=seconds, built_at=time.time(), why=why)
            if replaced:
                self.quarantine(key)
            self._publish(staging, key)
            forget(self._layout.unbuilt, key)
        except OSError as error:
            raise PlanError(f"the engine cannot be kept in {self._layout.root}: {error}") from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _publish(self, staging: Path, key: str) -> None:
        """One rename; a folder that is there already was built by another process: keep that."""
        try:
            staging.rename(self._layout.entry(key))
        except OSError:
            if not self._layout.entry(key).is_dir():
                raise
        flush(self._layout.root)

    def _keep_log(self, key: str, staging: Path) -> str:
        """Save the log of a failed build; returns what to add to the message."""
        kept = self._layout.failed / f"{key}.log"
        try:
            (staging / LOG_FILE).replace(kept)
        except FileNotFoundError:
            return ""
        keep_newest(self._layout.failed, KEPT_LOGS)
        return f"\nThe log of the build is {kept}"
