"""Bringing a shard's file up to date with the plan log, whoever else does the same.

A file is of one revision of its shard: its work key says which. What that revision and the latest
have in common keeps its rows; the rest is computed, and the whole file is written anew under its
own name. So a reader never sees two rows of an image, or a hole. The order of steps is what makes
it safe, with any number of runs, killed or stopped anywhere:

1. look which file is there (`OutputTree.identity`), then what the log's latest word is;
2. compute what is missing;
3. look again: for a newer revision, or another file, see whether what was computed still does;
4. take the place of the very file that was looked at, or of none (`swap`, `publish`).

Whoever reads the log after looking at a file knows the revision that the file is of, for that came
first. So no file is ever replaced by one of an older revision.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from shards.commit import Outcome, foreign_file, staged_rows
from shards.errors import DamagedFileError, OutputError
from shards.file_rows import ReplacedError, read_all_rows, read_columns
from shards.footer import WORK_SCHEMA, FooterInfo, Provenance, read_footer
from shards.inputs import ShardInputs
from shards.output import OutputTree
from shards.place import Place
from shards.plan import PlanLog, ShardRef, work_key
from shards.predictions import footer_of
from shards.row_masks import RowMask, equal_to, there_in, unchanged, unpacked
from shards.view import View, merged_rows, rewrite_counts

__all__ = ["Again", "Missing", "Upkeep"]

MAX_ATTEMPTS = 20
"""Each that fails means that another run replaced the file just then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """Which rows are computed again although they are up to date.

    Attributes:
        errors: Those of images without a label.
        all_listed: Those of all images that were listed.
        partly: As in `PlanUpdate.partly`; for `all_listed`.
    """

    errors: bool = False
    all_listed: bool = False
    partly: Mapping[str, bytes] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return self.errors or self.all_listed


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """What is to be computed for one shard.

    Attributes:
        shard: As it is now.
        rows: Which of the plan's rows.
        inputs: Their images; none where rows only have to leave.
    """

    shard: ShardRef
    rows: RowMask
    inputs: ShardInputs


