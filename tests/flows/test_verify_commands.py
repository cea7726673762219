"""The commands verify and compact, in real processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from flows import compact_command, verify_command
from tests.flows.conftest import clean_environment
from tests.shards.factories import MODEL_ID
from tests.shards.outputs import make_output, names

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def tree(tmp_path):
    return make_output(tmp_path / "out", [names(*range(10))])


def run(command, *options, home):
    return subprocess.run(
        [sys.executable, "-m", f"flows.{command}", *map(str, options)],
        cwd=ROOT,
        env=clean_environment(home),
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_verify_says_that_all_is_right_then_what_is_wrong(tree, tmp_path):
    done = run("verify", tree.root, "--json", home=tmp_path / "home")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["status"], answer["images"], answer["findings"]) == ("fine", 10, [])
    assert answer["models"][MODEL_ID]["rows"] == 10

    path = tree.shard_path(MODEL_ID, "p000001-00001")
    path.write_bytes(path.read_bytes()[:-1])
    done = run("verify", tree.root, "--quick", home=tmp_path / "home")
    assert done.returncode == 1
    assert f"{path}: it cannot be read" in done.stdout
    assert "damaged_file: move the file away, and run" in done.stdout
    assert "Traceback" not in done.stderr


def test_verify_changes_nothing(tree):
    def listing():
        return sorted((str(p), p.stat().st_mtime_ns) for p in tree.root.rglob("*"))

    before = listing()
    assert verify_command.main([str(tree.root), "--quiet"]) == 0
    assert listing() == before


@pytest.mark.parametrize("main", [verify_command.main, compact_command.main])
def test_what_is_no_output_is_told_in_words(main, tmp_path, capsys):
    more = [str(tmp_path / "large")] if main is compact_command.main else []
    assert main([str(tmp_path), *more]) == 2
    assert "is no output of classify_dir" in capsys.readouterr().err


def test_compact_writes_large_files_and_says_how_many(tree, tmp_path):
    target = tmp_path / "deep" / "large"
    done = run("compact", tree.root, target, "--json", home=tmp_path / "home")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["models"] == {MODEL_ID: {"rows": 10, "shards": 3, "files": 1}}
    assert pq.read_table(target).num_rows == 10


@pytest.mark.parametrize(
    ("target", "options", "expected"),
    [
        ("out/predictions/more", (), "lie in each other"),
        ("out", (), "lie in each other"),
        (".", (), "lie in each other"),
        ("full", (), "is there already"),
        ("link", (), "is there already"),
        ("large", ("--model-id", "none@1"), f"it has {MODEL_ID}"),
        ("large", ("--rows-per-file", "0"), "from 1 to 1000000000"),
    ],
)
def test_what_compact_refuses(target, options, expected, tree, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert compact_command.main([str(tree.root), str(tmp_path / target), *options]) == 2
    assert expected in capsys.readouterr().err
    assert (tmp_path / "full" / "mine").exists()
    assert not (tmp_path / "large").exists()
