"""Outputs of both kinds: a directory, and a prefix of a bucket on a server in this process."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from uuid import uuid4

import pytest

from shards.output import OutputTree
from shards.trees import create_tree
from tests.simulators.object_server import BUCKET, ObjectServer, connected, object_server


@pytest.fixture(scope="session")
def object_store() -> Iterator[ObjectServer]:
    with object_server() as server:
        yield server


@pytest.fixture(scope="module")
def bucket(object_store) -> Iterator[ObjectServer]:
    """A server that this process is a client of."""
    with connected(object_store):
        yield object_store
        object_store.faults.clear()


@pytest.fixture(params=["directory", "bucket"])
def output(request, tmp_path, monkeypatch) -> str:
    """What a user would give as --output."""
    if request.param == "directory":
        return str(tmp_path / "out")
    request.getfixturevalue("bucket")
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return f"s3://{BUCKET}/{uuid4().hex}"


@pytest.fixture
def tree(output) -> OutputTree:
    return create_tree(output)
