import ctypes
import errno
import os
import time
from pathlib import Path

import pytest

from shards import exclusive
from shards.errors import OutputError
from shards.local_tree import LocalTree
from shards.output import OutputTree, output_errors


@pytest.fixture
def tree(tmp_path):
    return LocalTree.create(tmp_path / "out")


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def put(tree: OutputTree, final: Path, content: bytes) -> bool:
    with tree.stage("test") as staged:
        staged.file.write(content)
        return tree.publish(staged, final)


def without_links(monkeypatch):
    def link(source, target):
        raise PermissionError(errno.EPERM, "Operation not permitted", str(source))

    monkeypatch.setattr(os, "link", link)


def test_create_makes_the_tree_and_leaves_no_file(tree):
    directories = {str(path.relative_to(tree.root)) for path in tree.root.rglob("*")}
    assert directories == {
        "predictions",
        "runs",
        "state",
        "state/staging",
        "state/plans",
        "state/locks",
    }
    assert LocalTree.create(tree.root) == tree == LocalTree(tree.root)


def test_paths_are_those_of_the_contract(tree):
    assert tree.shard_path("m@0123", "p000001-00000").relative_to(tree.root) == Path(
        "predictions/model=m@0123/p000001-00000.parquet"
    )
    assert tree.plan_path(7).relative_to(tree.root) == Path("state/plans/000007.parquet")
    assert tree.run_path("r-1").relative_to(tree.root) == Path("runs/r-1")


def test_a_relative_output_becomes_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert LocalTree.create(Path("out")).root == tmp_path / "out"


def test_what_readers_take_for_syntax_is_encoded_in_the_partition(tree):
    assert tree.shard_path("a=b/c%41 (d)@1", "s").parent.name == "model=a%3Db%2Fc%2541 (d)@1"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", ".hidden", "a\n", "ü", "-x"])
def test_names_that_could_leave_the_tree_are_refused(tree, name):
    with pytest.raises(ValueError, match="cannot name a file"):
        tree.run_path(name)
    with pytest.raises(ValueError, match="cannot name a file"):
        tree.shard_path("m", name)


@pytest.mark.parametrize("below", ["", "below"])
def test_an_output_that_is_a_file_is_refused(tmp_path, below):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match=r"Part of that path is a file") as caught:
        LocalTree.create(tmp_path / "file" / below)
    assert str(tmp_path / "file") in str(caught.value)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (errno.ENOSPC, "disk is full: free space"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permission"),
        (errno.EIO, "check the disk"),
        (errno.ENXIO, "Remove the cause"),
    ],
)
def test_errors_name_the_path_the_reason_and_the_remedy(code, remedy):
    with (
        pytest.raises(OutputError, match=remedy) as caught,
        output_errors("write", Path("/out/x")),
    ):
        raise OSError(code, os.strerror(code))
    assert str(caught.value).startswith(f"cannot write /out/x: {os.strerror(code)}. ")
    assert "finished shards are kept" in str(caught.value)
    assert caught.value.exit_code == 1


def test_an_output_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    def touch(path, **options):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(Path, "touch", touch)
    with pytest.raises(OutputError, match=r"write below the output directory .*Read-only"):
        LocalTree.create(tmp_path / "out")


def test_publishing_happens_once(tree):
    final = tree.runs / "x"
    assert put(tree, final, b"first")
    assert not put(tree, final, b"second")
    assert final.read_bytes() == b"first"
    assert files(tree.root) == ["runs/x"]


def test_permissions_are_what_umask_leaves(tree):
    before = os.umask(0o027)
    try:
        put(tree, tree.runs / "a", b"")
        os.umask(0o002)
        put(tree, tree.runs / "b", b"")
    finally:
        os.umask(before)
    assert [(tree.runs / name).stat().st_mode & 0o777 for name in "ab"] == [0o640, 0o664]


def test_replace_swaps_the_content(tree):
    final = tree.runs / "x"
    put(tree, final, b"first")
    with tree.stage("test") as staged:
        staged.file.write(b"second")
        tree.replace(staged, final)
    assert final.read_bytes() == b"second"
    assert files(tree.root) == ["runs/x"]


