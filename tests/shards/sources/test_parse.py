"""What the user names, in every form: which images it stands for, and what is said of mistakes."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shards.errors import ArchiveError, NoImagesError, SourceError
from shards.inputs import ShardInputs
from shards.names import file_names_of
from shards.plan import ShardRef
from shards.sources.parse import open_sources
from shards.sources.reading import stored_items
from shards.stored import Stored
from tests.shards.sources.archives import tar
from tests.shards.sources.buckets import content_of, options, shard_of


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A directory with images of every kind of container, and the current one."""
    for name in ("photos/a.jpg", "photos/b.png", "photos/sub/c.jpg", "photos/note.txt", "one.jpg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(name.encode())
    for number in range(3):
        members = [(f"x/{number}{n}.jpg", f"{number}{n}".encode()) for n in range(2)]
        (tmp_path / f"s-{number}.tar").write_bytes(tar(members))
    images = [{"bytes": f"row {n}".encode(), "path": f"{n}.jpg"} for n in range(5)]
    pq.write_table(pa.table({"image": images}), tmp_path / "i.parquet", row_group_size=2)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(given: list[str] | str, format: str = "auto", **changes: object) -> dict[str, object]:
    """File name to bytes of every image, as a shard would read them; order is checked."""
    found: dict[str, object] = {}
    opened = open_sources([given] if isinstance(given, str) else given, options(**changes), format)
    for source in opened:
        for batch in source.batches():
            assert batch.keys == sorted(set(batch.keys))
            names = file_names_of(batch.keys, source.root)
            for name, item in zip(names, stored_items(shard_of(source, batch)), strict=True):
                stored = isinstance(item, Stored)
                found[name] = content_of(item, b"missing") if stored else item.kind.value
    return found


PHOTOS = {"a.jpg": b"photos/a.jpg", "b.png": b"photos/b.png", "sub/c.jpg": b"photos/sub/c.jpg"}


def only(*names: str) -> dict[str, bytes]:
    return {name: PHOTOS[name] for name in names}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("photos", PHOTOS),
        ("photos/", PHOTOS),
        ("photos/*.jpg", only("a.jpg")),
        ("photos/**/*.jpg", only("a.jpg", "sub/c.jpg")),
        ("photos/**", PHOTOS),
        ("photos/[ab].*", only("a.jpg", "b.png")),
        ("photos/[!a].*", only("b.png")),
        ("ph?tos/s*", {"photos/sub/c.jpg": b"photos/sub/c.jpg"}),
        ("photos/{a.jpg,sub/c.jpg}", only("a.jpg", "sub/c.jpg")),
        (["photos/b.png", "photos/a.jpg", "photos/a.jpg"], only("a.jpg", "b.png")),
        ("one.jpg", {"one.jpg": b"one.jpg"}),
    ],
)
def test_files(place, given, expected):
    assert contents(given) == expected
    if isinstance(given, str) and not given.startswith("ph?"):
        assert contents(str(place / given)) == expected
        assert contents((place / given).as_uri() if "[" not in given else given) == expected


SHARDS = {f"s-{s}.tar!x/{s}{n}.jpg": f"{s}{n}".encode() for s in range(3) for n in range(2)}


@pytest.mark.parametrize(
    ("given", "format"),
    [
        ("s-{0..2}.tar", "auto"),
        ("s-*.tar", "auto"),
        (["s-2.tar", "s-0.tar", "s-1.tar"], "auto"),
        ("s-{0,1,2}.tar", "webdataset"),
        (".", "webdataset"),
    ],
)
def test_archives(place, given, format):
    assert contents(given, format) == SHARDS


