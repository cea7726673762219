"""One engine on disk: a plan and the manifest that vouches for it, checked before anything loads.

    <key>/engine.plan     serialized engine: native code, read only together with its manifest
          manifest.json   every ingredient in words, sha256 of what was built, digest of itself
          nodes.json      the ONNX nodes that TensorRT was given, in the engine's precision
          layers.json     what TensorRT made of them (engine inspector)
          build.log       what TensorRT said
          verdict.json, throughput.json, profile.json, report.html
                          what was found out later; each replaced as a whole, none of them needed

The digests guard against damage and mixed-up files, not against an attacker who can write here:
for that the folders are ours alone, and a symbolic link is never followed.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from engines.errors import PlanError
from engines.manifest import Manifest, canonical_json

__all__ = [
    "LAYERS_FILE",
    "LOG_FILE",
    "MANIFEST_FILE",
    "NODES_FILE",
    "PLAN_FILE",
    "PROFILE_FILE",
    "REPORT_FILE",
    "THROUGHPUT_FILE",
    "Entry",
    "flush",
    "make_private",
    "read_beside",
    "read_built",
    "read_entry",
    "read_plan",
    "write_beside",
    "write_entry",
]

PLAN_FILE, MANIFEST_FILE = "engine.plan", "manifest.json"
LAYERS_FILE, LOG_FILE, NODES_FILE = "layers.json", "build.log", "nodes.json"
PROFILE_FILE, THROUGHPUT_FILE = "profile.json", "throughput.json"
REPORT_FILE = "report.html"

FORMAT = 2
"""Written; 1 knew only the plan's digest, and is read as well."""

MAX_MANIFEST_BYTES = 1 << 20
"""A manifest has about 2 KB; more than this is not one."""

MAX_FILE_BYTES = 256 << 20
"""A build log ends at a quarter of this; everything else is far smaller."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What manifest.json says.

    Attributes:
        manifest: The ingredients.
        plan_digest: sha256 (hex) of engine.plan.
        plan_bytes: Its size.
        files: sha256 (hex) of what else the build left, by name; None in entries of format 1.
        seconds: How long the build took.
        built_at: Unix time of the end of the build, seconds.
        why: Why it was built.
    """

    manifest: Manifest
    plan_digest: str
    plan_bytes: int
    files: dict[str, str] | None
    seconds: float
    built_at: float
    why: tuple[str, ...]


def write_entry(
    folder: Path, manifest: Manifest, *, seconds: float, built_at: float, why: list[str]
) -> None:
    """Vouch for the plan in `folder`: write its manifest, and everything there to the disk.

    Raises:
        OSError: A file is missing or cannot be written.
    """
    digests = {path.name: _digest(path) for path in sorted(folder.iterdir())}
    entry = Entry(
        manifest=manifest,
        plan_digest=digests.pop(PLAN_FILE, ""),  # the next line raises where there is none
        plan_bytes=(folder / PLAN_FILE).stat().st_size,
        files=digests,
        seconds=seconds,
        built_at=built_at,
        why=tuple(why),
    )
    (folder / MANIFEST_FILE).write_bytes(_render(entry))
    for path in folder.iterdir():
        path.chmod(0o600)
        flush(path)
    flush(folder)


def read_entry(folder: Path) -> Entry:
    """Read and check a manifest; the folder's name must be its key.

    Raises:
        FileNotFoundError: There is no such folder.
        PlanError: The manifest is missing, damaged or another engine's.
    """
    with _opened(folder) as folder_fd:
        return _entry(folder, folder_fd)


def read_plan(folder: Path) -> tuple[Entry, bytes]:
    """Read an engine's manifest and plan; the bytes returned are those that were checked.

    Raises:
        FileNotFoundError: There is no such folder.
        PlanError: Manifest or plan are missing, damaged or another engine's.
    """
    with _opened(folder) as folder_fd:
        entry = _entry(folder, folder_fd)
        plan = _read(folder, folder_fd, PLAN_FILE, limit=entry.plan_bytes)
    if len(plan) != entry.plan_bytes:
        raise PlanError(
            f"{folder / PLAN_FILE} has {len(plan)} bytes, its manifest says {entry.plan_bytes}"
        )
    if hashlib.sha256(plan).hexdigest() != entry.plan_digest:
        raise PlanError(f"{folder / PLAN_FILE} does not have the sha256 that its manifest says")
    return entry, plan


def read_built(folder: Path, entry: Entry, name: str) -> bytes | None:
    """Read one of the files that the build left beside the plan.

    Args:
        folder: Of the engine.
        entry: Its manifest.
        name: LAYERS_FILE, LOG_FILE or NODES_FILE.

    Returns:
        Its content; None where there is no such file, as in engines of earlier versions.

    Raises:
        FileNotFoundError: There is no such folder.
        PlanError: The file is damaged, or not ours.
    """
    content = read_beside(folder, name)
    if content is None or entry.files is None:
        return content
    if hashlib.sha256(content).hexdigest() != entry.files.get(name):
        raise PlanError(f"{folder / name} does not have the sha256 that its manifest says")
    return content


