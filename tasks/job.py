"""What the steps of one run hand to each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from engines.check import Check
from engines.model import Model
from shards.columns import OptionalColumns
from shards.footer import FooterInfo
from shards.output import OutputTree
from shards.plan import PlanLog
from shards.ranking import Ranking
from shards.shard_ref import ShardRef
from shards.upkeep import Again, Upkeep
from tasks.allowed_roots import AllowedRoots
from tasks.messages import Ready
from tasks.settings import Settings
from tasks.version import tool_version

__all__ = ["FIRST_RESULT", "Job", "Outcome", "Plan"]

FIRST_RESULT = "first result"
"""The stage of `Outcome.reached` when the first batch had been collected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A checked request: whatever a user can get wrong has been refused by now.

    Attributes:
        settings: As given.
        run_id: Names this run in rows and records.
        started_at: UTC.
        model: Loaded, wrapped, with its labels.
        tree: The output, writable.
        allowed: Where images may lie; None for anywhere.
        kept: Columns that come with the images, as in OptionalColumns; known once the first run
            has listed them.
    """

    settings: Settings
    run_id: str
    started_at: datetime
    model: Model
    tree: OutputTree
    allowed: AllowedRoots | None = None
    kept: tuple[tuple[str, str], ...] = ()

    @property
    def ranking(self) -> Ranking:
        """How rows list their best labels."""
        settings = self.settings
        return Ranking(
            top_k=settings.top_k, form=settings.topk_format, threshold=settings.threshold
        )

    @property
    def columns(self) -> OptionalColumns:
        """The optional columns that were asked for."""
        return OptionalColumns(
            logits=self.settings.save_logits,
            embedding=self.settings.save_embedding,
            wide=self.ranking.wide,
            kept=self.kept,
        )

    def upkeep(self, partly: Mapping[str, bytes]) -> Upkeep:
        """The model's files, as this run is to leave them; for one thread.

        Args:
            partly: As in Plan.
        """
        settings = self.settings
        return Upkeep(
            self.tree,
            PlanLog(self.tree, tool_version=tool_version()),
            model_id=self.model.model_id,
            run_id=self.run_id,
            again=Again(errors=settings.retry_errors, all_listed=settings.overwrite, partly=partly),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Which shards hold this run's images, and what is to do for them.

    Attributes:
        todo: Images to compute, by shard; of shards whose file is missing or not up to date, in
            order. None to compute: rows have to leave.
        done: Shards whose file is up to date, and its footer.
        unreadable: Shards whose file is damaged, and what to do about it: nothing is computed over
            it, and the others are done.
        partly: By shard id, where not all images of a shard were listed: which rows of the plan
            were (see PlanUpdate.partly).
        ignored: Files and links that are no images, by reason.
        changed: Images whose size or time differs from when they were last planned.
        pruned: Images that were planned, and are gone.
        seconds: Time that listing and planning took.
        by_source: Images listed, by kind of source.
        damaged: Archives of which nothing was listed: which, where, and why.
        kept: Columns that came with the images, and their kinds (shards.kept).
    """

    todo: Mapping[ShardRef, int]
    done: Mapping[ShardRef, FooterInfo]
    unreadable: Mapping[ShardRef, str] = field(default_factory=dict)
    partly: Mapping[str, bytes] = field(default_factory=dict)
    ignored: Mapping[str, int]
    changed: int
    pruned: int = 0
    seconds: float
    by_source: Mapping[str, int] = field(default_factory=dict)
    damaged: tuple[str, ...] = ()
    kept: Mapping[str, str] = field(default_factory=dict)

    @property
    def shards(self) -> list[ShardRef]:
        """All of them, in order."""
        return sorted([*self.todo, *self.done, *self.unreadable])

    @property
    def images_todo(self) -> int:
        """Images to compute."""
        return sum(self.todo.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What was computed.

    Attributes:
        ready: What the classifier said of itself; None where there was nothing to do.
        self_test: What the model was tested for; None where it was not.
        seconds: Time from the start of the first device process, or from its first order, to the
            end of the last.
        reached: Stages on the way to the first results, in seconds since this process started:
            'libraries', 'model', 'device', 'classifier' and 'self-test' of the device process,
            'plan' of this one, 'first result'. Empty where there was nothing to do.
        failed: Why, by the id of every shard that could not be done.
    """

    ready: Ready | None
    self_test: tuple[Check, ...] | None = None
    seconds: float
    reached: Mapping[str, float]
    failed: Mapping[str, str] = field(default_factory=dict)
