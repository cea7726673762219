"""Images that a list, a pattern or a link takes out of the places where they may lie."""

from __future__ import annotations

import os

import pytest

from shards.errors import SourceError
from shards.within import within
from tests.shards.factories import batches


@pytest.fixture
def data(tmp_path):
    for folder in ("data/deep", "database"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("data/a.jpg", "data/deep/b.jpg", "data/c.tar", "database/secret.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "data" / "link.jpg").symlink_to(tmp_path / "database" / "secret.jpg")
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "database")
    (tmp_path / "data" / "inside.jpg").symlink_to("a.jpg")
    return tmp_path


def run(root, *names, roots=None):
    keys = [name if b"://" in name else os.fsencode(root) + b"/" + name for name in names]
    given = [str(root / "data")] if roots is None else roots
    return [key for batch in within(batches(keys), given) for key in batch.keys]


def test_images_inside_pass(data):
    names = [b"data/a.jpg", b"data/deep/b.jpg", b"data/c.tar\0x.jpg", b"data/inside.jpg"]
    assert len(run(data, *names, b"data/gone.jpg")) == 5
    assert len(run(data, *names, roots=["/"])) == 4
    assert len(run(data, b"s3://bucket/in/a.jpg", roots=["/nowhere", "s3://bucket/in/"])) == 1


@pytest.mark.parametrize(
    "name",
    [
        b"database/secret.jpg",
        b"database/secret.tar\0x.jpg",
        b"data/link.jpg",
        b"data/linked/secret.jpg",
        b"data/linked/gone.jpg",
        b"data/../database/secret.jpg",
        b"s3://bucket/in/a.jpg",
        b"http://169.254.169.254/a.jpg",
    ],
)
def test_images_elsewhere_are_refused_by_name(data, name):
    with pytest.raises(SourceError, match=r"(secret|gone|link|a)\.(jpg|tar).* allowed root"):
        run(data, b"data/a.jpg", name)


@pytest.mark.parametrize(
    "name", [b"s3://bucket/inside/a", b"s3://bucket/in/../a", b"s3://other/in/a"]
)
def test_objects_elsewhere_are_refused(data, name):
    with pytest.raises(SourceError, match="allowed root"):
        run(data, name, roots=["s3://bucket/in"])


def test_without_roots_all_pass(data):
    [batch] = within(batches([b"/etc/a.jpg"]), None)
    assert batch.keys == [b"/etc/a.jpg"]
