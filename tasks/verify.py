"""Check an output: what is done, what is to do, and what is wrong."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engines.ort_session import available_cores
from shards.output import OutputTree
from shards.trees import open_tree
from shards.verify import Finding, Problem
from shards.verify_table import ModelReport, check_table
from shards.verify_tree import Leftovers, check_runs, leftovers
from tasks.errors import SettingsError
from tasks.verify_settings import VerifySettings

__all__ = ["VerifySummary", "opened_output", "verify"]

EXIT_FINE = 0
EXIT_WRONG = 1

REQUESTS = 16
"""To a bucket, at once."""

MAX_LINES = 100
"""Findings that a person is shown; --json lists all."""

LINE_INTERVAL_S = 10.0

_REMEDIES = {
    Problem.DAMAGED_FILE: "move the file away, and run the command that made it again: its images "
    "are computed again",
    Problem.WRONG_SCHEMA: "move the file away, and run the command that made it again",
    Problem.WRONG_MODEL: "move the file back to the partition that it is from, or away",
    Problem.WRONG_WORK: "move the file away, and run the command that made it again; if many files "
    "are so, state/ and predictions/ are not of one output",
    Problem.WRONG_COUNTS: "move the file away, run the command that made it again, and report this",
    Problem.WRONG_ROWS: "move the file away, run the command that made it again, and report this",
    Problem.UNKNOWN_SHARD: "move the file away; if many files are so, restore state/plans/",
    Problem.UNKNOWN_FILE: "move it out of predictions/",
    Problem.DUPLICATE_IMAGE: "restore state/plans/ from a backup, or begin a new output",
    Problem.DAMAGED_PLAN: "restore the plan from a backup, or begin a new output",
    Problem.DAMAGED_RECORD: "restore the file from a backup; a run's record may also be deleted",
    Problem.WRONG_RECORD: "keep it for a report, and count in the table",
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifySummary:
    """A checked output in numbers; the one JSON object that `--json` prints.

    Attributes:
        status: 'fine', or 'wrong'.
        exit_code: What the command returns: 0 or 1.
        output: The directory.
        quick: Whether footers alone were read.
        seconds: What it took.
        plans: Plans in the log.
        shards: Shards in them.
        images: Images in these.
        models: Model to what there is of its rows.
        runs: Records of runs.
        staging: Files of runs at work, or of runs that were killed.
        findings: What is wrong.
    """

    status: str
    exit_code: int
    output: str
    quick: bool
    seconds: float
    plans: int
    shards: int
    images: int
    models: dict[str, ModelReport]
    runs: int
    staging: Leftovers
    findings: tuple[Finding, ...]

    def lines(self) -> list[str]:
        """The summary for a person."""
        looked = "Footers and plan" if self.quick else "Every byte"
        lines = [
            f"{looked} of {self.output} checked in {self.seconds:.1f} s: "
            f"{self.images:,} images in {self.shards:,} shards of {self.plans:,} plans, "
            f"{self.runs:,} records of runs.",
            *(line for name, model in self.models.items() for line in _model_lines(name, model)),
        ]
        if self.staging.files:
            lines.append(
                f"In staging: {self.staging.files:,} files of {self.staging.bytes:,} bytes, the "
                f"oldest {_age(self.staging.oldest_seconds)} old. Runs clear it after a day."
            )
        lines += _finding_lines(self.findings)
        return lines


def verify(settings: VerifySettings) -> VerifySummary:
    """Check every file of an output; changes nothing.

    Raises:
        SettingsError: There is no output.
        OutputError: A directory in it cannot be read.
    """
    started = time.monotonic()
    tree = opened_output(settings.output)
    table = check_table(
        tree,
        quick=settings.quick,
        workers=settings.workers or _workers(tree, settings),
        advanced=_told(),
    )
    runs, of_runs = check_runs(tree)
    findings = (*table.findings, *of_runs)
    return VerifySummary(
        status="wrong" if findings else "fine",
        exit_code=EXIT_WRONG if findings else EXIT_FINE,
        output=settings.output,
        quick=settings.quick,
        seconds=round(time.monotonic() - started, 3),
        plans=table.plans,
        shards=table.shards,
        images=table.images,
        models=dict(table.models),
        runs=runs,
        staging=leftovers(tree),
        findings=findings,
    )


def _workers(tree: OutputTree, settings: VerifySettings) -> int:
    """How many files at once: footers of a bucket are waited for, everything else is computed."""
    waits = settings.quick and not isinstance(tree.root, Path)
    return max(available_cores(), REQUESTS) if waits else available_cores()


def opened_output(path: str) -> OutputTree:
    """Return the tree of what classify_dir wrote; nothing is created.

    Raises:
        SettingsError: It is none.
    """
    tree = open_tree(path)
    if not tree.is_there():
        raise SettingsError(
            f"{path} is no output of classify_dir: expected a directory or a prefix with "
            "state/plans/ in it."
        )
    return tree


def _told() -> Callable[[int, int], None]:
    """Log a line every ten seconds."""
    due = time.monotonic() + LINE_INTERVAL_S

    def tell(done: int, files: int) -> None:
        nonlocal due
        if time.monotonic() >= due:
            due = time.monotonic() + LINE_INTERVAL_S
            _log.info("%s of %s files", f"{done:,}", f"{files:,}")

    return tell


def _model_lines(name: str, model: ModelReport) -> list[str]:
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(model.errors_by_kind.items()))
    lines = [
        f"{name}: {model.rows:,} rows, {model.ok:,} ok, {model.errors:,} errors"
        + (f" ({kinds})" if kinds else "")
        + f"; shards: {model.done:,} done, {model.wrong:,} wrong."
    ]
    if model.outdated:
        lines.append(
            f"  {model.outdated:,} shards have images that changed or were pruned since: the same "
            "command writes them anew."
        )
    if model.missing:
        lines.append(
            f"  {model.missing:,} shards with {model.images_missing:,} images have no rows of this "
            "model: not done yet, or never asked of it."
        )
    if model.unsealed:
        lines.append(
            f"  {model.unsealed:,} files are of an earlier version and have no seal: in them, a "
            "flipped bit is found in data, and not in every header."
        )
    return lines


def _finding_lines(findings: tuple[Finding, ...]) -> list[str]:
    if not findings:
        return ["Nothing is wrong."]
    lines = [f"{len(findings):,} things are wrong:"]
    for finding in findings[:MAX_LINES]:
        lines.append(f"{finding.path}: {finding.text} ({finding.problem}).")
    if len(findings) > MAX_LINES:
        lines.append(f"... and {len(findings) - MAX_LINES:,} more, which --json lists.")
    lines.append("What to do:")
    for problem in dict.fromkeys(finding.problem for finding in findings):
        lines.append(f"  {problem}: {_REMEDIES[problem]}.")
    return lines


def _age(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:.0f} hours" if hours >= 2 else f"{seconds / 60:.0f} minutes"
