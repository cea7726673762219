"""Nothing that runs do is taken for wrong: verify between any two steps of runs that overlap."""

from __future__ import annotations

import random

import pytest

from shards.local_tree import LocalTree
from shards.verify_table import check_table
from tests.shards.nights import ROOT, Night, run, states, steps


def change(world, choose, time):
    """Let files come, change, break and go."""
    for _ in range(choose.randint(0, 3)):
        key = ROOT + b"/%02d.jpg" % choose.randrange(12)
        if choose.random() < 0.3 and len(world) > 1:
            world.pop(key, None)
        else:
            world[key] = time if choose.random() < 0.8 else -time


def check(tree, *, quick=False):
    report = check_table(tree, quick=quick, workers=1)
    assert report.findings == ()
    return report


@pytest.mark.parametrize("seed", range(4))
def test_between_the_steps_of_overlapping_runs_all_is_right(tmp_path, seed):
    choose = random.Random(seed)
    tree = LocalTree.create(tmp_path)
    world = {ROOT + b"/00.jpg": 1}
    begun = 0
    under_way = []
    while begun < 12 or under_way:
        if begun < 12 and (len(under_way) < 2 or choose.random() < 0.1):
            begun += 1
            change(world, choose, begun + 1)
            night = Night(
                run_id=f"run-{begun}",
                model_id=choose.choice(["m@1", "other@2"]),
                shard_size=choose.randint(1, 4),
                prune=choose.choice([None, 1.0]),
                retry_errors=choose.random() < 0.3,
                overwrite=choose.random() < 0.2,
            )
            under_way.append(steps(tree, night, world))
        walker = choose.choice(under_way)
        if next(walker, None) is None:
            under_way.remove(walker)
        check(tree, quick=choose.random() < 0.3)


def test_after_a_whole_run_all_rows_are_there_and_none_is_outdated(tmp_path):
    choose = random.Random(99)
    tree = LocalTree.create(tmp_path)
    world = {ROOT + b"/%02d.jpg" % number: 1 for number in range(10)}
    for number in range(8):
        change(world, choose, number + 2)
        run(tree, Night(run_id=f"run-{number}", prune=1.0), world)
        report = check(tree)
        model = report.models["m@1"]
        assert (model.outdated, model.missing, model.wrong) == (0, 0, 0)
        assert (model.rows, report.images) == (len(world), len(world))
        assert model.errors == sum(state < 0 for state in states(tree).values())
