"""Kills, stops, races and errors at every step: no image lost, none twice, no partial file."""

import errno
import os
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shards.commit import publish
from shards.errors import OutputError
from shards.local_tree import LocalTree
from shards.output import OutputTree
from tests.shards import crash_worker
from tests.shards.crash_worker import SHARD_SIZE, STEPS, images, run
from tests.shards.factories import MODEL_ID, footer, shard_inputs, table

ROOT = Path(__file__).parent.parent.parent


def command(mode: str, out: Path, *rest: object) -> list[str]:
    return [sys.executable, crash_worker.__file__, mode, str(out), *map(str, rest)]


def start(mode: str, out: Path, *rest: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(mode, out, *rest),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors


def check(out: Path) -> Counter[str]:
    """See that whatever is in the table is whole; return how often each image is in it."""
    names: Counter[str] = Counter()
    for path in (out / "predictions").rglob("*"):
        if not path.is_dir():
            rows = pq.read_table(pa.OSFile(bytes(path)), page_checksum_verification=True)
            rows.validate(full=True)
            names.update(rows.column("file_name").to_pylist())
    assert not names or set(names.values()) == {1}
    return names


def check_resumed(out: Path, listed: list[bytes]) -> None:
    """See that a run after the crash completes the table, and another one finds nothing to do."""
    check(out)
    run(out, listed)
    assert sorted(check(out)) == [os.path.basename(path).decode() for path in listed]
    assert run(out, listed) == 0


def test_killed_at_every_step_and_resumed(tmp_path):
    finish(start("kill", tmp_path))
    outs = sorted(tmp_path.iterdir())
    assert len(outs) > 25
    # Not each run got as far as the table, but the later ones did, and none of them to its end.
    assert {len(check(out)) for out in outs[:-1]} == {0, SHARD_SIZE, 2 * SHARD_SIZE}
    for out in outs:
        check_resumed(out, images(2 * SHARD_SIZE))


def test_stopped_at_every_step_overtaken_and_woken(tmp_path):
    finish(start("stop", tmp_path))
    outs = sorted(tmp_path.iterdir())
    assert len(outs) > 25
    for out in outs:
        assert len(check(out)) == 2 * SHARD_SIZE


def read_until(done: threading.Event, out: Path, failures: list[str]) -> None:
    glob = str(out / "predictions/**/*.parquet")
    while not done.is_set():
        if not any((out / "predictions").rglob("*.parquet")):
            continue
        for name, read in READERS.items():
            try:
                names = read(glob)
            except Exception as error:
                failures.append(f"{name}: {error!r}")
                return
            if len(names) != len(set(names)) or len(names) == 0:
                failures.append(f"{name}: {len(names)} rows, {len(set(names))} images")


def read_duckdb(glob: str) -> list[str]:
    with duckdb.connect() as connection:
        rows = connection.execute("SELECT file_name FROM read_parquet(?)", [glob]).fetchall()
    return [name for (name,) in rows]


READERS = {
    "duckdb": read_duckdb,
    "polars": lambda glob: pl.read_parquet(glob, columns=["file_name"])["file_name"].to_list(),
    "pyarrow": lambda glob: pq.read_table(
        glob.removesuffix("/**/*.parquet"), columns=["file_name"]
    )["file_name"].to_pylist(),
}


@pytest.mark.parametrize(
    "rounds", [20, pytest.param(200, marks=[pytest.mark.slow, pytest.mark.timeout(120)])]
)
def test_overlapping_runs_killed_at_random_under_the_eyes_of_readers(tmp_path, rounds):
    out = tmp_path / "out"
    done, failures = threading.Event(), []
    reading = threading.Thread(target=read_until, args=(done, out, failures))
    process = start("race", out, rounds)
    reading.start()
    try:
        finish(process)
    finally:
        done.set()
        reading.join()
    assert failures == []
    check_resumed(out, images(3 * rounds))


def fail_at(monkeypatch, step: int, error: BaseException) -> list[str]:
    """Raise in the step-th call that changes the file system; return the calls so far."""
    calls: list[str] = []

    def counted(name, function):
        def call(*arguments, **options):
            calls.append(name)
            if len(calls) == step:
                raise error
            return function(*arguments, **options)

        return call

    for name in STEPS:
        monkeypatch.setattr(os, name, counted(name, getattr(os, name)))
    return calls


def publish_one(tree: OutputTree) -> object:
    rows = table(shard_inputs(images(SHARD_SIZE)))
    return publish(rows, footer(rows), tree=tree, model_id=MODEL_ID, shard_id="p000001-00000")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EIO, "Input/output error"),
        OSError(errno.EROFS, "Read-only file system"),
        KeyboardInterrupt("Interrupted"),
    ],
    ids=["ENOSPC", "EIO", "EROFS", "SIGINT"],
)
def test_an_error_at_any_step_of_a_commit_leaves_nothing_or_all(tmp_path, monkeypatch, error):
    for step in range(1, 100):
        tree = LocalTree.create(tmp_path / str(step))
        raised = None
        with monkeypatch.context() as patched:
            calls = fail_at(patched, step, error)
            try:
                publish_one(tree)
            except (OutputError, KeyboardInterrupt) as caught:
                raised = caught
        if len(calls) < step:
            break
        if isinstance(raised, OutputError):
            assert str(tree.root) in str(raised)
            assert str(error.strerror) in str(raised)
        else:  # only the removal of the staged file may fail in silence: janitors come later
            assert raised is error or calls[step - 1] == "unlink"
        assert len(check(tree.root)) == (SHARD_SIZE if "link" in calls[: step - 1] else 0)
        assert list(tree.staging.iterdir()) == [] or calls[step - 1] == "unlink"
        publish_one(tree)
        assert len(check(tree.root)) == SHARD_SIZE
    assert step > 5


def test_a_file_that_outgrows_the_disk_leaves_nothing(tmp_path, monkeypatch):
    resource = pytest.importorskip("resource")
    tree = LocalTree.create(tmp_path / "out")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"p000001-00000\.parquet: File too large"):
            publish_one(tree)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tree.staging.iterdir()) == []
    assert check(tree.root) == {}
