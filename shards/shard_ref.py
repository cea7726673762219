"""The name of a shard; imports nothing, for processes that only pass it on."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ShardRef"]


@dataclass(frozen=True, slots=True, order=True)
class ShardRef:
    """One shard of one plan.

    Attributes:
        plan: Number of the plan, from 1.
        ordinal: Number of the shard in it, from 0.
        rows: Images in it.
        digest: SHA-256 of its root, keys, sizes and times.
        revision: Number of the later plan that lists its images as they are now; 0 where none does.
    """

    plan: int
    ordinal: int
    rows: int
    digest: str
    revision: int = 0

    @property
    def id(self) -> str:
        """The stem of its file's name, as 'p000001-00000'."""
        return f"p{self.plan:06d}-{self.ordinal:05d}"
