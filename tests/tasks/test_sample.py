"""The order of images by a hash of their names, and its two ends."""

from __future__ import annotations

import os
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.errors import NoImagesError, SourceError
from shards.inputs import ShardInputs
from shards.local_tree import LocalTree
from shards.plan import PlanLog, ShardRef
from shards.sources.parse import open_sources
from shards.sources.source import ListingOptions
from tasks.sample import Candidate, draw, in_directory, in_shards, real_paths, targets
from tests.shards.sources.archives import tar


def candidates(ranks):
    return [Candidate(rank, b"%d" % rank, b"/a/%d" % rank, 1, 1) for rank in ranks]


@given(st.lists(st.integers(0, 2**64 - 1), unique=True), st.integers(0, 6), st.integers(0, 6))
def test_both_ends_are_those_of_the_sorted_list(ranks, front, back):
    sample = draw(candidates(ranks), front=front, back=back)
    ordered = sorted(ranks)
    assert [c.rank for c in sample.front] == ordered[: 2 * front]
    assert [c.rank for c in sample.back] == ordered[::-1][: 2 * back]
    assert sample.available == len(ranks)


@given(st.permutations(range(20)))
def test_the_order_of_listing_does_not_matter(ranks):
    assert draw(candidates(ranks), front=3, back=4) == draw(candidates(range(20)), front=3, back=4)


@pytest.fixture
def archive(tmp_path):
    def make(where, folders=10, files=30):
        root = tmp_path / where
        for folder in range(folders):
            (root / f"folder {folder}").mkdir(parents=True)
            for number in range(files):
                (root / f"folder {folder}" / f"{number:03d}.jpg").write_bytes(b"x" * (number + 1))
        return os.fsencode(root)

    return make


def listed(root):
    return list(in_directory(root, extensions=[".jpg"]))


def test_a_sample_is_spread_over_folders_and_the_same_wherever_they_lie(archive):
    here, there = (draw(listed(archive(name)), front=16, back=16) for name in ("here", "there"))
    assert [c.name for c in here.front] == [c.name for c in there.front]
    assert [c.name for c in here.back] == [c.name for c in there.back]
    for end in (here.front, here.back):
        assert len({c.name.split(b"/")[0] for c in end}) >= 8
    assert not {c.path for c in here.front} & {c.path for c in here.back}
    assert here.available == 300
    assert {c.size for c in listed(archive("sizes", 1, 3))} == {1, 2, 3}


def test_a_directory_without_images_or_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(NoImagesError):
        listed(os.fsencode(tmp_path))
    with pytest.raises(SourceError, match="no such directory"):
        listed(os.fsencode(tmp_path / "nowhere"))


class Log:
    """Stands for PlanLog: two images in every shard."""

    def __init__(self):
        self.read_ids = []

    def read(self, shard):
        self.read_ids.append(shard.id)
        paths = [b"/root/%06d/%d.jpg" % (shard.ordinal, number) for number in range(2)]
        ones = np.ones(2, np.int64)
        return ShardInputs(shard, b"/root", paths, ones, ones, np.zeros(2, np.int64))


def test_of_many_shards_some_are_read_and_always_the_same():
    shards = [ShardRef(1 + n // 100, n % 100, 2, f"{hash((n, 7)):x}") for n in range(200)]
    first, second = Log(), Log()
    found = list(in_shards(first, shards))
    assert found == list(in_shards(second, reversed(shards)))
    assert len(found) == 64
    assert first.read_ids == sorted(first.read_ids)
    assert {name[:7] for name in first.read_ids} == {"p000001", "p000002"}


def test_names_are_relative_to_the_root_of_the_listing(archive):
    root = archive("images", 1, 2)
    shard = SimpleNamespace(
        read=lambda _: ShardInputs(
            ShardRef(1, 0, 2, ""),
            root,
            [c.path for c in listed(root)],
            np.array([1, 2]),
            np.array([c.mtime_ns for c in listed(root)]),
            np.zeros(2, np.int64),
        )
    )
    assert list(in_shards(shard, [ShardRef(1, 0, 2, "")])) == listed(root)


def test_links_to_one_file_are_one_image(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / "b.jpg").symlink_to("a.jpg")
    assert real_paths(listed(os.fsencode(tmp_path))) == {os.fsencode(tmp_path / "a.jpg")}


def test_a_folder_named_like_a_label_says_what_its_images_show(tmp_path):
    for folder in ("cat", "dög", "others"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.jpg").write_bytes(b"x")
    labels = {"cat": 0, "dög": 1}
    assert targets(listed(os.fsencode(tmp_path)), labels) == [0, 1, None]


def test_images_in_archives_are_drawn_and_read_too(tmp_path):
    content = tar([("cat/a.jpg", b"first"), ("cat/b.jpg", b"second")])
    (tmp_path / "a.tar").write_bytes(content)
    options = ListingOptions(extensions=(".jpg",))
    [source] = open_sources([str(tmp_path / "a.tar")], options)
    log = PlanLog(LocalTree.create(tmp_path / "out"), tool_version="0")
    update = log.extend(source.batches(), root=source.root, shard_size=9, run_id="r")
    found = sorted(in_shards(log, update.shards), key=lambda candidate: candidate.path)
    assert [candidate.name for candidate in found] == [b"a.tar\0cat/a.jpg", b"a.tar\0cat/b.jpg"]
    items = [candidate.stored() for candidate in found]
    assert [content[item.offset : item.offset + item.size] for item in items] == [
        b"first",
        b"second",
    ]
    assert len(real_paths(found)) == 2
