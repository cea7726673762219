"""Runs that are disturbed at a certain step, and what they leave and the next runs make of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.reliability.fake_runs import CLEAN_FAILURE, violations
from shards.trees import open_tree
from tests.shards import nights
from tests.shards.night_worker import FIRST, SECOND
from tests.shards.nights import World

__all__ = [
    "KILLED",
    "KINDS",
    "Figures",
    "Kind",
    "judge_after",
    "judge_before",
    "judge_end",
    "report",
]

KILLED = -9


@dataclass(slots=True, kw_only=True)
class Figures:
    """What became of one kind of fault in one kind of run.

    Attributes:
        trials: Runs that met it.
        by_step: The same, by what they were about.
        failed: Those that ended with an error that says what to do.
        killed: Those that were killed.
        completed: Those that completed their work all the same.
        left_over: Those that left something in the making.
        before: What was wrong before any other run, by trial.
        after: What was wrong after the next run.
    """

    trials: int = 0
    by_step: dict[str, int] = field(default_factory=dict)
    failed: int = 0
    killed: int = 0
    completed: int = 0
    left_over: int = 0
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)

    def count(self, step: str) -> None:
        """Count one trial."""
        self.trials += 1
        self.by_step[step] = self.by_step.get(step, 0) + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of run.

    Attributes:
        before: Images that have rows in the output that it begins with.
        world: Images as the run finds them.
    """

    before: World
    world: World


KINDS = {
    "publish": Kind(before={}, world=FIRST),
    "replace": Kind(before=FIRST, world=SECOND),
}
"""A first run of two shards, and one that finds images changed, gone and new."""


def judge_end(figures: Figures, code: int, name: str, errors: Path) -> None:
    """Count how a run ended.

    Args:
        figures: Where.
        code: Its exit code.
        name: Of the trial.
        errors: File with what it raised.
    """
    figures.completed += code == 0
    figures.killed += code == KILLED
    figures.failed += code == CLEAN_FAILURE
    if code not in (0, KILLED, CLEAN_FAILURE):
        figures.before.append(f"{name}: not a clean failure: {errors.read_text()}")


def judge_before(figures: Figures, kind: Kind, out: Path, name: str) -> int:
    """See what a trial left in an output; returns how many images the next run has to infer."""
    figures.before += [f"{name}: {text}" for text in violations(out)]
    found = nights.states(open_tree(str(out)))
    figures.before += [
        f"{name}: {key!r} lost, or of no state it ever had: {found.get(key)}"
        for key in (kind.before.keys() & kind.world.keys()) | found.keys()
        if found.get(key) not in (kind.before.get(key), kind.world.get(key))
    ]
    return sum(found.get(key) != state for key, state in kind.world.items())


def judge_after(figures: Figures, kind: Kind, out: Path, name: str) -> None:
    """See what the next run made of it."""
    figures.after += [f"{name}: {text}" for text in violations(out, kind.world)]
    if nights.states(open_tree(str(out))).keys() != kind.world.keys():
        figures.after.append(f"{name}: rows of images that are gone")


def report(
    figures: Mapping[str, Mapping[str, Figures]],
    about: Mapping[str, object],
    json_file: Path | None,
) -> None:
    """Print a table, and end with exit code 1 if anything was wrong.

    Args:
        figures: By kind of run and fault.
        about: What was measured on.
        json_file: Where all of it goes.
    """
    columns = ("run", "fault", "trials", "failed cleanly", "killed", "completed", "left over")
    print("| " + " | ".join(columns), "| wrong before the next run | after it |")
    print("|" + "---|" * 9)
    for name, faults in figures.items():
        for fault, each in faults.items():
            counts = (each.trials, each.failed, each.killed, each.completed, each.left_over)
            cells = [name, fault, *counts, len(each.before), len(each.after)]
            print("| " + " | ".join(map(str, cells)) + " |")
    if json_file is not None:
        found = {name: {f: asdict(e) for f, e in each.items()} for name, each in figures.items()}
        json_file.write_text(json.dumps({**about, "figures": found}, indent=2) + "\n")
    wrong = [line for faults in figures.values() for f in faults.values() for line in f.before]
    wrong += [line for faults in figures.values() for f in faults.values() for line in f.after]
    print("\n".join(wrong[:20]))
    if wrong:
        raise SystemExit(1)
