import os
import socket
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shards import file_statuses, listing
from shards.errors import NoImagesError, SourceError
from shards.listing import IgnoredReason, list_directory

EXTENSIONS = (".jpg", ".png")


@pytest.fixture(autouse=True)
def _keep_directory():
    before = Path.cwd()
    yield
    os.chdir(before)


def make(root: Path, *names: bytes) -> None:
    for name in names:
        path = os.path.join(os.fsencode(root), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(b"x" * len(name))


def listed(root: Path | bytes, **options):
    """Relative paths of what is listed, and the counts."""
    found = list_directory(os.fsencode(root), **{"extensions": EXTENSIONS, **options})
    paths = [path for batch in found for path in batch.keys]
    assert found.listed == len(paths)
    return [os.path.relpath(path, found.root) for path in paths], dict(found.ignored)


# Names that sort around '/' (0x2f), and bytes that are no text.
COMPONENTS = st.text(alphabet="a-./0\xff", min_size=1, max_size=3).map(
    lambda text: text.replace("/", "!").encode("latin-1").lstrip(b".") or b"z"
)
TREES = st.sets(st.lists(COMPONENTS, min_size=1, max_size=4).map(tuple), min_size=1, max_size=12)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(tree=TREES, rows=st.integers(1, 5))
def test_order_is_the_byte_order_of_full_paths(tmp_path_factory, monkeypatch, tree, rows):
    monkeypatch.setattr(listing, "BATCH_ROWS", rows)
    root = os.fsencode(tmp_path_factory.mktemp("tree"))
    made = set()
    for components in tree:
        *parents, name = components
        directory = os.path.join(root, *(parent + b"d" for parent in parents))
        os.makedirs(directory, exist_ok=True)
        path = os.path.join(directory, name + b".jpg")
        with open(path, "wb"):
            made.add(path)
    found = list_directory(root, extensions=EXTENSIONS)
    sizes = [len(batch) for batch in found]
    assert sum(sizes) == len(made)
    again = list_directory(root, extensions=EXTENSIONS)
    assert [path for batch in again for path in batch.keys] == sorted(made)


def test_directories_sort_with_their_slash(tmp_path):
    make(tmp_path, b"a.jpg", b"a/b.jpg", b"a0.jpg", b"a-/c.jpg", b"a/b/c.jpg", b"a/b0.jpg")
    assert listed(tmp_path)[0] == [
        b"a-/c.jpg",
        b"a.jpg",
        b"a/b.jpg",
        b"a/b/c.jpg",
        b"a/b0.jpg",
        b"a0.jpg",
    ]


def test_sizes_and_times_are_those_of_the_files(tmp_path):
    make(tmp_path, b"a.jpg", b"sub/long name.jpg")
    os.utime(tmp_path / "a.jpg", ns=(5, 1_700_000_000_123_456_789))
    [batch] = list_directory(os.fsencode(tmp_path), extensions=EXTENSIONS)
    assert batch.sizes.tolist() == [len("a.jpg"), len("sub/long name.jpg")]
    assert batch.mtimes_ns[0] == 1_700_000_000_123_456_789
    assert batch.mtimes_ns[1] == (tmp_path / "sub/long name.jpg").stat().st_mtime_ns


def test_suffixes_match_whatever_their_case_or_spelling(tmp_path):
    make(tmp_path, b"a.JPG", b"b.Png", b"c.jpeg", b"d.jpg.txt", b"jpg", b"e.tar.gz", b"f.gz")
    names, ignored = listed(tmp_path, extensions=["JPG", ".png", "tar.gz"])
    assert names == [b"a.JPG", b"b.Png", b"e.tar.gz"]
    assert ignored == {IgnoredReason.SUFFIX: 4}


def test_every_entry_is_listed_entered_or_counted(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    make(outside, b"o.jpg")
    make(root, b"ok.jpg", b"notes.txt", b".hidden.jpg", b".git/x.jpg", b"dir.jpg/in.jpg")
    os.mkfifo(root / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(root)  # the address of a Unix socket is limited to 108 bytes
        server.bind("socket.jpg")
    for name, target in {
        "inside.jpg": "ok.jpg",
        "outside.jpg": outside / "o.jpg",
        "dangling.jpg": "nothing.jpg",
        "self.jpg": "self.jpg",
        "loop": ".",
        "elsewhere": outside,
        "fifo.jpg": "pipe.jpg",
        "text": "notes.txt",
    }.items():
        os.symlink(target, root / name)
    names, ignored = listed(root)
    assert names == [b"dir.jpg/in.jpg", b"inside.jpg", b"ok.jpg"]
    assert ignored == {
        IgnoredReason.SUFFIX: 2,
        IgnoredReason.HIDDEN: 2,
        IgnoredReason.SPECIAL_FILE: 3,
        IgnoredReason.BROKEN_LINK: 2,
        IgnoredReason.LINK_OUTSIDE: 1,
        IgnoredReason.LINKED_DIRECTORY: 2,
    }


def test_a_listed_link_has_the_size_of_its_target(tmp_path):
    make(tmp_path, b".store/0123456789")
    os.symlink(".store/0123456789", tmp_path / "annexed.jpg")
    [batch] = list_directory(os.fsencode(tmp_path), extensions=EXTENSIONS)
    assert batch.keys == [os.fsencode(tmp_path / "annexed.jpg")]
    assert batch.sizes.tolist() == [len(".store/0123456789")]


def test_a_sibling_that_begins_like_the_root_is_outside(tmp_path):
    make(tmp_path, b"root/a.jpg", b"root2/b.jpg")
    os.symlink(tmp_path / "root2/b.jpg", tmp_path / "root/b.jpg")
    names, ignored = listed(tmp_path / "root")
    assert names == [b"a.jpg"]
    assert ignored == {IgnoredReason.LINK_OUTSIDE: 1}


def test_names_that_are_no_text_survive(tmp_path):
    names = [b"caf\xe9.jpg", b"new\nline.jpg", b"back\\slash.jpg", b"\xf0\x9f\x98\x80.jpg"]
    make(tmp_path, *names)
    assert listed(tmp_path)[0] == sorted(names)


def test_subdirectories_can_be_left_out(tmp_path):
    make(tmp_path, b"a.jpg", b"sub/b.jpg")
    assert listed(tmp_path, recursive=False) == ([b"a.jpg"], {IgnoredReason.SUBDIRECTORY: 1})


@pytest.mark.parametrize("rows", [1, 2, 3, 100])
@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 9])
def test_a_limit_takes_the_first(tmp_path, monkeypatch, rows, limit):
    monkeypatch.setattr(listing, "BATCH_ROWS", rows)
    names = [b"a.jpg", b"b/c.jpg", b"b/d.jpg", b"b/e.jpg", b"f.jpg"]
    make(tmp_path, *names)
    assert listed(tmp_path, limit=limit)[0] == names[:limit]


def test_the_output_among_the_images_is_not_entered_whatever_it_is_called(tmp_path):
    make(tmp_path, b"a.jpg", b"out/old.jpg")
    os.symlink(tmp_path / "out", tmp_path / "alias")
    names, ignored = listed(tmp_path, exclude=os.fsencode(tmp_path / "alias"))
    assert names == [b"a.jpg"]
    assert ignored == {IgnoredReason.OUTPUT: 1, IgnoredReason.LINKED_DIRECTORY: 1}


def test_the_output_itself_is_refused_as_images(tmp_path):
    make(tmp_path, b"a.jpg")
    with pytest.raises(SourceError, match="both the images and the output") as caught:
        listed(tmp_path, exclude=os.fsencode(tmp_path / "."))
    assert caught.value.exit_code == 2


def test_an_output_that_is_not_there_yet_excludes_nothing(tmp_path):
    make(tmp_path, b"a.jpg")
    assert listed(tmp_path, exclude=os.fsencode(tmp_path / "out"))[0] == [b"a.jpg"]


def test_depth_is_not_bounded_by_the_interpreter(tmp_path):
    depth = 1500  # beyond Python's recursion limit, within the kernel's limit on paths
    before = os.getcwd()
    try:
        os.chdir(tmp_path)
        for _ in range(depth):
            os.mkdir("d")
            os.chdir("d")
        with open("deep.jpg", "wb"):
            os.chdir(before)
        assert listed(tmp_path)[0] == [b"d/" * depth + b"deep.jpg"]
    finally:
        os.chdir(before)
        subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)


