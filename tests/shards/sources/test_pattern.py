import glob
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shards.sources.pattern import PathPattern, is_pattern, split_pattern

PARTS = st.sampled_from(["*", "?", "a", "b*", "[ab]", "[!a]", "**", "a?c", "*b"])
NAMES = ["a", "b", "ab", "abc", "bb", "c.jpg", "a.jpg", "]"]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("tree")
    for one in NAMES:
        for two in NAMES:
            (root / f"d{one}" / two).mkdir(parents=True)
            (root / one / two).mkdir(parents=True, exist_ok=True)
            (root / one / two / "x").touch()
            (root / f"{one}{two}.f").touch()
    return root


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(parts=st.lists(PARTS, min_size=1, max_size=4))
def test_files_are_those_of_glob(tree, parts):
    text = "/".join(parts)
    pattern = PathPattern(text, recursive=False)
    found = glob.glob(text, root_dir=tree, recursive=True)
    files = {name for name in found if os.path.isfile(tree / name)}
    every = [
        os.path.relpath(os.path.join(folder, name), tree)
        for folder, _, names in os.walk(tree)
        for name in names
    ]
    meant = {name for name in every if pattern.matches(name.encode())}
    # What lies directly in a directory that matches is meant too.
    assert files <= meant
    folders = {name.rstrip("/") for name in found if os.path.isdir(tree / name)}
    assert {os.path.dirname(name) for name in meant - files} <= folders
    for name in meant:
        folder = os.path.dirname(name)
        while folder:
            assert pattern.may_hold(folder.encode())
            folder = os.path.dirname(folder)


def test_a_directory_that_matches_stands_for_its_tree():
    pattern = PathPattern("2026-*/raw", recursive=True)
    assert pattern.matches(b"2026-01/raw/a/b.jpg")
    assert not pattern.matches(b"2026-01/raw.jpg/b.jpg")
    assert pattern.may_hold(b"2026-01")
    assert pattern.may_hold(b"2026-01/raw/a")
    assert not pattern.may_hold(b"2026-01/other")


def test_bytes_that_are_no_text_match():
    assert PathPattern("caf*", recursive=True).matches(b"caf\xe9")
    assert PathPattern("é?", recursive=True).matches("éx".encode())


@pytest.mark.parametrize(
    ("text", "split"),
    [
        ("*.jpg", (".", "*.jpg")),
        ("/*/a", ("/", "*/a")),
        ("a/b/c*/d", ("a/b", "c*/d")),
        ("/a/**", ("/a", "**")),
        ("a/[x/y]", ("a", "[x/y]")),
    ],
)
def test_the_directory_before_a_pattern(text, split):
    assert is_pattern(text)
    assert split_pattern(text) == split