def test_tables_of_images(place):
    rows = {f"i.parquet!{n:012d}": f"row {n}".encode() for n in range(5)}
    assert contents("i.parquet") == contents(".", "parquet") == contents("*.parquet") == rows


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_manifests(place, suffix):
    paths = ["a.jpg", "sub/c.jpg", "gone.jpg", "./b.png", "a.jpg", str(place / "one.jpg")]
    write_table(place / f"photos/m.{suffix}", {"path": paths, "id": [str(n) for n in range(6)]})
    expected = {**PHOTOS, "gone.jpg": b"missing", str(place / "one.jpg"): b"one.jpg"}
    assert contents(f"photos/m.{suffix}") == expected
    [source] = open_sources([f"photos/m.{suffix}"], options(keep=("id",)))
    [batch] = source.batches()
    assert source.ignored == {"repeated": 1}
    extras = dict(
        zip(file_names_of(batch.keys, source.root), batch.extras.to_pylist(), strict=True)
    )
    assert extras["sub/c.jpg"] == '{"id":"1"}'
    assert extras["a.jpg"] == '{"id":"0"}'
    assert batch.sizes.tolist() == [
        (place / "photos" / name).stat().st_size if name != "gone.jpg" else 0 for name in extras
    ]


def write_table(path: Path, columns: dict[str, list[object]]) -> None:
    names = list(columns)
    rows = list(zip(*columns.values(), strict=True))
    if path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path)
    elif path.suffix == ".jsonl":
        path.write_text(
            "".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows)
        )
    else:
        mark = "," if path.suffix == ".csv" else "\t"
        path.write_text("".join(mark.join(map(str, row)) + "\n" for row in [names, *rows]))


def test_lists(place):
    (place / "list.txt").write_bytes(b"photos/a.jpg\r\nphotos/sub/c.jpg\n\nphotos/a.jpg")
    expected = {f"photos/{name}": content for name, content in only("a.jpg", "sub/c.jpg").items()}
    assert contents("list.txt") == expected
    assert contents("list.txt", root=os.fsencode(place)) == expected
    [source] = open_sources(["list.txt"], options())
    assert sum(map(len, source.batches())) == 2
    assert source.ignored == {"no_path": 1, "repeated": 1}


def test_lists_from_find(place):
    odd = "photos/new\nline.jpg"
    (place / odd).write_bytes(b"x")
    stdin = io.BytesIO(b"\0".join([odd.encode(), b"photos/a.jpg", b""]))
    [source] = open_sources(["-"], options(), stdin=stdin)
    [batch] = source.batches()
    assert [os.path.relpath(key, os.fsencode(place)) for key in batch.keys] == [
        b"photos/a.jpg",
        odd.encode(),
    ]


def test_uris_of_the_table_can_be_given_back(place):
    uris = ["s-1.tar!x/11.jpg", "i.parquet!000000000003", "photos/a.jpg", "s-1.tar!gone.jpg",
            "none.tar!gone.jpg", "i.parquet!000000000009"]  # fmt: skip
    (place / "again.txt").write_text("\n".join(f"file://{place}/{uri}" for uri in uris))
    assert contents("again.txt") == {
        "photos/a.jpg": b"photos/a.jpg",
        "s-1.tar!x/11.jpg": b"11",
        "s-1.tar!gone.jpg": "not_found",
        "none.tar!gone.jpg": "not_found",
        "i.parquet!000000000003": b"row 3",
        "i.parquet!000000000009": "not_found",
    }


