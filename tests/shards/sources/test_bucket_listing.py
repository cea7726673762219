"""Prefixes of buckets, listed by the rules of directories."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shards.errors import NoImagesError, SourceError
from shards.sources import bucket_listing, bucket_pages
from tests.shards.sources.buckets import fill, keys_in, listed, opened

# Names that sort around '/' (0x2f), hidden ones, and some that URIs have to encode.
NAMES = st.text(alphabet="a-.0 %ü!", min_size=1, max_size=3).filter(
    lambda text: text.strip(".") == text or text.lstrip(".")
)
FILES = st.tuples(NAMES, st.sampled_from([".jpg", ".JPG", ".txt", ".png", ""])).map("".join)
TREES = st.sets(
    st.tuples(st.lists(NAMES.map(lambda name: name + "d"), max_size=3), FILES).map(
        lambda parts: "/".join([*parts[0], parts[1]])
    ),
    min_size=1,
    max_size=15,
)


def all_of(place: str) -> None:
    [source] = opened(place)
    listed(source)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    tree=TREES,
    recursive=st.booleans(),
    pattern=st.sampled_from(["", "/*", "/**/*.jpg", "/*d/*", "/[!a]*", "/**/?d/**"]),
    page=st.sampled_from([1, 2, 1000]),
    rows=st.sampled_from([1, 3, 1000]),
)
def test_a_prefix_is_listed_as_the_same_directory(
    bucket, monkeypatch, tree, recursive, pattern, page, rows
):
    monkeypatch.setattr(bucket_pages, "PAGE", page)
    monkeypatch.setattr(bucket_listing, "BATCH_ROWS", rows)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "t"
        for name in tree:
            if name.split("/")[-1] in (".", ".."):
                continue
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            if not (root / name).exists():
                (root / name).write_bytes(name.encode())
        root.mkdir(exist_ok=True)
        fill(bucket, Path(folder))
        outcomes = []
        for place in (str(root), "s3://bucket/t", "gs://bucket/t"):
            [source] = opened(place + pattern, recursive=recursive)
            try:
                batch = listed(source)
                outcome = keys_in(batch.keys, place), sorted(batch.sizes.tolist())
            except NoImagesError:
                outcome = set(), []
            outcomes.append((*outcome, {k: n for k, n in source.ignored.items() if n}))
        assert outcomes[0] == outcomes[1] == outcomes[2]


@pytest.fixture
def photos(bucket):
    bucket.blobs.clear()
    for name in ("a.jpg", "b.jpg", "note.txt", "sub/c.jpg", ".git/x.jpg", "out/plot.jpg"):
        bucket.put(f"photos/{name}", name.encode(), {})
    bucket.put("photos-2/d.jpg", b"d", {})
    bucket.seen.clear()
    return bucket


@pytest.mark.parametrize(
    "given", ["s3://bucket/photos", "s3://bucket/photos/", "S3://bucket/photos"]
)
def test_slash_and_case_of_the_scheme_do_not_matter(photos, given):
    [source] = opened(given, exclude=b"s3://bucket/photos/out")
    assert listed(source).keys == [
        f"s3://bucket/photos/{n}".encode() for n in ("a.jpg", "b.jpg", "sub/c.jpg")
    ]
    assert source.root == b"s3://bucket/photos"
    assert dict(source.ignored) == {"suffix": 1, "hidden": 1, "output": 1}


def test_a_whole_bucket(photos):
    for place in ("s3://bucket", "s3://bucket/"):
        [source] = opened(place)
        assert len(listed(source)) == 5
        assert source.root == b"s3://bucket"


def test_marks_of_folders_are_no_images(photos):
    for name in ("photos/", "photos/sub/", "photos/s/"):
        photos.put(name, b"", {})
    photos.put("photos/sub-2.jpg", b"2", {})  # sorts before sub/, which obstore calls sub
    [source] = opened("s3://bucket/photos")
    assert keys_in(listed(source).keys, "s3://bucket/photos") == {
        "a.jpg",
        "b.jpg",
        "sub/c.jpg",
        "sub-2.jpg",
        "out/plot.jpg",
    }
    assert source.ignored["suffix"] <= 2  # of a mark that is in order, nobody can tell


def test_a_folder_that_is_named_like_an_image_is_none(photos):
    photos.put("photos/album.jpg/", b"", {})
    photos.put("photos/album.jpg/e.jpg", b"e", {})
    photos.put("photos/empty.jpg", b"", {})
    [source] = opened("s3://bucket/photos/*.jpg")
    assert keys_in(listed(source).keys, "s3://bucket/photos") == {
        "a.jpg",
        "b.jpg",
        "album.jpg/e.jpg",
        "empty.jpg",
    }


def test_limit_asks_for_no_more_than_it_needs(bucket, monkeypatch):
    bucket.blobs.clear()
    for number in range(50):
        bucket.put(f"p/{number:04d}.jpg", b"x", {})
    monkeypatch.setattr(bucket_pages, "PAGE", 10)
    [source] = opened("s3://bucket/p/")
    monkeypatch.setattr(source.listing, "_is_meant", counted := Counted(source.listing._is_meant))
    assert len(listed(source, limit=5)) == 5
    assert counted.calls == 10


class Counted:
    def __init__(self, call):
        self.call, self.calls = call, 0

    def __call__(self, *arguments):
        self.calls += 1
        return self.call(*arguments)


def test_long_hidden_directories_are_skipped(bucket, monkeypatch):
    bucket.blobs.clear()
    for number in range(100):
        bucket.put(f"p/.hidden/{number:04d}.jpg", b"x", {})
    bucket.put("p/z.jpg", b"z", {})
    monkeypatch.setattr(bucket_pages, "PAGE", 10)
    [source] = opened("s3://bucket/p")
    monkeypatch.setattr(source.listing, "_is_meant", counted := Counted(source.listing._is_meant))
    assert listed(source).keys == [b"s3://bucket/p/z.jpg"]
    assert counted.calls == 11
    assert dict(source.ignored) == {"hidden": 1}


@pytest.mark.parametrize(
    "key",
    ["photos/a//b.jpg", "photos/./b.jpg", "photos/x/../b.jpg", "photos/b\t.jpg", "photos/b\n.jpg"],
)
def test_keys_without_a_name_in_obstore_are_never_lost(photos, key):
    photos.put(key, b"x", {})
    with pytest.raises(SourceError, match=r"cannot list s3://bucket/photos.*Rename it"):
        all_of("s3://bucket/photos")


def test_a_key_that_begins_with_a_slash_is_never_taken_for_another(photos):
    photos.put("/zero.jpg", b"x", {})
    with pytest.raises(SourceError, match="begins with a slash"):
        all_of("s3://bucket")


def unordered(bucket, monkeypatch):
    ordered = type(bucket).listing

    def listing(store, query):
        text = ordered(store, query)
        head, *items = text.removesuffix("</ListBucketResult>").split("<Contents>")
        return (
            head + "".join("<Contents>" + item for item in reversed(items)) + "</ListBucketResult>"
        )

    monkeypatch.setattr(type(bucket), "listing", listing)


def test_a_store_that_lists_in_no_order_is_refused(photos, monkeypatch):
    unordered(photos, monkeypatch)
    with pytest.raises(SourceError, match="not in the order of bytes"):
        all_of("s3://bucket/photos")


def test_directory_buckets_are_sorted(photos, monkeypatch):
    unordered(photos, monkeypatch)
    monkeypatch.setattr(bucket_pages, "_UNSORTED", "bucket")
    [source] = opened("s3://bucket/photos", exclude=b"s3://bucket/photos/out")
    assert keys_in(listed(source).keys, "s3://bucket/photos") == {"a.jpg", "b.jpg", "sub/c.jpg"}


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ("s3://bucket/nothing/", NoImagesError, "no object's key begins so"),
        ("s3://bucket/nothing", NoImagesError, "no object's key begins so"),
        ("s3://bucket/photos/*.png", NoImagesError, "no file ends in .jpg, .png"),
        ("s3://bucket/photos/z.jpg", SourceError, "no such object: s3://bucket/photos/z.jpg"),
        ("s3://bucket/s-{0..2}.tar", SourceError, "s-0.tar of s3://bucket/s-"),
        ("s3://nowhere/photos/", SourceError, "no such bucket: s3://nowhere"),
        ("s3://nowhere/a.jpg", SourceError, "no such bucket: s3://nowhere"),
        ("s3://buck*/photos", SourceError, "names no bucket: expected"),
        ("s3://", SourceError, "names no bucket: expected"),
        ("s3:///photos", SourceError, "names no bucket: expected"),
        ("s3://bucket/a//b/", SourceError, "empty part"),
    ],
)  # fmt: skip
def test_mistakes_are_named(photos, given, error, words):
    with pytest.raises(error, match=words):
        all_of(given)


def test_metadata_of_more_than_a_few_directories_are_counted_not_read(bucket):
    bucket.blobs.clear()
    for number in range(40):
        bucket.put(f"p/{number:02d}/a.jpg", b"x", {})
        bucket.put(f"p/{number:02d}/metadata.jsonl", b'{"file_name": "a.jpg", "id": 1}', {})
    bucket.seen.clear()
    [source] = opened("s3://bucket/p", keep=("id",))
    assert listed(source).extras is None
    assert dict(source.ignored) == {"metadata_not_read": 40}
    assert len(bucket.seen) < 10
    for number in range(32, 40):
        del bucket.blobs[f"p/{number:02d}/metadata.jsonl"], bucket.blobs[f"p/{number:02d}/a.jpg"]
    [source] = opened("s3://bucket/p", keep=("id",))
    assert listed(source).extras.null_count == 0
    assert dict(source.ignored) == {"suffix": 32}


def test_a_store_that_does_not_begin_lists_where_it_is_asked_to_ends_the_run(bucket, monkeypatch):
    bucket.blobs.clear()
    for number in range(100):
        bucket.put(f"p/.h/{number:03d}.jpg", b"x", {})
    ordered = type(bucket).listing

    def listing(store, query):
        return ordered(store, {name: text for name, text in query.items() if name != "start-after"})

    monkeypatch.setattr(type(bucket), "listing", listing)
    monkeypatch.setattr(bucket_pages, "PAGE", 10)
    with pytest.raises(SourceError, match="start-after"):
        all_of("s3://bucket/p")


def test_the_output_is_no_image(photos):
    with pytest.raises(SourceError, match="both the images and the output"):
        opened("s3://bucket/photos", exclude=b"s3://bucket/photos")


def test_a_folder_mark_behind_a_long_directory_that_is_skipped_is_no_disorder(bucket, monkeypatch):
    """`photos/.a/` sorts behind `photos/.a-b/x`, and obstore calls it `photos/.a`."""
    monkeypatch.setattr("shards.sources.bucket_pages.PAGE", 3)
    bucket.blobs.clear()
    for number in range(9):
        bucket.put(f"photos/.a-b/{number}.jpg", b"x", {})
    bucket.put("photos/.a/", b"", {})
    bucket.put("photos/z.jpg", b"x", {})
    [source] = opened("s3://bucket/photos")
    assert keys_in(listed(source).keys, "s3://bucket/photos") == {"z.jpg"}


def test_a_folder_mark_at_the_end_of_a_page_does_not_end_the_search_for_metadata(
    bucket, monkeypatch
):
    monkeypatch.setattr("shards.sources.bucket_pages.PAGE", 3)
    bucket.blobs.clear()
    for name in ("a/metadata.csv", "a/x.jpg", "b/", "b/metadata.csv", "b/y.jpg"):
        bucket.put(f"photos/{name}", b"", {})
    found = bucket_pages.first_directories(b"s3://bucket/photos")
    assert found == [b"s3://bucket/photos/a", b"s3://bucket/photos/b"]