def test_dots_after_a_link_mean_what_the_kernel_says(tmp_path):
    make(tmp_path, b"real/deep/a.jpg", b"real/b.jpg", b"c.jpg")
    os.symlink("real/deep", tmp_path / "link")
    assert listed(os.fsencode(tmp_path) + b"/link/..")[0] == [b"b.jpg", b"deep/a.jpg"]


def test_a_link_as_root_keeps_its_name(tmp_path):
    make(tmp_path, b"real/a.jpg")
    os.symlink("real", tmp_path / "latest")
    found = list_directory(os.fsencode(tmp_path / "latest"), extensions=EXTENSIONS)
    [batch] = found
    assert batch.keys == [os.fsencode(tmp_path / "latest/a.jpg")]


def test_a_relative_root_becomes_absolute(tmp_path):
    make(tmp_path, b"images/a.jpg")
    os.chdir(tmp_path)
    [batch] = list_directory(b"images//", extensions=EXTENSIONS)
    assert batch.keys == [os.fsencode(tmp_path / "images/a.jpg")]


def test_a_root_that_is_no_directory_is_refused(tmp_path):
    make(tmp_path, b"a.jpg")
    with pytest.raises(SourceError, match=r"no such directory: .*missing"):
        listed(tmp_path / "missing")
    with pytest.raises(SourceError, match=r"a\.jpg is not a directory"):
        listed(tmp_path / "a.jpg")