def test_kinds_can_be_mixed(place):
    found = contents(["photos", "s-0.tar", "one.jpg", "i.parquet"])
    assert len(found) == 3 + 2 + 1 + 5


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("nothing", r"no such file or directory: nothing\. Give"),
        ("s-{0..9}.tar", r"no such file or directory: s-3\.tar of s-\{0\.\.9\}\.tar"),
        ("s-{0..99999999}.tar", "100,000,000 names; at most 100,000"),
        ("s-{9..0}.tar", "runs downwards"),
        ("https://example.org/a.jpg", "web addresses are not read"),
        ("hdfs://x/y", "nothing reads hdfs://"),
        ("x.tar.gz", r"is compressed.*gunzip"),
        ("x.dat", "Say it by --input-format"),
        ("bad.csv", r"has no column uri or file_name .*it has a, b\. Say by --uri-column"),
        ("http.csv", "web addresses are not read"),
        ("bad.jsonl", "line 2: no JSON"),
        ("list.jsonl", "line 1: expected an object"),
        ("bad.parquet", r"cannot read .*bad\.parquet"),
        ("file:///a%b!%", "no such file"),
    ],
)
def test_mistakes_are_explained(place, given, words):
    for name, content in {
        "x.tar.gz": "", "x.dat": "", "bad.csv": "a,b\n1,2\n", "bad.jsonl": '{"path": "x"}\n{\n',
        "http.csv": "url\nhttp://169.254.169.254/\n", "list.jsonl": "[]\n", "bad.parquet": "x",
    }.items():  # fmt: skip
        (place / name).write_text(content)
    with pytest.raises(SourceError, match=words) as caught:
        contents(given)
    assert caught.value.exit_code == 2


def test_a_damaged_archive_keeps_nothing_and_the_others_all(place):
    whole = (place / "s-1.tar").read_bytes()
    (place / "s-1.tar").write_bytes(whole[:1024])
    [source] = open_sources(["s-*.tar"], options())
    keys = [key for batch in source.batches() for key in batch.keys]
    assert len(keys) == 4
    assert not any(b"s-1.tar" in key for key in keys)
    [text] = source.damaged
    assert "s-1.tar, offset 1024 of 1024: the archive ends without" in text
    [alone] = open_sources(["s-1.tar"], options())
    with pytest.raises(ArchiveError, match=r"s-1\.tar, offset 1024"):
        list(alone.batches())


def test_only_what_was_looked_for_in_vain_is_gone(place):
    (place / "s-1.tar").write_bytes((place / "s-1.tar").read_bytes()[:1024])
    [source] = open_sources(["s-*.tar"], options())
    list(source.batches())
    keys = {
        "s-0.tar\0x/00.jpg": True,  # not listed, says who asks: the archive was read to its end
        "s-1.tar\0x/10.jpg": False,
        "s-9.tar\0x/90.jpg": True,
        "one.jpg": False,
        "none.jpg": True,
    }
    gone = source.gone([os.fsencode(place / key) for key in keys] + [b"s3://bucket/a.jpg"])
    assert gone == [*keys.values(), False]


def test_an_archive_that_changed_since_is_not_read(place):
    [source] = open_sources(["s-0.tar"], options())
    [batch] = source.batches()
    os.utime("s-0.tar", ns=(1, 1))
    arrays = batch.sizes, batch.mtimes_ns, batch.offsets
    items = stored_items(ShardInputs(ShardRef(1, 0, 2, ""), source.root, batch.keys, *arrays))
    assert [item.kind.value for item in items] == ["read_error"] * 2


@pytest.mark.parametrize("given", ["photos/*.gif", "empty.csv", "empty.tar"])
def test_nothing_is_said_to_be_nothing(place, given):
    (place / "empty.csv").write_text("path\n")
    (place / "empty.tar").write_bytes(tar([("a.txt", b"x")]))
    with pytest.raises(NoImagesError, match="no image in"):
        contents(given)


def test_a_limit_counts_over_batches(place):
    [source] = open_sources(["s-*.tar"], options())
    assert sum(map(len, source.batches(3))) == 3
    assert source.listed == 3


def test_members_of_one_name_are_told_apart(place):
    content = tar([("a.jpg", b"%d" % n) for n in range(12)] + [("b.jpg", b"b")])
    (place / "twice.tar").write_bytes(content)
    found = contents("twice.tar")
    assert found["twice.tar!a.jpg"] == b"0"
    assert found["twice.tar!a.jpg!2"] == b"1"
    assert found["twice.tar!a.jpg!12"] == b"11"
    assert len(found) == 13


