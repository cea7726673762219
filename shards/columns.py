"""The table's optional columns: chosen once for an output, because all its files must have them.

    OUT/state/columns.json      {"optional_columns": ["logits", ..., "target"],
                                 "kept": {"target": "string"}}

A plain `SELECT *` over files of different columns fails, or drops some of them, depending on the
reader. So the first run that is about to write rows puts its choice on record, by the same
exclusive step as every file of the table, and whoever asks for others is refused. An output that
has rows and no record is of Nightshift's first version: it has none of these columns.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from shards.errors import ColumnsError, OutputError
from shards.kept import KINDS
from shards.output import OutputTree, output_errors

__all__ = ["OptionalColumns", "check_columns", "recorded_columns", "settle_columns"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionalColumns:
    """Which of the optional columns a table has.

    Attributes:
        logits: `logits`.
        embedding: `embedding`.
        wide: The last rank n of `label_n`, `label_id_n` and `score_n`; 1 for none of them.
        kept: Name and kind (shards.kept) of each column that came with the images.
    """

    logits: bool = False
    embedding: bool = False
    wide: int = 1
    kept: tuple[tuple[str, str], ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns, in the table's order."""
        return (*self.computed, *(name for name, _ in self.kept))

    @property
    def computed(self) -> tuple[str, ...]:
        """Those of them that options decide; the others come with the images."""
        ranks = range(2, self.wide + 1)
        return (
            *["logits"] * self.logits,
            *["embedding"] * self.embedding,
            *(f"{name}_{rank}" for rank in ranks for name in ("label", "label_id", "score")),
        )


def recorded_columns(tree: OutputTree) -> OptionalColumns:
    """Return which optional columns the table has; none, where nothing says that it has any.

    Raises:
        OutputError: The record cannot be read.
        ColumnsError: It names columns of a later version.
    """
    return _recorded(tree) or OptionalColumns()


def check_columns(tree: OutputTree, asked: OptionalColumns, keep: Sequence[str] = ()) -> None:
    """See that rows with these columns may come into the table; nothing is written.

    Args:
        tree: Of the table.
        asked: All but `kept`, which sources decide.
        keep: Names of columns that must be among those that are kept.

    Raises:
        ColumnsError: The table has others.
        OutputError: The record cannot be read.
    """
    present = _recorded(tree)
    if present is None and _has_rows(tree):
        present = OptionalColumns()
    if present is not None:
        _require_same(tree, present, asked, keep)


def settle_columns(
    tree: OutputTree, asked: OptionalColumns, keep: Sequence[str] = ()
) -> OptionalColumns:
    """Put the table's columns on record, unless they are; to be called before rows are written.

    Of two runs that begin a table at once, one decides.

    Args:
        tree: Of the table.
        asked: What this run has.
        keep: As for `check_columns`.

    Returns:
        What the table has: as asked, but for `kept`. What a run has beside that is left out of its
        rows, and what it lacks is null.

    Raises:
        ColumnsError: The table has others.
        OutputError: The record cannot be read or written.
    """
    present = _recorded(tree)
    if present is None:
        present = OptionalColumns() if _has_rows(tree) else asked
        with tree.stage("columns") as staged:
            with output_errors("write", tree.columns):
                record = {"optional_columns": present.names, "kept": dict(present.kept)}
                staged.file.write((json.dumps(record, indent=2) + "\n").encode())
            if not tree.publish(staged, tree.columns):
                present = _recorded(tree) or OptionalColumns()
    _require_same(tree, present, asked, keep)
    return present


def _recorded(tree: OutputTree) -> OptionalColumns | None:
    """The columns on record; None where there is no record."""
    try:
        with output_errors("read", tree.columns):
            try:
                text = tree.columns.read_bytes()
            except FileNotFoundError:
                return None
        record = json.loads(text)
        names, kept = record["optional_columns"], record.get("kept", {})
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError("optional_columns is no list of names")
        columns = OptionalColumns(
            logits="logits" in names,
            embedding="embedding" in names,
            wide=_last_rank(names),
            kept=tuple((name, kind) for name, kind in kept.items() if kind in KINDS),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise OutputError(
            f"{tree.columns} is damaged: {error}. It says which optional columns the table has:"
            ' write them there as {"optional_columns": [...]}, or choose another --output.'
        ) from error
    if list(columns.names) != names:
        raise ColumnsError(
            f"{tree.columns} names columns that this Nightshift does not write: {', '.join(names)}."
            " Use the version that wrote it."
        )
    return columns


def _has_rows(tree: OutputTree) -> bool:
    return any(path.name.endswith(".parquet") for path in tree.files())


def _require_same(
    tree: OutputTree, present: OptionalColumns, asked: OptionalColumns, keep: Sequence[str]
) -> None:
    if present.computed != asked.computed:
        raise ColumnsError(
            f"the table in {tree.root} was begun with {_as_options(present)}, and this run asks for"
            f" {_as_options(asked)}: all files of a table must have the same columns, or its"
            " readers fail. Give the options that it was begun with, or choose another --output."
        )
    if missing := [name for name in keep if name not in dict(present.kept)]:
        raise ColumnsError(
            f"the table in {tree.root} was begun without the columns {', '.join(missing)} that"
            " --keep-columns asks for: all files of a table must have the same columns. Leave them"
            " out, or choose another --output."
        )


def _as_options(columns: OptionalColumns) -> str:
    """What to type for these columns."""
    words = ["--save-logits"] * columns.logits + ["--save-embedding"] * columns.embedding
    if columns.wide > 1:
        words.append(f"--topk-format wide --top-k {columns.wide}")
    return " ".join(words) or "no optional columns"


def _last_rank(names: Sequence[str]) -> int:
    ranks = (name.removeprefix("label_id_") for name in names if name.startswith("label_id_"))
    return max((int(rank) for rank in ranks if rank.isdigit()), default=1)
