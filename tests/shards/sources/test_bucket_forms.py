"""Every form in which images are named, of a directory and of the same bucket."""

from __future__ import annotations

import io
import json
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shards.errors import ArchiveError, SourceError
from shards.names import uris_of
from shards.object_reader import ObjectReader
from shards.sources.parse import open_sources
from tests.shards.sources.archives import tar
from tests.shards.sources.buckets import fill, keys_in, listed, opened, options, read
from tests.simulators.faults import Fault


@pytest.fixture
def place(tmp_path, bucket):
    """A directory and a bucket with images in every kind of container."""
    names = ("photos/a.jpg", "photos/b.png", "photos/my sub/c!é%.jpg", "photos/note.txt", "one.jpg")
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    for number in range(3):
        members = [
            (f"x/{number}.cls", f"{number}".encode()),
            (f"x/{number}.jpg", b"first"),
            (f"x/{number}.jpg", b"second"),
            (f"x/{number}0.jpg", bytes(300_000)),
            ("x/.hidden.jpg", b"h"),
        ]
        (tmp_path / f"s-{number}.tar").write_bytes(tar(members))
    images = [{"bytes": f"row {n}".encode(), "path": f"{n}.jpg"} for n in range(5)]
    images[3] = {"bytes": None, "path": "3.jpg"}
    pq.write_table(pa.table({"image": images}), tmp_path / "i.parquet", row_group_size=2)
    named = ["photos/a.jpg", "./photos/../one.jpg", "gone.jpg", "photos/b.png", "photos/a.jpg"]
    pq.write_table(pa.table({"path": named, "id": range(5)}), tmp_path / "named.parquet")
    (tmp_path / "m.csv").write_text(
        "".join(f"{name},{n}\n" for n, name in enumerate(["path", *named]))
    )
    (tmp_path / "m.tsv").write_text(
        "".join(f"{name}\t{n}\n" for n, name in enumerate(["path", *named]))
    )
    lines = [json.dumps({"file_name": name, "id": n}) for n, name in enumerate(named)]
    (tmp_path / "m.jsonl").write_text("\n".join(lines))
    (tmp_path / "list.txt").write_text("\n".join(named))
    (tmp_path / "hf/train").mkdir(parents=True)
    (tmp_path / "hf/train/h.jpg").write_bytes(b"h")
    (tmp_path / "hf/train/metadata.jsonl").write_text('{"file_name": "h.jpg", "id": 7}\n')
    fill(bucket, tmp_path)
    return tmp_path


FORMS = [
    ("photos", {}),
    ("photos/", {"recursive": False}),
    ("photos/**/*.jpg", {}),
    ("one.jpg", {}),
    ("{one,photos/a}.jpg", {}),
    ("photos/[ab].*", {}),
    ("s-{0..2}.tar", {}),
    ("s-*.tar", {"keep_all": True}),
    ("s-1.tar", {}),
    ("i.parquet", {}),
    ("named.parquet", {"keep_all": True}),
    ("m.csv", {"keep": ("0",)}),
    ("m.tsv", {}),
    ("m.jsonl", {"keep": ("id",)}),
    ("list.txt", {}),
    ("hf", {"keep": ("id",)}),
    ("hf/train", {"keep": ("id",)}),
]


@pytest.mark.parametrize("scheme", ["s3", "gs"])
@pytest.mark.parametrize(("form", "changes"), FORMS, ids=[form for form, _ in FORMS])
def test_a_bucket_gives_what_a_directory_gives(place, scheme, form, changes):
    outcomes = []
    for root in (str(place), f"{scheme}://bucket"):
        [source] = opened(f"{root}/{form}", **changes)
        batch = listed(source)
        found = read(source, batch)
        names = [key.decode().removeprefix(root) for key in found]
        extras = None if batch.extras is None else batch.extras.to_pylist()
        outcomes.append(
            (names, list(found.values()), extras, source.kinds, source.kind, dict(source.ignored))
        )
        assert source.root.decode().startswith(root)
    assert outcomes[0] == outcomes[1]
    assert len(outcomes[0][0]) > 0


