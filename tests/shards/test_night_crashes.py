"""A night that replaces rows, killed or stopped at every step: one row for each image, always."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shards.local_tree import LocalTree
from shards.output import OutputTree
from tests.shards import night_worker
from tests.shards.night_worker import FIRST, SECOND, THIRD
from tests.shards.nights import Night, run, states

ROOT = Path(__file__).parent.parent.parent


def do(mode: str, out: Path) -> list[OutputTree]:
    """Let the worker work; returns the outputs that it left."""
    done = subprocess.run(
        [sys.executable, night_worker.__file__, mode, str(out)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    trees = [LocalTree(path) for path in sorted(out.iterdir())]
    assert len(trees) > 25
    return trees


@pytest.mark.timeout(120)
def test_a_second_night_killed_at_every_step(tmp_path):
    seen = set()
    for tree in do("kill", tmp_path):
        found = states(tree)  # fails for two rows of one image, or half a file
        stays = {key: state for key, state in SECOND.items() if key in FIRST}
        assert stays.keys() <= found.keys()
        assert all(found[key] in (FIRST.get(key), SECOND.get(key)) for key in found)
        seen.add(tuple(sorted(found.items())))
        run(tree, Night(run_id="night-3", prune=0.5), SECOND)
        assert states(tree) == SECOND
        assert run(tree, Night(run_id="night-4", prune=0.5), SECOND) == 0
    # Untouched, the new image, the one shard, and the other: nights that died between them.
    assert len(seen) == 4


@pytest.mark.timeout(120)
def test_a_second_night_stopped_at_every_step_overtaken_and_woken(tmp_path):
    for tree in do("stop", tmp_path)[:-1]:
        found = states(tree)
        assert found.keys() == THIRD.keys()
        run(tree, Night(run_id="night-4", prune=0.5), THIRD)
        assert states(tree) == THIRD
