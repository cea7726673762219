"""The command on images in buckets: what a directory gives, and what a store can do to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.end_to_end.commands import DIGITS, rows
from tests.end_to_end.commands import run_digits as run
from tests.shards.sources.archives import tar
from tests.shards.sources.buckets import fill
from tests.simulators.faults import Fault
from tests.simulators.object_server import connected
from tests.simulators.small_store import SmallStore, small_store

SOURCES = ("photos", "s-{0..1}.tar", "i.parquet", "m.csv", "photos/**/*1*.png")


@pytest.fixture(scope="module")
def store() -> Iterator[SmallStore]:
    with small_store() as server, connected(server.environment):
        yield server


@pytest.fixture(scope="module")
def place(tmp_path_factory, store) -> Path:
    """Images as files, members, rows and names, in a directory and in a bucket."""
    folder = tmp_path_factory.mktemp("images")
    images = sorted((DIGITS / "images/three").iterdir())[:12]
    contents = [path.read_bytes() for path in images]
    for number, content in enumerate(contents[:8]):
        path = folder / "photos" / f"{'my sub/' if number % 2 else ''}{number}%é.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (folder / "photos/bad.png").write_bytes(contents[0][:60])
    (folder / "photos/note.txt").write_text("no image")
    for number in range(2):
        members = [(f"x/{n}.png", content) for n, content in enumerate(contents[8:])]
        (folder / f"s-{number}.tar").write_bytes(tar(members))
    pq.write_table(pa.table({"image": contents[:4]}), folder / "i.parquet")
    (folder / "m.csv").write_text("path,id\nphotos/0%é.png,1\ngone.png,2\n")
    fill(store, folder)
    return folder


def comparable(found: dict[str, dict], root: str) -> dict[str, tuple]:
    return {
        uri.removeprefix(root): tuple(
            row[name] for name in ("file_name", "label", "score", "width", "height", "error_kind")
        )
        for uri, row in found.items()
    }


@pytest.fixture(scope="module")
def local(place, tmp_path_factory) -> dict[str, tuple]:
    out = tmp_path_factory.mktemp("local") / "out"
    run(*(place / source for source in SOURCES), "--output", out)
    return comparable(rows(out, by="uri"), place.as_uri())


def test_a_bucket_gives_the_rows_of_a_directory_and_then_only_what_changed(
    place, store, local, tmp_path
):
    out = tmp_path / "out"
    words = [f"s3://bucket/{source}" for source in SOURCES]
    _, summary, _ = run(*words, "--output", out)
    found = rows(out, by="uri")
    assert comparable(found, "s3://bucket") == local
    assert summary["images"] == len(local) == 9 + 8 + 4 + 1
    assert {row["error_kind"] for row in found.values()} == {None, "truncated", "not_found"}

    # SmallStore stamps every object with one time, so ETags alone tell that one was overwritten.
    changed = bytearray(store.blobs["photos/2%é.png"].content)
    changed[-20] ^= 1
    store.put("photos/2%é.png", bytes(changed), {})
    del store.blobs["photos/4%é.png"]
    store.seen.clear()
    run(*words, "--output", out, "--prune")
    again = rows(out, by="uri")
    gone, other = "s3://bucket/photos/4%25%C3%A9.png", "s3://bucket/photos/2%25%C3%A9.png"
    # gone.png was never there: m.csv names it, so it keeps its row.
    assert set(again) == set(found) - {gone}
    assert again[other]["run_id"] != found[other]["run_id"]
    read = [
        r.path for r in store.seen if r.method == "GET" and r.path.startswith("/bucket/photos/")
    ]
    assert read == ["/bucket/photos/2%é.png"]


def test_the_quarantine_list_can_be_given_back(place, store, tmp_path):
    fill(store, place)
    out = tmp_path / "out"
    store.faults.append(Fault("forbidden", lambda r: r.path.endswith("6%é.png"), times=10**6))
    run("s3://bucket/photos", "--output", out, "--max-error-rate", 1)
    kinds = {row["error_kind"] for row in rows(out, by="uri").values()}
    assert kinds == {None, "permission_denied", "truncated"}
    store.faults.clear()
    [errors] = out.glob("runs/*/errors.csv")
    code, summary, _ = run(errors, "--output", out, "--retry-errors", "--max-error-rate", 1)
    assert code == 0
    assert summary["images"] == 2
    kinds = [row["error_kind"] for row in rows(out, by="uri").values()]
    assert (kinds.count(None), kinds.count("truncated")) == (8, 1)


def test_an_empty_prefix_has_an_exit_code_of_its_own(store, tmp_path):
    code, _, said = run("s3://bucket/nothing/", "--output", tmp_path / "out")
    assert code == 4
    assert "no object's key begins so" in said
