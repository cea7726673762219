"""Outputs of all kinds: a directory, and prefixes of buckets on servers in this process."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from uuid import uuid4

import pytest

from shards.output import OutputTree
from shards.trees import create_tree
from tests.simulators.google_server import GoogleServer, google_server
from tests.simulators.object_server import BUCKET, ObjectServer, connected, object_server


@pytest.fixture(scope="session")
def object_store() -> Iterator[ObjectServer]:
    with object_server() as server:
        yield server


@pytest.fixture(scope="module")
def bucket_of_module(object_store) -> Iterator[ObjectServer]:
    with connected(object_store.environment):
        yield object_store


@pytest.fixture
def bucket(bucket_of_module) -> Iterator[ObjectServer]:
    """A server that this process is a client of, and on which nothing goes wrong yet."""
    bucket_of_module.seen.clear()
    yield bucket_of_module
    bucket_of_module.faults.clear()
    bucket_of_module.delay_s = 0.0


@pytest.fixture(scope="module")
def google() -> Iterator[GoogleServer]:
    with google_server() as server, connected(server.environment):
        yield server


@pytest.fixture(params=["directory", "bucket"])
def output(request, tmp_path, monkeypatch) -> str:
    """What a user would give as --output."""
    if request.param == "directory":
        return str(tmp_path / "out")
    request.getfixturevalue(request.param)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return f"{'gs' if request.param == 'google' else 's3'}://{BUCKET}/{uuid4().hex}"


@pytest.fixture
def tree(output) -> OutputTree:
    return create_tree(output)
