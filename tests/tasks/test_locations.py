"""Which places a parameter may name."""

from __future__ import annotations

import pytest

from tasks.allowed_roots import AllowedRoots
from tasks.errors import SettingsError
from tasks.locations import check_place


@pytest.mark.parametrize(
    "place",
    ["out", "/data/out", "s3://bucket", "S3://bucket/out", "gs://bucket/out/", "out/s3:/x", "s3:"],
)
def test_an_output_is_a_path_or_a_bucket(place):
    check_place("output", place, None)


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("s3a://bucket/out", r"'s3a://bucket/out' given, expected .*: write it with s3://"),
        ("gcs://bucket/out", "write it with gs://"),
        ("az://container/out", "expected a local path or gs:// or s3://"),
        ("https://bucket.s3.amazonaws.com/out", "expected a local path or gs:// or s3://"),
        ("file:///out", "expected a local path or gs:// or s3://"),
        ("s3:/bucket/out", "two slashes after its colon"),
        ("GS:/bucket/out", "two slashes after its colon"),
        ("s3://bucket::file:///etc", "not chained"),
    ],
)
def test_other_places_are_refused_with_what_to_write(place, says):
    with pytest.raises(SettingsError, match=says):
        check_place("output", place, None)


@pytest.mark.parametrize("root", ["s3://bucket/out", "s3://bucket/out/"])
def test_a_root_in_a_bucket_covers_itself_and_what_is_below(root):
    allowed = AllowedRoots.of([root])
    for place in ("s3://bucket/out", "s3://bucket/out/", "s3://bucket/out/more"):
        check_place("output", place, allowed)
    for place in (
        *("s3://bucket/out-other", "s3://bucket", "s3://bucket/out/../x", "s3://buck/out"),
        *("gs://bucket/out", "/s3://bucket/out", "S3://bucket/out"),
    ):
        with pytest.raises(SettingsError, match="allowed root"):
            check_place("output", place, allowed)