def test_samples_of_webdataset(place):
    members = [("00.cls", b"3"), ("00.jpg", b"x"), ("00.json", b'{"w": 1.5, "who": "me"}'),
               ("00.png", b"y"), ("01.JPG", b"z"), ("01.txt", b"a cat\n"), ("01.cls", b"4"),
               ("02.seg.jpg", b"s"), ("dir.x/03.jpg", b"t"), ("._04.jpg", b""), ("./05.jpg", b"u"),
               ("06.bin", b"")]  # fmt: skip
    (place / "w.tar").write_bytes(tar(members))
    [source] = open_sources(["w.tar"], options(keep=("w", "txt")))
    [batch] = source.batches()
    assert dict(
        zip(file_names_of(batch.keys, source.root), batch.extras.to_pylist(), strict=True)
    ) == {
        "w.tar!00.jpg": '{"target":"3","w":1.5}',
        "w.tar!00.png": '{"target":"3","w":1.5}',
        "w.tar!01.JPG": '{"txt":"a cat","target":"4"}',
        "w.tar!02.seg.jpg": None,
        "w.tar!dir.x/03.jpg": None,
        "w.tar!./05.jpg": None,
    }
    assert source.ignored == {"sidecar": 4, "hidden": 1, "suffix": 1}
    assert source.kinds == {"target": "string", "w": "double", "txt": "string"}


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_metadata_of_an_imagefolder(place, suffix):
    rows = {
        "file_name": ["sub/c.jpg", "gone.jpg", "a.jpg"],
        "label": ["x", "y", "z"],
        "id": [1, 2, 3],
    }
    write_table(place / f"photos/metadata.{suffix}", rows)
    [source] = open_sources(["photos"], options(keep=("id",)))
    [batch] = source.batches()
    number = '"1"' if suffix == "csv" else "1"
    assert dict(
        zip(file_names_of(batch.keys, source.root), batch.extras.to_pylist(), strict=True)
    ) == {
        "a.jpg": '{"id":3,"target":"z"}'.replace("3", number.replace("1", "3")),
        "b.png": None,
        "sub/c.jpg": f'{{"id":{number},"target":"x"}}',
    }
    assert source.ignored["metadata_without_image"] == 1


def test_a_damaged_group_of_a_table_costs_its_own_rows(place):
    images = [{"bytes": bytes([n]) * 3000, "path": None} for n in range(6)]
    path = place / "d.parquet"
    pq.write_table(
        pa.table({"image": images}), path, row_group_size=2, write_page_checksum=True,
        compression="none", use_dictionary=False, write_statistics=False,
    )  # fmt: skip
    content = path.read_bytes()
    where = content.index(bytes([3]) * 3000)
    path.write_bytes(content[:where] + b"?" + content[where + 1 :])
    found = list(contents("d.parquet").values())
    assert found[2:4] == ["read_error"] * 2
    assert [*found[:2], *found[4:]] == [bytes([n]) * 3000 for n in (0, 1, 4, 5)]
    path.write_bytes(content[:-9])
    with pytest.raises(ArchiveError, match=r"d\.parquet"):
        contents("d.parquet", "parquet")


def test_class_labels_of_hugging_face(place):
    info = {"info": {"features": {"label": {"_type": "ClassLabel", "names": ["cat", "dog"]}}}}
    images = [{"bytes": b"x", "path": None}, {"bytes": None, "path": "gone.jpg"}]
    table = pa.table(
        {"image": images, "label": [1, 0], "when": [np.datetime64("2026-01-02", "us")] * 2}
    )
    table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    pq.write_table(table, place / "h.parquet")
    assert list(contents("h.parquet").values()) == [b"x", "not_found"]
    [source] = open_sources(["h.parquet"], options(keep_all=True))
    [batch] = source.batches()
    assert json.loads(batch.extras[0].as_py()) == {
        "input_label": 1, "when": 1767312000000000, "target": "dog",
    }  # fmt: skip
    assert source.kinds == {"input_label": "int64", "when": "timestamp", "target": "string"}