@pytest.mark.parametrize(
    ("given", "format", "count"),
    [("s3://bucket/", "webdataset", 9), ("s3://bucket/i*", "parquet", 5)],
)
def test_a_prefix_or_pattern_stands_for_the_containers_below(place, given, format, count):
    [source] = opened(given, format)
    assert len(read(source)) == count


def test_single_objects_of_two_buckets_and_of_this_machine_do_not_mix(place):
    given = [
        "s3://bucket/one.jpg",
        "gs://bucket/one.jpg",
        str(place / "one.jpg"),
        "s3://bucket/photos/a.jpg",
    ]
    sources = opened(given)
    assert [source.root for source in sources] == [
        b"s3://bucket",
        b"gs://bucket",
        str(place).encode(),
    ]
    assert [len(read(source)) for source in sources] == [2, 1, 1]


def test_uris_of_the_table_can_be_given_back(place):
    [source] = opened("s3://bucket/photos")
    keys = listed(source).keys
    [tars] = opened("s3://bucket/s-0.tar")
    keys += listed(tars).keys
    [rows] = opened("s3://bucket/i.parquet")
    keys += listed(rows).keys
    stdin = io.BytesIO("\n".join(uris_of(keys)).encode())
    [again] = open_sources(["-"], options(), stdin=stdin)
    found = read(again)
    assert set(found) == set(keys)
    expected = {
        **read(*opened("s3://bucket/photos")),
        **read(*opened("s3://bucket/s-0.tar")),
        **read(*opened("s3://bucket/i.parquet")),
    }
    assert found == expected
    words = [uri for uri in uris_of(keys) if "!" not in uri]
    assert sum(len(listed(source)) for source in opened(words)) == len(words)


def test_a_list_on_this_machine_names_objects(place):
    path = place / "objects.txt"
    path.write_text(
        "s3://bucket/one.jpg\nS3://bucket/photos/my sub/c%21é%25.jpg\ns3://bucket/gone.jpg\none.jpg\n"
        "s3://bucket/s-0.tar!x/0.jpg!2\ns3://bucket/s-0.tar!gone.jpg\ns3://bucket/gone.tar!x.jpg\ns3://bucket/a//b.jpg\n"
    )
    [source] = opened(str(path))
    found = read(source)
    relative = {key.replace(b"\0", b"!").decode(): value for key, value in found.items()}
    assert relative == {
        "s3://bucket/one.jpg": b"one.jpg",
        "s3://bucket/photos/my sub/c!é%.jpg": "photos/my sub/c!é%.jpg".encode(),
        "s3://bucket/gone.jpg": "not_found",
        "s3://bucket/s-0.tar!x/0.jpg!2": b"second",
        "s3://bucket/s-0.tar!gone.jpg": "not_found",
        "s3://bucket/gone.tar!x.jpg": "not_found",
        "s3://bucket/a//b.jpg": "read_error",
        f"{place}/one.jpg": b"one.jpg",
    }


def test_relative_names_begin_at_the_root_that_is_given(place):
    (place / "far.txt").write_text("a.jpg\nb.png\n")
    [source] = opened(str(place / "far.txt"), root=b"s3://bucket/photos")
    assert read(source) == {
        b"s3://bucket/photos/a.jpg": b"photos/a.jpg",
        b"s3://bucket/photos/b.png": b"photos/b.png",
    }


@pytest.mark.parametrize("name", ["http://x/a.jpg", "hdfs://x/a.jpg", "file://host/a.jpg"])
def test_other_schemes_are_refused_in_lists_of_buckets(place, bucket, name):
    bucket.put("bad.txt", name.encode(), {})
    [source] = opened("s3://bucket/bad.txt")
    with pytest.raises(SourceError, match=name.partition(":")[0]):
        listed(source)


