"""What is remembered of builds that failed, and for how long."""

from __future__ import annotations

import json
import time

import pytest

from engines import failed_builds
from engines.errors import EngineBuildError
from engines.failed_builds import COUNTS_FOR_S, KEPT, recall, remember
from engines.store import EngineStore
from tests.engines.manifests import BASE, manifest


@pytest.fixture
def store(tmp_path):
    return EngineStore(tmp_path / "cache")


@pytest.fixture
def folder(store):
    return store.folder(".unbuilt")


def fail(folder):
    (folder / "build.log").write_text("what TensorRT said")
    raise EngineBuildError("mergeScales")


def succeed(folder):
    (folder / "engine.plan").write_bytes(b"plan")


def test_a_failed_build_is_known_with_its_reason_and_versions_until_one_succeeds(store):
    assert store.failure(BASE.key()) is None
    with pytest.raises(EngineBuildError, match="mergeScales"):
        store.get_or_build(BASE, fail)
    found = store.failure(BASE.key())
    assert (found.tensorrt, found.gpu) == (BASE.tensorrt_version, BASE.gpu_name)
    assert found.reason.startswith("mergeScales")
    assert f".failed/{BASE.key()}.log" in found.reason
    assert f"TensorRT {BASE.tensorrt_version})" in str(found)
    # Another TensorRT is another engine; and whoever wants this one builds it.
    assert store.failure(manifest(tensorrt_version="10.16.1").key()) is None
    store.get_or_build(BASE, succeed).close()
    assert store.failure(BASE.key()) is None
    store.quarantine(BASE.key())
    assert store.failure(BASE.key()) is None


def test_a_failed_rebuild_says_nothing_against_the_engine_that_stays(store):
    store.get_or_build(BASE, succeed).close()
    with pytest.raises(EngineBuildError):
        store.get_or_build(BASE, fail, rebuild=True)
    assert store.failure(BASE.key()) is None


def test_a_failure_counts_for_a_week(store, monkeypatch):
    with pytest.raises(EngineBuildError):
        store.get_or_build(BASE, fail)
    now = time.time()
    for age, known in ((COUNTS_FOR_S - 60, True), (COUNTS_FOR_S + 60, False), (-3600.0, False)):
        monkeypatch.setattr(failed_builds.time, "time", lambda age=age: now + age)
        assert (store.failure(BASE.key()) is not None) is known


def test_notes_do_not_pile_up(folder):
    for number in range(KEPT + 3):
        remember(folder, manifest(graph_digest=f"{number:064}"), "no", 1.0)
    assert len(list(folder.iterdir())) == KEPT


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"reason": "no"}', "9" * 5000])
def test_a_note_that_cannot_be_understood_is_none(folder, text):
    remember(folder, BASE, "no", 1.0)
    (note,) = folder.iterdir()
    assert json.loads(note.read_text())["reason"] == "no"
    note.write_text(text)
    assert recall(folder, BASE.key()) is None


def test_a_note_that_cannot_be_written_hides_no_reason(store, folder, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("engines.failed_builds.write_beside", full)
    with pytest.raises(EngineBuildError, match="mergeScales"):
        store.get_or_build(BASE, fail)
    assert list(folder.iterdir()) == []
