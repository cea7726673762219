"""Outputs of all kinds: a directory, and prefixes of buckets on servers in this process."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from uuid import uuid4

import pytest

from shards.output import OutputTree
from shards.trees import create_tree
from tests.simulators.object_server import BUCKET, ObjectServer, connected, object_server
from tests.simulators.small_store import SmallStore, small_store


@pytest.fixture(scope="session")
def running_store() -> Iterator[SmallStore]:
    with small_store() as server:
        yield server


@pytest.fixture(scope="module")
def store_of_module(running_store) -> Iterator[SmallStore]:
    with connected(running_store.environment):
        yield running_store


@pytest.fixture
def bucket(store_of_module) -> Iterator[SmallStore]:
    """A server that this process is a client of, and on which nothing goes wrong yet."""
    store_of_module.seen.clear()
    yield store_of_module
    store_of_module.faults.clear()
    store_of_module.delay_s = 0.0


@pytest.fixture
def moto() -> Iterator[ObjectServer]:
    """The same, by people who know S3."""
    with object_server() as server, connected(server.environment):
        yield server


@pytest.fixture(params=["directory", "bucket"])
def output(request, tmp_path, monkeypatch) -> str:
    """What a user would give as --output; of "directory", "bucket", "google" or "moto"."""
    if request.param == "directory":
        return str(tmp_path / "out")
    request.getfixturevalue(request.param.replace("google", "bucket"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return f"{'gs' if request.param == 'google' else 's3'}://{BUCKET}/{uuid4().hex}"


@pytest.fixture
def tree(output) -> OutputTree:
    return create_tree(output)
