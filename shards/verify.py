"""One file of the table, held against the plan, the table's schema and itself.

A whole check reads every byte: the seal (shards.seal) says whether they are those that were
written, and the rows whether what was written is right. A quick one reads the footer alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shards.footer import FOOTER_KEY, FooterInfo
from shards.inputs import ShardInputs
from shards.names import file_names_of, uris_of
from shards.place import Place, footer_source, opened
from shards.seal import is_intact
from shards.shard_ref import ShardRef

__all__ = ["FileReport", "Finding", "Problem", "State", "check_file"]

BATCH_ROWS = 16_384
"""Rows that are compared at once; with the row group that they are from, what a check holds."""


class Problem(StrEnum):
    """What can be wrong with an output; docs/operations.md says what to do about each."""

    DAMAGED_FILE = "damaged_file"
    WRONG_SCHEMA = "wrong_schema"
    WRONG_MODEL = "wrong_model"
    WRONG_WORK = "wrong_work"
    WRONG_COUNTS = "wrong_counts"
    WRONG_ROWS = "wrong_rows"
    UNKNOWN_SHARD = "unknown_shard"
    UNKNOWN_FILE = "unknown_file"
    DUPLICATE_IMAGE = "duplicate_image"
    DAMAGED_PLAN = "damaged_plan"
    DAMAGED_RECORD = "damaged_record"
    WRONG_RECORD = "wrong_record"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is wrong.

    Attributes:
        problem: Which of the documented kinds.
        path: The file.
        text: What is wrong with it, and what was expected.
    """

    problem: Problem
    path: str
    text: str


class State(StrEnum):
    """What a file means for its shard."""

    DONE = "done"
    OUTDATED = "outdated"
    """Of images as an earlier plan lists them: the next run writes it anew."""
    WRONG = "wrong"


@dataclass(slots=True, kw_only=True)
class FileReport:
    """What a check found.

    Attributes:
        state: What the file means for its shard.
        rows: In its footer.
        ok: Likewise.
        errors_by_kind: Likewise.
        sealed: Whether it has a seal; None where that was not looked at.
        findings: What is wrong with it.
    """

    state: State = State.WRONG
    rows: int = 0
    ok: int = 0
    errors_by_kind: Mapping[str, int] = field(default_factory=dict)
    sealed: bool | None = None
    findings: list[Finding] = field(default_factory=list)


class _WrongError(Exception):
    """The check ends here."""

    def __init__(self, problem: Problem, text: str) -> None:
        super().__init__(text)
        self.problem = problem


def check_file(
    path: Place,
    *,
    model_id: str,
    schema: pa.Schema | None,
    versions: Mapping[str, ShardRef] | None,
    read: Callable[[ShardRef], ShardInputs | None],
    quick: bool = False,
) -> FileReport | None:
    """Check one file of the table.

    Args:
        path: The file.
        model_id: What the name of its partition says.
        schema: Of the table; None where that is not known.
        versions: Work key to what plans said of the shard, the latest first; None where that is
            not known.
        read: Gives a version's images, or None where they cannot be known; not called for a quick
            check.
        quick: Read the footer only.

    Returns:
        None where there is no such file.
    """
    report = FileReport()
    try:
        with _damage(), footer_source(path) if quick else opened(path) as source:
            footer = _check_bytes(source, report, quick=quick)
            file = _opened(source)
            _check_footer(footer, file, model_id, schema)
            report.state = State.DONE
            shard = None if versions is None else _version(footer, versions, report)
            if not quick:
                _check_rows(file, footer, None if shard is None else read(shard))
    except FileNotFoundError:
        return None
    except _WrongError as wrong:
        report.state = State.WRONG
        report.findings.append(Finding(problem=wrong.problem, path=str(path), text=str(wrong)))
    return report


def _check_bytes(source: pa.NativeFile, report: FileReport, *, quick: bool) -> FooterInfo:
    """Hold the whole file against its seal, and return its footer."""
    intact = None if quick else is_intact(source)
    if intact is False:
        raise _WrongError(Problem.DAMAGED_FILE, "its bytes are not those that were written")
    metadata = _opened(source).metadata.metadata or {}
    footer = FooterInfo.from_json(metadata.get(FOOTER_KEY, b"null"))
    report.rows, report.ok = footer.rows, footer.ok
    report.errors_by_kind = footer.errors_by_kind
    if not quick:
        report.sealed = intact is True
        if footer.has_seal and not intact:
            raise _WrongError(Problem.DAMAGED_FILE, "it has lost its seal")
    return footer


def _opened(source: pa.NativeFile) -> pq.ParquetFile:
    source.seek(0)
    return pq.ParquetFile(source, page_checksum_verification=True)


def _version(footer: FooterInfo, versions: Mapping[str, ShardRef], report: FileReport) -> ShardRef:
    """Find out which version of its shard a file is of, and set its state."""
    shard = versions.get(footer.work_key)
    if shard is None:
        raise _WrongError(
            Problem.WRONG_WORK,
            "its work key is of other images, another model or another table than its name and "
            "the plan say",
        )
    if footer.work_key != next(iter(versions)):
        report.state = State.OUTDATED
    if footer.rows != shard.rows:
        raise _WrongError(
            Problem.WRONG_ROWS, f"it has {footer.rows:,} rows, and the plan {shard.rows:,} images"
        )
    return shard