def test_without_hard_links_publishing_still_happens_once(tmp_path, monkeypatch):
    without_links(monkeypatch)
    tree = LocalTree.create(tmp_path / "out")
    assert not tree.hard_links
    final = tree.runs / "x"
    assert put(tree, final, b"first")
    assert not put(tree, final, b"second")
    assert final.read_bytes() == b"first"
    assert files(tree.root) == ["runs/x"]


class NoRename:
    """A C library without renameat2, or a file system that does not know the flag."""

    def renameat2(self, *arguments):
        ctypes.set_errno(errno.EINVAL)
        return -1


@pytest.mark.parametrize("library", [NoRename(), object()])
def test_without_any_exclusive_operation_the_output_is_refused(tmp_path, monkeypatch, library):
    without_links(monkeypatch)
    monkeypatch.setattr(exclusive.ctypes, "CDLL", lambda *_, **__: library)
    with pytest.raises(OutputError, match=r"neither hard links nor exclusive rename.*Choose"):
        LocalTree.create(tmp_path / "out")
    assert files(tmp_path) == []


def test_links_that_overwrite_are_found_out(tmp_path, monkeypatch):
    def careless_link(source, target):
        Path(target).unlink(missing_ok=True)
        link(source, target)

    link = os.link
    monkeypatch.setattr(os, "link", careless_link)
    assert not LocalTree.create(tmp_path / "out").hard_links


def test_a_lost_reply_to_a_link_that_succeeded_counts_as_success(tree, monkeypatch):
    def link(source, target):
        real(source, target)
        raise OSError(errno.EIO, "Input/output error")

    real = os.link
    monkeypatch.setattr(os, "link", link)
    assert put(tree, tree.runs / "x", b"mine")
    monkeypatch.setattr(os, "link", real)
    assert not put(tree, tree.runs / "x", b"other")


def test_a_writer_whose_staged_file_was_cleared_away_accepts_the_other_run(tree):
    final = tree.runs / "x"
    with tree.stage("late") as late:
        late.path.unlink()
        put(tree, final, b"first")
        assert not tree.publish(late, final)
    with tree.stage("late") as late:
        late.path.unlink()
        with pytest.raises(OutputError, match="cannot write"):
            tree.publish(late, tree.runs / "nobody")


def test_directories_that_cannot_be_synced_are_no_error(tree, monkeypatch):
    def fsync(descriptor):
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", fsync)
    assert put(tree, tree.runs / "x", b"first")


def test_staged_files_are_synced_before_their_name_exists(tree, monkeypatch):
    calls = []

    def record(name, function):
        def call(*arguments, **options):
            result = function(*arguments, **options)
            is_directory = name == "fsync" and os.path.isdir(f"/proc/self/fd/{arguments[0]}")
            calls.append(name + (" directory" if is_directory else ""))
            return result

        return call

    for name in ("fsync", "link"):
        monkeypatch.setattr(os, name, record(name, getattr(os, name)))
    put(tree, tree.runs / "x", b"first")
    assert calls == ["fsync", "link", "fsync directory"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_staged_file_goes_with_its_block(tree, error):
    def fail_half_way():
        with tree.stage("test") as staged:
            staged.file.write(b"half")
            assert not staged.path.name.endswith(".parquet")
            raise error

    with pytest.raises(error):
        fail_half_way()
    assert files(tree.root) == []


def test_only_abandoned_files_are_cleared(tree):
    day = 24 * 3600
    for name, age in {"new": 0, "recent": day - 600, "old": day + 600}.items():
        path = tree.staging / name
        path.touch()
        os.utime(path, (time.time() - age, time.time() - age))
    (tree.staging / "directory").mkdir()
    LocalTree.create(tree.root)
    assert files(tree.staging) == ["new", "recent"]


def test_an_output_whose_name_is_no_text_works(tmp_path):
    tree = LocalTree.create(Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")))
    assert put(tree, tree.runs / "x", b"first")
