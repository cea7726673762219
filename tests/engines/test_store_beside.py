"""Files beside a plan: those that a build left, with a digest, and those that came later."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from engines.errors import PlanError
from engines.manifest import canonical_json
from engines.store import EngineStore
from engines.store_entry import (
    LAYERS_FILE,
    LOG_FILE,
    NODES_FILE,
    read_beside,
    read_built,
    read_entry,
    read_plan,
    write_beside,
)
from tests.engines.manifests import BASE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    def build(folder: Path) -> None:
        (folder / "engine.plan").write_bytes(b"plan")
        (folder / LAYERS_FILE).write_text("{}")
        (folder / LOG_FILE).write_text("built\n")

    with EngineStore(tmp_path / "cache").get_or_build(BASE, build) as engine:
        return engine.folder


def as_format_1(folder: Path) -> None:
    """Rewrite the manifest as versions did that knew no other file's digest."""
    content = json.loads((folder / "manifest.json").read_text())
    del content["digest"], content["files"]
    content["format"] = 1
    content["digest"] = hashlib.sha256(canonical_json(content)).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def test_what_the_build_left_has_a_digest_in_the_manifest(folder):
    entry = read_entry(folder)
    assert entry.files == {
        LOG_FILE: hashlib.sha256(b"built\n").hexdigest(),
        LAYERS_FILE: hashlib.sha256(b"{}").hexdigest(),
    }
    assert read_built(folder, entry, LOG_FILE) == b"built\n"
    assert read_built(folder, entry, NODES_FILE) is None


def test_damage_beside_the_plan_is_found_and_costs_the_engine_nothing(folder):
    (folder / LAYERS_FILE).write_text("{ }")
    entry, plan = read_plan(folder)
    assert plan == b"plan"
    with pytest.raises(PlanError, match=r"layers\.json does not have the sha256"):
        read_built(folder, entry, LAYERS_FILE)


def test_a_file_that_the_build_did_not_leave_is_not_taken_for_one(folder):
    (folder / NODES_FILE).write_text("{}")
    with pytest.raises(PlanError, match="sha256"):
        read_built(folder, read_entry(folder), NODES_FILE)


def test_engines_of_the_first_format_still_serve(folder):
    as_format_1(folder)
    entry, plan = read_plan(folder)
    assert (plan, entry.files) == (b"plan", None)
    assert read_built(folder, entry, LAYERS_FILE) == b"{}"
    (folder / LAYERS_FILE).unlink()
    assert read_built(folder, entry, LAYERS_FILE) is None


def test_what_comes_later_replaces_as_a_whole_and_leaves_the_engine_as_it_is(folder):
    for content in (b"first", b"second"):
        write_beside(folder, "profile.json", content)
        assert read_beside(folder, "profile.json") == content
    assert read_beside(folder, "report.html") is None
    assert (folder / "profile.json").stat().st_mode & 0o777 == 0o600
    assert read_plan(folder)[1] == b"plan"
    assert not list(folder.glob(".*"))


def test_a_link_is_neither_read_nor_written_through(folder, tmp_path):
    outside = tmp_path / "outside"
    outside.write_bytes(b"theirs")
    (folder / "profile.json").symlink_to(outside)
    with pytest.raises(PlanError):
        read_beside(folder, "profile.json")
    write_beside(folder, "profile.json", b"mine")
    assert outside.read_bytes() == b"theirs"
    assert read_beside(folder, "profile.json") == b"mine"


def test_an_engine_that_is_gone_takes_no_files(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_beside(tmp_path / "gone", "profile.json", b"")
    with pytest.raises(FileNotFoundError):
        read_beside(tmp_path / "gone", "profile.json")