class Upkeep:
    """The files of one model, as one run leaves them. Not thread-safe."""

    def __init__(
        self,
        tree: OutputTree,
        log: PlanLog,
        *,
        model_id: str,
        run_id: str,
        again: Again | None = None,
    ) -> None:
        """Touch nothing yet.

        Args:
            tree: The output.
            log: Its plans.
            model_id: Whose rows.
            run_id: Rows of this run are not computed again.
            again: Which others are.
        """
        self._tree = tree
        self._log = log
        self._model_id = model_id
        self._run_id = run_id
        self._again = again or Again()

    def footer(self, shard: ShardRef) -> FooterInfo | None:
        """Return the footer of a shard's file, whatever revision it is of; None for no file.

        Raises:
            DamagedFileError: The file is damaged, or Nightshift did not write it.
            OutputError: It cannot be read.
        """
        return read_footer(self._path(shard))

    def footers(
        self, shards: Iterable[ShardRef]
    ) -> Iterator[tuple[ShardRef, FooterInfo | DamagedFileError | None]]:
        """Yield the footers of many files, or what is wrong with one; some at once in a bucket.

        Raises:
            OutputError: One cannot be read.
        """

        def read(shard: ShardRef) -> tuple[ShardRef, FooterInfo | DamagedFileError | None]:
            try:
                return shard, self.footer(shard)
            except DamagedFileError as error:
                return shard, error

        return self._tree.ahead(read, shards)

    def is_of(self, footer: FooterInfo, shard: ShardRef) -> bool:
        """Whether a file is of this revision of a shard."""
        return footer.work_key == self._key(shard)

    def listed_rows(
        self, shard: ShardRef, bits: bytes, columns: list[str]
    ) -> tuple[FooterInfo, pa.Table] | None:
        """Read some columns of a file's rows, of those images that were listed.

        Args:
            shard: Which file.
            bits: As in `PlanUpdate.partly`.
            columns: Their names.

        Returns:
            The file's footer and its rows, of one and the same file; None for no file.

        Raises:
            DamagedFileError: The file is damaged.
            OutputError: It or a plan cannot be read.
        """
        for _ in range(MAX_ATTEMPTS):
            with suppress(ReplacedError):
                view = self._look(shard)
                if view.footer is None:
                    return None
                listed = unpacked(bits, view.before)[view.before]
                rows = read_columns(self._path(shard), view.footer, columns)
                return view.footer, rows.filter(pa.array(listed))
        raise self._endless(shard)

    def missing(self, shard: ShardRef) -> Missing | None:
        """Find out what is to be computed for a shard; None where its file is up to date.

        Raises:
            DamagedFileError: The file is damaged.
            OutputError: A plan or the file cannot be read, or is not of this output.
        """
        for _ in range(MAX_ATTEMPTS):
            with suppress(ReplacedError):
                view = self._look(shard)
                break
        else:
            raise self._endless(shard)
        if view.is_done or (view.footer is None and not view.there.any()):
            return None
        rows = self._log.rows(view.latest).filter(pa.array(view.needed))
        return Missing(
            shard=view.latest, rows=view.needed, inputs=self._log.inputs(view.latest, rows)
        )

    def complete(
        self, missing: Missing, table: pa.Table | None, provenance: Provenance | None
    ) -> Outcome:
        """Put computed rows, and those that stay, into the table.

        When this returns, they survive a power cut. Readers see the old file or the new one at any
        moment, also when it raises.

        Args:
            missing: What was computed.
            table: The rows, in its order; None for none.
            provenance: What computed them; None for none.

        Returns:
            OUTDATED where other images would have to be computed by now.

        Raises:
            DamagedFileError: The file whose rows were to stay is damaged.
            LockedError: Another run holds the lock, and does not go on.
            OutputError: The file system failed, or a file is not of this output.
        """
        computed = self._log.rows(missing.shard)
        for _ in range(MAX_ATTEMPTS):
            with suppress(ReplacedError):
                view = self._look(missing.shard)
                if view.is_done:
                    return Outcome.ALREADY_THERE
                valid = missing.rows & unchanged(computed, self._log.rows(view.latest))
                if (view.needed & ~valid).any():
                    return Outcome.OUTDATED
                if self._place(view, missing, table, provenance):
                    return Outcome.PUBLISHED
        raise self._endless(missing.shard)

    def _look(self, shard: ShardRef) -> View:
        path = self._path(shard)
        identity = self._tree.identity(path)
        footer = None if identity is None else read_footer(path)
        latest = self._log.latest(shard)  # after the file was looked at: see the module's text
        rows = self._log.rows(latest)
        there = there_in(rows)
        if footer is None:
            return View.of_no_file(latest, there)
        before, same = there, there
        if not self.is_of(footer, latest):
            old = self._log.rows(self._revision(footer, latest))
            before, same = there_in(old), there & unchanged(old, rows)
        kept = same & ~self._again_rows(shard, footer, before) if self._again else same
        return View(
            identity=identity,
            footer=footer,
            latest=latest,
            before=before,
            there=there,
            same=same,
            kept=kept,
        )

    def _revision(self, footer: FooterInfo, shard: ShardRef) -> ShardRef:
        """Find the revision of a shard that a file is of."""
        for revision in self._log.history(shard):
            if self.is_of(footer, revision):
                return revision
        raise foreign_file(self._path(shard))

    def _again_rows(self, shard: ShardRef, footer: FooterInfo, before: RowMask) -> RowMask:
        """Find the rows of a file that are to be computed all the same; none of this run's."""
        file = read_columns(self._path(shard), footer, ["status", "run_id"])
        chosen = np.zeros_like(before)
        if self._again.all_listed:
            bits = self._again.partly.get(shard.id)
            listed = np.ones(len(before), np.bool_) if bits is None else unpacked(bits, before)
            chosen[before] = listed[before]
        if self._again.errors:
            chosen[before] |= equal_to(file, "status", "error")
        chosen[before] &= ~equal_to(file, "run_id", self._run_id)
        return chosen

    def _place(
        self,
        view: View,
        missing: Missing,
        table: pa.Table | None,
        provenance: Provenance | None,
    ) -> bool:
        """Write the file that the view asks for, where no other was written since."""
        present: pa.Table | None = None
        rewrite: dict[str, str | int] | None = None
        if view.footer is not None:
            present = read_all_rows(self._path(view.latest), view.footer)
            rewrite = {"run_id": self._run_id, **rewrite_counts(present, view)}
            provenance = provenance if view.needed.any() else view.footer.provenance
        rows = merged_rows(present, view, missing.rows, table)
        assert provenance is not None
        footer = footer_of(rows, provenance, work_key=self._key(view.latest), rewrite=rewrite)
        final = self._path(view.latest)
        with staged_rows(self._tree, final, rows, footer) as staged:
            if view.identity is None:
                return self._tree.publish(staged, final)
            return self._tree.swap(staged, final, view.identity)

    def _endless(self, shard: ShardRef) -> OutputError:
        return OutputError(
            f"{self._path(shard)} was replaced by other runs {MAX_ATTEMPTS} times while this one "
            "tried. Run the same command again when fewer run."
        )

    def _path(self, shard: ShardRef) -> Place:
        return self._tree.shard_path(self._model_id, shard.id)

    def _key(self, shard: ShardRef) -> str:
        return work_key(shard, model_id=self._model_id, schema_version=WORK_SCHEMA)