def test_damaged_archives_are_reported_and_others_are_done(place, bucket):
    content = bucket.blobs["s-1.tar"].content
    bucket.put("s-1.tar", content[:4096], {})
    [source] = opened("s3://bucket/s-*.tar")
    assert len(listed(source)) == 6
    [report] = source.damaged
    assert report.startswith("s3://bucket/s-1.tar, offset ")
    [alone] = opened("s3://bucket/s-1.tar")
    with pytest.raises(ArchiveError):
        listed(alone)


def test_an_archive_that_is_replaced_is_not_read(place, bucket):
    [source] = opened("s3://bucket/s-0.tar")
    batch = listed(source)
    bucket.put("s-0.tar", tar([("x/new.jpg", b"new"), ("x/other.jpg", bytes(400_000))]), {})
    assert set(read(source, batch).values()) == {"read_error"}


def test_an_archive_that_is_replaced_while_it_is_walked_is_reported(place, bucket, monkeypatch):
    real = ObjectReader.pread

    def pread(reader, size, offset):
        content = real(reader, size, offset)
        bucket.put("s-0.tar", b"other", {})
        return content

    monkeypatch.setattr(ObjectReader, "pread", pread)
    monkeypatch.setattr("shards.sources.random_access.PART_BYTES", 1024)
    monkeypatch.setattr("shards.sources.random_access.FEW_BYTES", 1024)
    [source] = opened("s3://bucket/s-0.tar")
    with pytest.raises(ArchiveError, match="was changed while it was read"):
        listed(source)


def test_a_table_of_images_that_is_replaced_is_not_read(place, bucket):
    for root in (str(place), "s3://bucket"):
        [source] = opened(f"{root}/i.parquet")
        batch = listed(source)
        images = pa.table({"image": [{"bytes": root.encode(), "path": "1"}] * 5})
        pq.write_table(images, place / "i.parquet")
        bucket.put("i.parquet", (place / "i.parquet").read_bytes(), {})
        assert set(read(source, batch).values()) == {"read_error"}


def test_what_cannot_be_looked_at_is_never_taken_for_missing(place, bucket):
    [source] = opened("s3://bucket/list.txt")
    bucket.faults.append(
        Fault("internal", lambda request: request.path.endswith("a.jpg"), times=1000)
    )
    with pytest.raises(SourceError, match=r"cannot look at s3://bucket/.*Run the same command"):
        listed(source)


def test_only_what_is_sure_to_be_gone_is_gone(place, bucket):
    [source] = opened("s3://bucket/photos")
    listed(source)
    keys = [
        b"s3://bucket/photos/a.jpg",
        b"s3://bucket/photos/gone.jpg",
        b"s3://bucket/gone.tar\0x.jpg",
    ]
    assert source.gone(keys) == [False, True, True]
    bucket.faults.append(Fault("forbidden", lambda request: request.method == "HEAD", times=1000))
    assert source.gone(keys) == [False, False, False]


def test_members_that_an_archive_lost_are_gone(place, bucket):
    [source] = opened("s3://bucket/s-0.tar")
    listed(source)
    assert source.gone([b"s3://bucket/s-0.tar\0x/lost.jpg"]) == [True]


def test_images_outside_of_the_allowed_roots_are_refused(place):
    [source] = opened("s3://bucket/list.txt")
    source.allowed = ("s3://bucket/photos",)
    with pytest.raises(SourceError, match="allowed root"):
        listed(source)
    [source] = opened("s3://bucket/photos")
    source.allowed = ("s3://bucket/photos",)
    assert keys_in(listed(source).keys, "s3://bucket/photos") >= {"a.jpg", "b.png"}


@pytest.mark.parametrize("name", ["a%41.jpg", "x!y.jpg", "100%25.jpg", "+ #?é.jpg"])
def test_an_object_that_is_named_by_itself_is_that_object(bucket, name):
    bucket.blobs.clear()
    for key in (name, unquote(name), "aA.jpg", "x"):
        bucket.put(key, key.encode(), {})
    [source] = opened("s3://bucket/" + quote(name))
    assert read(source) == {f"s3://bucket/{name}".encode(): name.encode()}
