"""Write the table anew in few large files, in another directory."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path

from engines.ort_session import available_cores
from shards.compact import compact as write_compacted
from shards.compact import parts_of
from shards.place import Place
from tasks.errors import SettingsError
from tasks.verify import opened_output
from tasks.verify_settings import CompactSettings
from tasks.version import tool_version

__all__ = ["CompactSummary", "CompactedModel", "compact"]

_log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class CompactedModel:
    """One model's rows in the new directory.

    Attributes:
        rows: How many.
        shards: Files that they were in.
        files: Files that they are in now.
    """

    rows: int = 0
    shards: int = 0
    files: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactSummary:
    """A compacted table in numbers; the one JSON object that `--json` prints.

    Attributes:
        status: 'done'.
        exit_code: What the command returns: 0.
        output: Where the table is.
        target: Where the new files are.
        seconds: What it took.
        rows: In all.
        models: Model to what there is of its rows.
    """

    status: str
    exit_code: int
    output: str
    target: str
    seconds: float
    rows: int
    models: dict[str, CompactedModel]

    def lines(self) -> list[str]:
        """The summary for a person."""
        return [
            f"Wrote {self.rows:,} rows to {self.target} in {self.seconds:.1f} s.",
            *(
                f"{name}: {model.rows:,} rows of {model.shards:,} shards in {model.files:,} files."
                for name, model in self.models.items()
            ),
            f"Read it as '{self.target}/**/*.parquet'.",
        ]


def compact(settings: CompactSettings) -> CompactSummary:
    """Write the table, as it is now, to a new directory; the output is not changed.

    Raises:
        SettingsError: The output is none, has no such rows, or the directory cannot be made so.
        OutputError: A file of the table is damaged, or the file system failed.
    """
    started = time.monotonic()
    tree = opened_output(settings.output)
    target = Path(settings.target).absolute()
    _check_target(tree.root, target)
    parts = parts_of(tree, model_id=settings.model_id, rows_per_file=settings.rows_per_file)
    if not parts:
        there = sorted({part.model_id for part in parts_of(tree, model_id=None, rows_per_file=1)})
        raise SettingsError(
            f"{settings.output} has no rows of {settings.model_id or 'any model'}; it has "
            f"{', '.join(there) or 'none at all'}."
        )
    _log.info("Writing %d files to %s", len(parts), target)
    models: dict[str, CompactedModel] = {}
    for file in write_compacted(
        tree,
        parts,
        target,
        workers=settings.workers or available_cores(),
        tool_version=tool_version(),
    ):
        model = models.setdefault(file.model_id, CompactedModel())
        model.rows += file.rows
        model.shards += file.shards
        model.files += 1
    return CompactSummary(
        status="done",
        exit_code=0,
        output=settings.output,
        target=settings.target,
        seconds=round(time.monotonic() - started, 3),
        rows=sum(model.rows for model in models.values()),
        models=models,
    )


def _check_target(root: Place, target: Path) -> None:
    """Refuse a directory that has files, or that lies where files of the output do."""
    theirs = target.resolve()
    ours = root.resolve() if isinstance(root, Path) else None  # a bucket holds no directory
    if ours and (theirs.is_relative_to(ours) or ours.is_relative_to(theirs)):
        raise SettingsError(
            f"target (--target): {target} and {root} lie in each other: readers would see every "
            "row twice. Choose a directory elsewhere."
        )
    if target.is_symlink() or (target.exists() and not _is_empty(target)):
        raise SettingsError(
            f"target (--target): {target} is there already; expected a name that is free, or an "
            "empty directory. Nothing is overwritten."
        )


def _is_empty(target: Path) -> bool:
    return target.is_dir() and next(target.iterdir(), None) is None