def test_no_image_says_what_there_is_instead(tmp_path):
    with pytest.raises(NoImagesError, match="the directory is empty") as caught:
        listed(tmp_path)
    assert caught.value.exit_code == 4
    make(tmp_path, b"a.txt", b"b.txt", b".c.jpg", b"sub/d.jpg")
    with pytest.raises(NoImagesError, match=r"\.jpg, \.png \(subd.*1 hidden, 1 subd.*, 2 suffix"):
        listed(tmp_path, recursive=False)


def failing(function, error, *where):
    """Fail a function of os for some paths; root may read everything, so chmod proves nothing."""

    def call(path, *arguments, **options):
        if isinstance(path, bytes) and path.endswith(where):
            raise error(13, "Permission denied", path)
        return function(path, *arguments, **options)

    return call


def test_a_directory_that_cannot_be_read_is_no_silent_loss(tmp_path, monkeypatch):
    make(tmp_path, b"a.jpg", b"secret/b.jpg")
    monkeypatch.setattr(os, "scandir", failing(os.scandir, PermissionError, b"/secret/"))
    with pytest.raises(SourceError, match=r"cannot read .*/secret/: Permission denied\..*missing"):
        listed(tmp_path)


def test_a_file_without_attributes_is_no_silent_loss(tmp_path, monkeypatch):
    make(tmp_path, b"a.jpg", b"b.jpg")
    monkeypatch.setattr(os, "stat", failing(os.stat, PermissionError, b"b.jpg"))
    with pytest.raises(SourceError, match=r"cannot read .*/b\.jpg"):
        listed(tmp_path)


@pytest.fixture
def many(tmp_path, monkeypatch):
    """Twenty files, which are looked at five at a time by several threads."""
    monkeypatch.setattr(file_statuses, "PART", 5)
    names = [b"%02d.jpg" % number for number in range(19)] + [b"caf\xe9.jpg"]
    for number, name in enumerate(names):
        make(tmp_path, name)
        path = os.path.join(os.fsencode(tmp_path), name)
        os.truncate(path, number)
        os.utime(path, ns=(0, 10**18 + number))
    return names


def test_files_that_several_threads_look_at_are_those_that_one_would_list(tmp_path, many):
    with file_statuses.FileStatuses() as statuses:
        paths = [os.path.join(os.fsencode(tmp_path), name) for name in many]
        found = statuses.of(paths)
        assert found == (list(range(20)), [10**18 + number for number in range(20)])
        assert statuses.of(paths[:4]) is None
    [batch] = list_directory(os.fsencode(tmp_path), extensions=[".jpg"])
    assert batch.keys == paths
    assert batch.sizes.tolist() == list(range(20))
    assert batch.mtimes_ns.tolist() == found[1]


def test_a_link_among_many_has_the_size_of_its_target(tmp_path, many):
    (tmp_path / "19.jpg").symlink_to("18.jpg")
    [batch] = list_directory(os.fsencode(tmp_path), extensions=[".jpg"])
    assert batch.sizes.tolist()[18:20] == [18, 18]


def test_where_one_of_many_cannot_be_looked_at_each_is_looked_at(tmp_path, many, monkeypatch):
    with file_statuses.FileStatuses() as statuses:
        assert statuses.of([os.fsencode(tmp_path) + b"/%02d.jpg" % n for n in range(20)]) is None
        assert statuses.of([b"/dev/null/%02d.jpg" % number for number in range(20)]) is None
        assert statuses.of([os.fsencode(tmp_path)] * 20) is None
        assert statuses.of([b"/" + b"x" * 300] * 20) is None
    read_names = listing.Listing._names

    def vanishing(self, directory):
        names = read_names(self, directory)
        (tmp_path / "07.jpg").unlink()
        return names

    monkeypatch.setattr(listing.Listing, "_names", vanishing)
    left = [name for name in many if name != b"07.jpg"]
    assert listed(tmp_path) == (left, {IgnoredReason.VANISHED: 1})


def test_what_vanishes_while_it_is_listed_is_counted(tmp_path, monkeypatch):
    make(tmp_path, b"a.jpg", b"b.jpg", b"sub/c.jpg")
    monkeypatch.setattr(os, "stat", failing(os.stat, FileNotFoundError, b"b.jpg"))
    monkeypatch.setattr(os, "scandir", failing(os.scandir, FileNotFoundError, b"/sub/"))
    assert listed(tmp_path) == ([b"a.jpg"], {IgnoredReason.VANISHED: 2})


def test_a_directory_that_cannot_be_opened_again_is_listed_by_full_paths(tmp_path, monkeypatch):
    make(tmp_path, b"a.jpg", b"sub/b.jpg")
    monkeypatch.setattr(os, "open", failing(os.open, OSError, b"/"))
    assert listed(tmp_path) == ([b"a.jpg", b"sub/b.jpg"], {})


@pytest.mark.parametrize("extensions", [[], [""], ["."], [".jpg", ""]])
def test_extensions_must_say_something(tmp_path, extensions):
    with pytest.raises(ValueError, match="extensions"):
        listed(tmp_path, extensions=extensions)


def test_a_limit_must_be_positive(tmp_path):
    with pytest.raises(ValueError, match="limit"):
        listed(tmp_path, limit=0)
