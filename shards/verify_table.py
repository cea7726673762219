"""Every file of the table, checked by several threads: pyarrow and hashing need no Python lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from shards.columns import recorded_columns
from shards.errors import OutputError
from shards.output import OutputTree
from shards.predictions import schema_v1
from shards.verify import FileReport, Finding, Problem, State, check_file
from shards.verify_plans import Planned, check_plans
from shards.verify_tree import shard_number, table_files

__all__ = ["ModelReport", "TableReport", "check_table"]

Item = TypeVar("Item")
Result = TypeVar("Result")

WAITING = 4
"""Files for each thread that are listed ahead."""


@dataclass(slots=True, kw_only=True)
class ModelReport:
    """One model's rows.

    Attributes:
        done: Shards whose rows are there.
        outdated: Shards whose rows are of images as they were; the next run writes them anew.
        wrong: Shards whose file is not right.
        missing: Shards that no run classified with this model so far.
        images_missing: Images in them.
        rows: Rows in files that are right, outdated ones included.
        ok: Of these, with a label.
        errors: Of these, without.
        errors_by_kind: Those by error_kind.
        unsealed: Right files of earlier versions, which have no seal.
    """

    done: int = 0
    outdated: int = 0
    wrong: int = 0
    missing: int = 0
    images_missing: int = 0
    rows: int = 0
    ok: int = 0
    errors: int = 0
    errors_by_kind: dict[str, int] = field(default_factory=dict)
    unsealed: int = 0

    def add(self, report: FileReport) -> None:
        """Count one file."""
        if report.state is State.WRONG:
            self.wrong += 1
            return
        self.unsealed += report.sealed is False
        self.done += report.state is State.DONE
        self.outdated += report.state is State.OUTDATED
        self.rows += report.rows
        self.ok += report.ok
        self.errors += report.rows - report.ok
        for kind, count in report.errors_by_kind.items():
            self.errors_by_kind[kind] = self.errors_by_kind.get(kind, 0) + count


@dataclass(frozen=True, slots=True, kw_only=True)
class TableReport:
    """What a check of a table found.

    Attributes:
        plans: How many there are.
        shards: In them.
        images: In these, as the last plans list them.
        models: Model to what there is of its rows.
        findings: What is wrong.
    """

    plans: int
    shards: int
    images: int
    models: Mapping[str, ModelReport]
    findings: tuple[Finding, ...]


def check_table(
    tree: OutputTree,
    *,
    quick: bool,
    workers: int,
    advanced: Callable[[int, int], None] = lambda _done, _files: None,
) -> TableReport:
    """Hold every file against the plans, and the plans against each other.

    Runs may write meanwhile: what they add is not looked at, and nothing of it is taken for wrong.

    Args:
        tree: The output.
        quick: Read footers only.
        workers: Files that are read at once.
        advanced: Hears, after each file, how many are done, of how many.

    Raises:
        OutputError: A directory cannot be read.
    """
    # Files first: whatever a file is of stands in plans that were there before it.
    files = table_files(tree)
    planned = Planned(tree)
    findings = list(files.findings)
    if not quick:
        findings += check_plans(tree, planned.index)
    checker = _Checker(tree, planned, quick=quick, findings=findings)
    models = {model_id: ModelReport() for model_id in files.shards}
    work = [(model_id, shard) for model_id, shards in files.shards.items() for shard in shards]
    reports = _in_threads(checker.check, work, workers)
    for done, ((model_id, _), report) in enumerate(zip(work, reports, strict=True), 1):
        if report is not None:  # None: gone since, as by somebody who wants it computed again
            models[model_id].add(report)
            findings += report.findings
        advanced(done, len(work))
    if planned.unreadable is not None:
        findings.append(planned.unreadable)
    shards = {shard.id: shard.rows for shard in planned.index.shards()}
    for model_id, model in models.items():
        absent = shards.keys() - set(files.shards[model_id])
        model.images_missing = sum(shards[shard] for shard in absent)
        model.missing = sum(shards[shard] > 0 for shard in absent)
    return TableReport(
        plans=planned.index.last,
        shards=len(shards),
        images=sum(shards.values()),
        models=models,
        findings=tuple(findings),
    )


class _Checker:
    """Checks one file at a time, in any thread."""

    def __init__(
        self, tree: OutputTree, planned: Planned, *, quick: bool, findings: list[Finding]
    ) -> None:
        self._tree = tree
        self._planned = planned
        self._quick = quick
        self._schema = None
        try:
            self._schema = schema_v1(recorded_columns(tree))
        except OutputError as error:
            path = str(tree.columns)
            findings.append(Finding(problem=Problem.DAMAGED_RECORD, path=path, text=str(error)))

    def check(self, names: tuple[str, str]) -> FileReport | None:
        """Check the file of a model and a shard; None where it is gone."""
        report = self._once(*names)
        if report is not None and report.state is State.WRONG and self._planned.refresh():
            return self._once(*names)  # a run revised the shard since the plans were read
        return report

    def _once(self, model_id: str, shard_id: str) -> FileReport | None:
        path = self._tree.shard_path(model_id, shard_id)
        versions = self._planned.versions(*shard_number(shard_id), model_id)
        if versions is None and self._planned.unreadable is None:
            text = "no plan has this shard: its images have other rows as well, or are not known"
            finding = Finding(problem=Problem.UNKNOWN_SHARD, path=str(path), text=text)
            return FileReport(findings=[finding])
        return check_file(
            path,
            model_id=model_id,
            schema=self._schema,
            versions=versions,
            read=self._planned.inputs,
            quick=self._quick,
        )


def _in_threads(
    call: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[Result]:
    """Call for each item, and yield results in order; few of them wait at any time."""
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers, "verify") as threads:
        for item in items:
            waiting.append(threads.submit(call, item))
            if len(waiting) > workers * WAITING:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
