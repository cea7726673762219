import re
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shards.names import file_names_of, key_of, shown, uris_of

NAMES = st.binary(min_size=1, max_size=12).filter(lambda name: b"\0" not in name)
PATHS = st.lists(NAMES.map(lambda name: b"/data/" + name), min_size=1, max_size=5)
PLACES = st.sampled_from([b"/data/", b"s3://bucket/", b"gs://b/"])
KEYS = st.builds(
    lambda place, parts: place + b"\0".join(parts),
    PLACES,
    st.lists(NAMES, min_size=1, max_size=3),
)


@given(PATHS)
@example([b"/data/plain.jpg", b"/data/with space.jpg"])
def test_uris_give_every_path_back(paths):
    uris = uris_of(paths)
    assert [key_of(uri) for uri in uris] == paths
    assert all(re.fullmatch(r"file:///(?:[A-Za-z0-9._~/-]|%[0-9A-F]{2})+", uri) for uri in uris)


@given(st.lists(KEYS, min_size=1, max_size=5, unique=True))
@example([b"/data/a.tar\0b.jpg", b"/data/a.tar!b.jpg", b"/data/a.tar\0b.jpg\0002"])
def test_uris_give_every_key_back_and_no_two_keys_share_one(keys):
    uris = uris_of(keys)
    assert [key_of(uri) for uri in uris] == keys
    assert len(set(uris)) == len(keys)


def test_what_lies_in_an_archive_or_a_bucket_has_a_uri():
    assert uris_of([b"/d/a.tar\0x/1.jpg", b"/d/a.tar\0x/1.jpg\x002", b"s3://b/a b!.jpg"]) == [
        "file:///d/a.tar!x/1.jpg",
        "file:///d/a.tar!x/1.jpg!2",
        "s3://b/a%20b%21.jpg",
    ]


def test_uris_keep_unreserved_characters_and_encode_the_rest():
    paths = [b"/a-b._~/C9.jpg", "/ü ?#%+&=:@!$'()*,;[].jpg".encode()]
    assert uris_of(paths) == [
        "file:///a-b._~/C9.jpg",
        "file:///%C3%BC%20%3F%23%25%2B%26%3D%3A%40%21%24%27%28%29%2A%2C%3B%5B%5D.jpg",
    ]


def test_one_odd_name_does_not_change_the_uris_beside_it():
    plain, odd = b"/data/a.jpg", b"/data/\xff.jpg"
    assert uris_of([plain, odd])[0] == uris_of([plain])[0]
    assert uris_of([odd])[0] == "file://" + quote_from_bytes(odd, safe="/")


@pytest.mark.parametrize("uri", ["file:a.jpg", "file://host/a.jpg", "/a.jpg"])
def test_what_is_no_uri_is_refused(uri):
    with pytest.raises(ValueError, match="file:///"):
        key_of(uri)


@given(st.lists(NAMES, min_size=2, max_size=6, unique=True))
@example([b"\xff.jpg", rb"\xff.jpg"])
@example([b"\\", b"\\\\"])
def test_different_names_give_different_valid_text(names):
    texts = file_names_of([b"/data/" + name for name in names], b"/data")
    assert len(set(texts)) == len(names)
    for text in texts:
        text.encode("utf-8")


@given(st.text(min_size=1, max_size=20).filter(lambda text: not set(text) & set("\0\\")))
def test_ordinary_text_is_kept_as_it_is(text):
    encoded = text.encode("utf-8", "ignore")
    assert file_names_of([b"/data/" + encoded], b"/data") == [encoded.decode()]


def test_file_names_are_relative_to_the_root_even_if_that_is_the_root_of_all():
    assert file_names_of([b"/data/a/b.jpg"], b"/data") == ["a/b.jpg"]
    assert file_names_of([b"/data/a/b.jpg"], b"/data/") == ["a/b.jpg"]
    assert file_names_of([b"/a/b.jpg"], b"/") == ["a/b.jpg"]


def test_names_in_archives_and_elsewhere():
    keys = [
        b"/data/a.tar\0x/1.jpg",
        b"/data/b.parquet\x00000000000007",
        b"/other/c.jpg",
        b"s3://b/d",
    ]
    assert file_names_of(keys, b"/data") == [
        "a.tar!x/1.jpg",
        "b.parquet!000000000007",
        "/other/c.jpg",
        "s3://b/d",
    ]
    assert shown(keys[0]) == "/data/a.tar!x/1.jpg"


def test_backslashes_in_the_root_are_not_counted():
    assert file_names_of([b"/back\\slash/a.jpg"], b"/back\\slash") == ["a.jpg"]


def test_escapes_are_as_documented():
    assert file_names_of([b"/d/caf\xe9\\x.jpg"], b"/d") == [r"caf\xe9\\x.jpg"]
    assert shown(b"/d/\xe9") == r"/d/\xe9"
