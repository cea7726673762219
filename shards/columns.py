"""The table's optional columns: chosen once for an output, because all its files must have them.

    OUT/state/columns.json      {"optional_columns": ["logits", ...]}

A plain `SELECT *` over files of different columns fails, or drops some of them, depending on the
reader. So the first run that is about to write rows puts its choice on record, by the same
exclusive step as every file of the table, and whoever asks for others is refused. An output that
has rows and no record is of Nightshift's first version: it has none of these columns.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from shards.errors import ColumnsError, OutputError
from shards.output import OutputTree, output_errors

__all__ = ["OptionalColumns", "check_columns", "recorded_columns", "settle_columns"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionalColumns:
    """Which of the optional columns a table has.

    Attributes:
        logits: `logits`.
        embedding: `embedding`.
        wide: The last rank n of `label_n`, `label_id_n` and `score_n`; 1 for none of them.
    """

    logits: bool = False
    embedding: bool = False
    wide: int = 1

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns, in the table's order."""
        ranks = range(2, self.wide + 1)
        return (
            *["logits"] * self.logits,
            *["embedding"] * self.embedding,
            *(f"{name}_{rank}" for rank in ranks for name in ("label", "label_id", "score")),
        )


def recorded_columns(tree: OutputTree) -> OptionalColumns:
    """Return which optional columns the table has; none, where nothing says that it has any.

    Raises:
        OutputError: The record cannot be read, or names columns of a later version.
    """
    names = _recorded(tree) or ()
    columns = OptionalColumns(
        logits="logits" in names, embedding="embedding" in names, wide=_last_rank(names)
    )
    if columns.names != names:
        raise OutputError(
            f"{tree.columns} names columns that this Nightshift does not write: {', '.join(names)}."
            " Use the version that wrote it."
        )
    return columns


def check_columns(tree: OutputTree, asked: OptionalColumns) -> None:
    """See that rows with these columns may come into the table; nothing is written.

    Raises:
        ColumnsError: The table has others.
        OutputError: The record cannot be read.
    """
    present = _recorded(tree)
    if present is None:
        present = () if _has_rows(tree) else asked.names
    _require_same(tree, present, asked)


def settle_columns(tree: OutputTree, asked: OptionalColumns) -> None:
    """Put the table's columns on record, unless they are; to be called before rows are written.

    Of two runs that begin a table at once, one decides.

    Raises:
        ColumnsError: The table has others.
        OutputError: The record cannot be read or written.
    """
    present = _recorded(tree)
    if present is None:
        present = () if _has_rows(tree) else asked.names
        with tree.stage("columns") as staged:
            with output_errors("write", tree.columns):
                text = json.dumps({"optional_columns": present}, indent=2) + "\n"
                staged.file.write(text.encode())
            if not tree.publish(staged, tree.columns):
                present = _recorded(tree) or ()
    _require_same(tree, present, asked)


def _recorded(tree: OutputTree) -> tuple[str, ...] | None:
    """Names of the columns on record; None where there is no record."""
    try:
        with output_errors("read", tree.columns):
            try:
                text = tree.columns.read_text(encoding="utf-8")
            except FileNotFoundError:
                return None
        names = json.loads(text)["optional_columns"]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError("optional_columns is no list of names")
    except (ValueError, KeyError, TypeError) as error:
        raise OutputError(
            f"{tree.columns} is damaged: {error}. It says which optional columns the table has:"
            ' write them there as {"optional_columns": [...]}, or choose another --output.'
        ) from error
    return tuple(names)


def _has_rows(tree: OutputTree) -> bool:
    with output_errors("read", tree.predictions):
        return any(tree.predictions.glob("*/*.parquet"))


def _require_same(tree: OutputTree, present: tuple[str, ...], asked: OptionalColumns) -> None:
    if present != asked.names:
        raise ColumnsError(
            f"the table in {tree.root} was begun with {_as_options(present)}, and this run asks for"
            f" {_as_options(asked.names)}: all files of a table must have the same columns, or its"
            " readers fail. Give the options that it was begun with, or choose another --output."
        )


def _as_options(names: tuple[str, ...]) -> str:
    """What to type for these columns; a later version's own are called by their names."""
    last = _last_rank(names)
    of_ranks = OptionalColumns(wide=last).names
    options = {"logits": "--save-logits", "embedding": "--save-embedding"}
    words = [options.get(name, name) for name in names if name not in of_ranks]
    if last > 1:
        words.append(f"--topk-format wide --top-k {last}")
    return " ".join(words) or "no optional columns"


def _last_rank(names: tuple[str, ...]) -> int:
    ranks = [int(name.removeprefix("label_id_")) for name in names if name.startswith("label_id_")]
    return max(ranks, default=1)