@contextmanager
def _damage() -> Iterator[None]:
    """Turn what readers say of a damaged file into a finding."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, ValueError, pa.ArrowException) as error:
        raise _WrongError(Problem.DAMAGED_FILE, f"it cannot be read: {error}") from error


def _check_footer(
    footer: FooterInfo, file: pq.ParquetFile, model_id: str, schema: pa.Schema | None
) -> None:
    """See that the footer agrees with itself, its place and the table."""
    if schema is not None and not file.schema_arrow.equals(schema):
        raise _WrongError(
            Problem.WRONG_SCHEMA, f"its columns are not the table's: {_difference(file, schema)}"
        )
    if footer.provenance.model_id != model_id:
        raise _WrongError(
            Problem.WRONG_MODEL, f"its rows are of the model {footer.provenance.model_id}"
        )
    counted = footer.ok + footer.errors
    of_kinds = sum(footer.errors_by_kind.values())
    if not (file.metadata.num_rows == footer.rows == counted and of_kinds == footer.errors):
        raise _WrongError(
            Problem.WRONG_COUNTS,
            f"it has {file.metadata.num_rows:,} rows, and its footer says {footer.rows:,}: "
            f"{footer.ok:,} ok, {footer.errors:,} errors, of which {of_kinds:,} by kind",
        )


def _difference(file: pq.ParquetFile, schema: pa.Schema) -> str:
    """The first column that is another one."""
    found = [str(column) for column in file.schema_arrow]
    expected = [str(column) for column in schema]
    for ours, theirs in zip(expected, found, strict=False):
        if ours != theirs:
            return f"{theirs} instead of {ours}"
    return f"{len(found)} instead of {len(expected)}"


def _check_rows(file: pq.ParquetFile, footer: FooterInfo, inputs: ShardInputs | None) -> None:
    """Read all pages of all columns, count, and compare with the plan."""
    kinds: Counter[str | None] = Counter()
    runs: Counter[str] = Counter()
    start = 0
    for batch in file.iter_batches(BATCH_ROWS, use_threads=False):
        batch.validate(full=True)
        _see_nulls(batch, start)
        kinds.update(_counts(batch, "error_kind"))
        runs.update(_counts(batch, "run_id"))
        if inputs is not None:
            _compare(batch, inputs, start)
        start += len(batch)
    if footer.runs is not None and dict(runs) != dict(footer.runs):
        raise _WrongError(
            Problem.WRONG_COUNTS,
            f"its rows are of the runs {dict(runs)}; its footer says {dict(footer.runs)}",
        )
    ok = kinds.pop(None, 0)
    if (ok, dict(kinds)) != (footer.ok, dict(footer.errors_by_kind)):
        raise _WrongError(
            Problem.WRONG_COUNTS,
            f"its rows are {ok:,} ok and errors {dict(kinds)}; its footer says {footer.ok:,} ok "
            f"and errors {dict(footer.errors_by_kind)}",
        )


def _see_nulls(batch: pa.RecordBatch, start: int) -> None:
    """See that columns are null where the status says so."""
    ok = pc.equal(batch.column("status"), "ok")
    fits = [
        pc.or_(ok, pc.equal(batch.column("status"), "error")),
        *(pc.equal(ok, batch.column(name).is_null()) for name in ("error_kind", "error")),
        *(pc.equal(ok, batch.column(name).is_valid()) for name in ("label", "label_id", "score")),
    ]
    for fit in fits:
        row = pc.index(fit, False).as_py()
        if row >= 0:
            raise _WrongError(
                Problem.WRONG_ROWS,
                f"row {start + row:,} contradicts itself: status "
                f"{batch.column('status')[row].as_py()!r}, label {batch.column('label')[row]}, "
                f"error_kind {batch.column('error_kind')[row]}",
            )


def _counts(batch: pa.RecordBatch, name: str) -> dict[Any, int]:
    """Count the values of a column."""
    counts = batch.column(name).value_counts()
    return {entry["values"]: entry["counts"] for entry in counts.to_pylist()}


def _compare(batch: pa.RecordBatch, inputs: ShardInputs, start: int) -> None:
    """See that rows are those of the plan's images, in its order."""
    keys = inputs.keys[start : start + len(batch)]
    expected = {"uri": uris_of(keys), "file_name": file_names_of(keys, inputs.root)}
    for name, values in expected.items():
        if not batch.column(name).equals(pa.array(values, pa.string())):
            found = batch.column(name).to_pylist()
            row = next(row for row, value in enumerate(values) if value != found[row])
            raise _WrongError(
                Problem.WRONG_ROWS,
                f"row {start + row:,} has the {name} {found[row]!r}, and the plan {values[row]!r}",
            )
