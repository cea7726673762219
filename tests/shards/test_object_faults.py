"""An output in a bucket while requests fail: each request of a small job in turn, in every way."""

from __future__ import annotations

import random
import tempfile
from itertools import count
from uuid import uuid4

import pytest

from shards.commit import write_run_record
from shards.errors import ShardError
from shards.object_path import ObjectPath
from shards.trees import create_tree, open_tree
from shards.verify_table import check_table
from tests.shards.nights import Night, run, states
from tests.shards.places import write
from tests.shards.races import race
from tests.simulators.object_server import BUCKET, Fault

BEFORE = {b"/data/a": 1, b"/data/b": -1}
WORLD = {b"/data/a": 2, b"/data/b": -1, b"/data/c": 1}


@pytest.fixture(scope="module")
def first_night(store_of_module) -> dict[str, bytes]:
    """What one run left: key below the output to content."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as directory:
        patch.setattr(tempfile, "tempdir", directory)
        tree = create_tree(f"s3://{BUCKET}/first")
        run(tree, Night(run_id="first", shard_size=2), BEFORE)
        places = [*tree.files(), *tree.plans.iterdir()]
        return {place.key.removeprefix("first/"): place.read_bytes() for place in places}


def second_night(output: str) -> None:
    """Look whether the bucket is good, revise a plan, add one, replace a file, write a new one."""
    tree = create_tree(output)
    run(tree, Night(run_id="second", shard_size=2), WORLD)
    write_run_record(tree, "second", {"images": 3})


def ended_with(output: str) -> str:
    """Do the second night; returns the error that a user would read, or nothing."""
    try:
        second_night(output)
    except ShardError as error:
        return str(error)
    return ""


def is_of(methods: str):
    return lambda request: request.method in methods.split()


ALL, WRITES = is_of("GET HEAD PUT"), is_of("PUT")
ONCE, FROM_THEN_ON = 1, 10_000


@pytest.mark.parametrize(
    ("kind", "concerns", "times"),
    [
        pytest.param("forbidden", ALL, FROM_THEN_ON, id="forbidden from then on"),
        pytest.param("dropped", ALL, ONCE, id="dropped once"),
        pytest.param("dropped", WRITES, FROM_THEN_ON, id="dropped from then on"),
        pytest.param("lost_answer", WRITES, ONCE, id="answer lost once"),
        pytest.param("lost_answer", WRITES, FROM_THEN_ON, id="answers lost from then on"),
        pytest.param("conflict", WRITES, ONCE, id="conflict once"),
        pytest.param("conflict", WRITES, FROM_THEN_ON, id="conflicts from then on"),
    ],
)
def test_whatever_request_fails_the_next_run_mends_it(
    bucket, first_night, monkeypatch, tmp_path, kind, concerns, times
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("shards.object_write.CONFLICT_WAITS_S", (0.0, 0.0))
    failed = 0
    for number in count(1):
        output = f"s3://{BUCKET}/{uuid4().hex}"
        for key, content in first_night.items():
            write(ObjectPath.of(f"{output}/{key}"), content)
        left = count(1)
        fault = Fault(kind, lambda request: concerns(request) and next(left) >= number, times)  # noqa: B023
        bucket.faults[:] = [fault]
        failure = ended_with(output)
        if failure:
            failed += 1
            assert output in failure
            assert "<" not in failure, "XML is not for people"
        bucket.faults.clear()
        if fault.times == times:
            break
        tree = open_tree(output)
        assert list(tree.staging.iterdir()) == []
        run(tree, Night(run_id="third", shard_size=2), WORLD)
        assert states(tree) == WORLD
        assert check_table(tree, quick=True, workers=1).findings == ()
    assert number > (30 if concerns is ALL else 8)
    if times == ONCE:
        assert failed == 0, "one lost request is no reason to fail"
    else:
        assert failed > 5


@pytest.mark.parametrize("seed", range(3))
def test_of_all_writers_one_wins_each_version_while_requests_fail(
    bucket, monkeypatch, tmp_path, seed
):
    """As in test_output_trees; who wins and is replaced before it knows, may think it has lost."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    tree = create_tree(f"s3://{BUCKET}/{uuid4().hex}")
    final = tree.runs / "x"
    chance = random.Random(seed)
    kinds = ("lost_answer", "dropped", "unavailable", "conflict", "internal")
    bucket.faults[:] = [
        Fault(kind, lambda request: request.method == "PUT" and chance.random() < 0.1, times=10)
        for kind in kinds
    ]
    won, chain = race(tree, final, writers=5, turns=8)
    assert len(chain) == len(set(chain))
    assert won <= set(chain[:-1])
    assert len(won) >= 8