def read_beside(folder: Path, name: str) -> bytes | None:
    """Read a file that was put beside an engine later; None where there is none.

    Raises:
        FileNotFoundError: There is no such folder.
        PlanError: The file is not ours, or cannot be read.
    """
    with _opened(folder) as folder_fd:
        try:
            os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
        except FileNotFoundError:
            return None
        return _read(folder, folder_fd, name, limit=MAX_FILE_BYTES)


def write_beside(folder: Path, name: str, content: bytes) -> None:
    """Put a file beside an engine, in place of an earlier one; complete or not at all.

    Raises:
        OSError: The folder is gone or cannot be written to.
        PlanError: The folder is not ours.
    """
    staged = f".{name}.{uuid4().hex}"
    with _opened(folder) as folder_fd:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with open(os.open(staged, flags, 0o600, dir_fd=folder_fd), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(staged, name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
        except OSError:
            with suppress(FileNotFoundError):
                os.unlink(staged, dir_fd=folder_fd)
            raise


def make_private(folder: Path) -> None:
    """Create a folder that nobody else can write to or read, or refuse the one that is there.

    Raises:
        PlanError: It is a symbolic link or no folder, belongs to somebody else, or others may write
            to it: what lies in it could be anybody's code.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    _check_ours(folder, found, stat.S_ISDIR(found.st_mode))
    if found.st_mode & 0o077:
        folder.chmod(0o700)


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    """A descriptor of the folder, checked to be ours; files are opened below it, not by path."""
    try:
        folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise PlanError(f"{folder} is not a folder of the engine store: {error}") from error
    try:
        _check_ours(folder, os.fstat(folder_fd), True)
        yield folder_fd
    finally:
        os.close(folder_fd)


def _read(folder: Path, folder_fd: int, name: str, *, limit: int) -> bytes:
    """At most `limit` bytes, and one more if the file is longer."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        file_fd = os.open(name, flags, dir_fd=folder_fd)
        with open(file_fd, "rb") as file:
            found = os.fstat(file_fd)
            _check_ours(folder / name, found, stat.S_ISREG(found.st_mode))
            return file.read(min(limit, found.st_size) + 1)
    except OSError as error:
        raise PlanError(f"{folder / name} cannot be read: {error}") from error


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_ours(path: Path, found: os.stat_result, right_kind: bool) -> None:
    if not right_kind:
        raise PlanError(f"{path} is a link or a special file: remove it")
    if found.st_uid != os.geteuid():
        raise PlanError(
            f"{path} belongs to user {found.st_uid}, this is user {os.geteuid()}: a plan is native "
            "code, and only one's own is loaded. Choose another --engine-cache."
        )
    if found.st_mode & 0o022:
        raise PlanError(
            f"{path} can be written to by other users (mode {stat.S_IMODE(found.st_mode):04o}): a "
            "plan is native code, and only one's own is loaded. Choose another --engine-cache."
        )


def _entry(folder: Path, folder_fd: int) -> Entry:
    path = folder / MANIFEST_FILE
    text = _read(folder, folder_fd, MANIFEST_FILE, limit=MAX_MANIFEST_BYTES)
    try:
        entry = _parse(text)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise PlanError(f"{path} is damaged: {error}") from error
    if entry.manifest.key() != folder.name:
        raise PlanError(f"{path} is the manifest of another engine, {entry.manifest.key()}")
    return entry


def _render(entry: Entry) -> bytes:
    """For people to read, and with a digest over all of it."""
    content: dict[str, Any] = {
        **asdict(entry),
        "manifest": entry.manifest.to_json(),
        "why": list(entry.why),
        "format": FORMAT,
        "key": entry.manifest.key(),
    }
    if entry.files is None:
        del content["files"]
        content["format"] = 1
    content["digest"] = hashlib.sha256(canonical_json(content)).hexdigest()
    return json.dumps(content, indent=2, sort_keys=True, allow_nan=False).encode() + b"\n"


def _parse(text: bytes) -> Entry:
    content = json.loads(text)
    if content["format"] not in (1, FORMAT):
        raise ValueError(f"its format is {content['format']}, expected {FORMAT}")
    files = None if content["format"] == 1 else content["files"]
    entry = Entry(
        manifest=Manifest.from_json(content["manifest"]),
        plan_digest=str(content["plan_digest"]),
        plan_bytes=int(content["plan_bytes"]),
        files=files if files is None else {str(name): str(files[name]) for name in files},
        seconds=float(content["seconds"]),
        built_at=float(content["built_at"]),
        why=tuple(map(str, content["why"])),
    )
    # Byte for byte what we would write: no other types, nothing that a parser overlooks.
    if _render(entry) != text:
        raise ValueError("it is not what was written")
    return entry


def flush(path: Path) -> None:
    """Write a file or a folder's list of names through to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
