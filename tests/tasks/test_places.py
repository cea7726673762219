from __future__ import annotations

import os
import shutil

import pytest

from tasks.places import cache_check, output_check
from tests.simulators.faults import Fault
from tests.simulators.object_server import connected
from tests.simulators.small_store import small_store


@pytest.fixture
def closed(tmp_path):
    """A directory that this user may not write to."""
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o500)
    yield folder
    folder.chmod(0o700)


def test_an_output_that_is_there_or_can_be_made_passes_and_stays_as_it_is(tmp_path):
    there = output_check(str(tmp_path))
    assert (there.status, "there already" in there.measured) == ("passed", True)
    new = output_check(str(tmp_path / "a" / "b"))
    assert (new.status, "will be made" in new.measured) == ("passed", True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_directory_of_somebody_elses_fails(closed):
    for folder in (closed, closed / "new"):
        check = output_check(str(folder))
        assert (check.status, "--output" in check.advice) == ("failed", True)


def test_a_file_system_that_refuses_fails(tmp_path, monkeypatch):
    def refuse(**_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tasks.places.tempfile.TemporaryFile", refuse)
    check = output_check(str(tmp_path))
    assert check.status == "failed"
    assert "Read-only file system" in check.measured


def test_a_file_in_the_way_fails(tmp_path):
    (tmp_path / "file").touch()
    check = output_check(str(tmp_path / "file" / "out"))
    assert check.status == "failed"
    assert "is no directory" in check.measured


def test_little_room_is_told(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(
        "tasks.places.shutil.disk_usage", lambda _: usage._replace(free=512 * 2**20)
    )
    check = output_check(str(tmp_path))
    assert check.status == "warning"
    assert "0.5 GiB free" in check.measured


def test_engines_are_counted(tmp_path):
    assert "(empty)" in cache_check(tmp_path).measured
    for key in "ab":
        folder = tmp_path / "engines" / (key * 64)
        folder.mkdir(parents=True)
        (folder / "engine.plan").write_bytes(bytes(3 * 2**20))
    check = cache_check(tmp_path)
    assert (check.status, "(2 engines, 6 MiB)" in check.measured) == ("passed", True)


def test_a_bucket_is_asked_what_a_run_would_ask_and_nothing_is_left():
    with small_store() as store, connected(store.environment):
        new = output_check("s3://bucket/out")
        assert new.status == "passed"
        assert new.measured.startswith("s3://bucket/out (will be made), conditions hold; ")
        assert store.blobs == {}
        store.put("out/state/plans/000001.parquet", b"", {})
        assert "there already" in output_check("s3://bucket/out/").measured
        missing = output_check("s3://nobucket/out")
        assert missing.status == "failed"
        assert missing.measured == "cannot use s3://nobucket/out: 404 NoSuchBucket"
        assert missing.advice.startswith("There is no such bucket: create it")
        store.faults[:] = [Fault("ignore_conditions", times=100)]
        unsafe = output_check("gs://bucket/out")
        assert (unsafe.status, unsafe.measured[:54]) == (
            "failed",
            "the store of gs://bucket passes over conditions of req",
        )
        assert unsafe.advice.startswith("Update it, or write to a local --output")
