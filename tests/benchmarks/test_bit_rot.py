"""A short run of benchmarks.reliability.bit_rot: every damage is found, in the right file."""

from __future__ import annotations

import pytest

from benchmarks.reliability.bit_rot import DAMAGES, damage
from benchmarks.reliability.synthetic import write_output
from shards.verify_table import check_table


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return write_output(tmp_path_factory.mktemp("rot") / "out", images=300, shard_size=100)


@pytest.mark.parametrize("name", DAMAGES)
def test_every_damage_is_found_and_named(tree, name):
    figures = damage(tree, name, 20, seed=1)
    assert (figures.tried, figures.found) == (20, 20)
    assert check_table(tree, quick=False, workers=2).findings == ()
