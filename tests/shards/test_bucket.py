"""A bucket that cannot be used is refused at once, in words, with what to set."""

from __future__ import annotations

import mmap
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import obstore
import pytest

from shards import bucket as bucket_module
from shards.bucket import bucket_of
from shards.errors import OutputError, StoreError
from shards.footer import read_footer
from shards.object_path import ObjectPath
from shards.store_request import reason_of
from shards.trees import create_tree, is_remote, open_tree
from tests.simulators.faults import Fault
from tests.simulators.object_server import connected

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(autouse=True)
def own_staging(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def refusal(uri: str, *, reading: bool = False) -> str:
    begun = time.monotonic()
    with pytest.raises(StoreError) as caught:
        _ = open_tree(uri).is_there() if reading else create_tree(uri)
    assert time.monotonic() - begun < 10
    assert caught.value.exit_code == 2
    assert "<" not in str(caught.value)
    assert "Debug" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("reading", [False, True])
@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("forbidden", r"403 AccessDenied\. These credentials are known and may not do this: docs"),
        ("unknown_key", r"403 InvalidAccessKeyId\. Check the credentials: AWS_ACCESS_KEY_ID"),
        ("expired", r"400 ExpiredToken\. Check the credentials"),
        ("redirected", r"The bucket lies in another region: set AWS_REGION"),
        ("unavailable", r"503 SlowDown\. The store is overloaded, or out of order"),
        ("dropped", r"no answer from http://127\.0\.0\.1:\d+: the connection was lost\. Check AWS"),
    ],
)
def test_what_the_store_says_comes_with_what_to_do(bucket, kind, text, reading):
    bucket.faults[:] = [Fault(kind, lambda request: True, times=10_000)]
    answer = refusal("s3://bucket/out", reading=reading)
    assert answer.startswith("cannot use s3://bucket/out: ")
    assert re.search(text, answer), answer


@pytest.mark.parametrize("reading", [False, True])
@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_bucket_that_is_not_there_is_named(bucket, scheme, reading):
    assert refusal(f"{scheme}://nobucket/out", reading=reading) == (
        f"cannot use {scheme}://nobucket/out: 404 NoSuchBucket. There is no such bucket: create "
        "it, or correct the name or the endpoint."
    )


def test_a_store_without_conditions_is_refused(bucket):
    for kind, says in (("ignore_conditions", "passes over"), ("not_implemented", "does not know")):
        bucket.faults[:] = [
            Fault(kind, lambda request: request.method == "PUT", times=100),
        ]
        for scheme in ("s3", "gs"):
            answer = refusal(f"{scheme}://bucket/out")
            assert says in answer
            assert "overwrit" in answer


def test_a_store_that_only_passes_over_if_match_is_refused(bucket):
    puts = iter(range(100))
    bucket.faults[:] = [
        Fault("ignore_conditions", lambda r: r.method == "PUT" and next(puts) == 3, times=1)
    ]
    assert "(If-Match)" in refusal("s3://bucket/out")


def test_the_probe_leaves_nothing_and_survives_each_lost_answer(bucket):
    for number in range(1, 9):
        seen = len(bucket.seen)
        bucket.faults[:] = [
            Fault("lost_answer", lambda r, at=seen + number: r.number == at),
        ]
        create_tree("s3://bucket/probed")
    assert [key for key in bucket.blobs if key.startswith("probed/")] == []


def test_what_one_process_of_a_run_has_seen_the_others_do_not_ask_again(bucket):
    create_tree("s3://bucket/out", proven=True)
    assert bucket.seen == []


def test_who_may_not_remove_anything_can_write(bucket):
    bucket.faults[:] = [Fault("forbidden", lambda r: r.method == "DELETE", times=100)]
    tree = create_tree("s3://bucket/append-only")
    (tree.runs / "errors.csv").unlink(missing_ok=True)
    assert bucket.faults[0].times == 99


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("s3://", "names no bucket: expected s3://bucket or s3://bucket/prefix"),
        ("s3:///out", "names no bucket"),
        ("s3://my bucket/out", "names no bucket"),
        ("s3://bucket//out", "empty part"),
        ("s3://bucket/a/../b", r"'\.\.'"),
        ("s3://bucket/./b", r"'\.'"),
        ("s3://bucket/a\nb", "control character"),
        ("s3://bucket/\udcff", "control character"),
    ],
)
def test_a_uri_that_not_every_client_can_ask_for_is_refused(uri, says):
    with pytest.raises(StoreError, match=says) as caught:
        create_tree(uri)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("s3://bucket", "s3://bucket"),
        ("S3://bucket/", "s3://bucket"),
        ("s3://bucket/out///", "s3://bucket/out"),
        ("gs://bucket/a b/ü%20%c/x=1+2#?&~'\"[*]", "gs://bucket/a b/ü%20%c/x=1+2#?&~'\"[*]"),
    ],
)
def test_other_uris_are_taken_as_they_are(bucket, uri, shown):
    tree = create_tree(uri)
    assert str(tree.root) == shown
    with tree.stage("x") as staged:
        staged.file.write(b"x")
        tree.replace(staged, tree.runs / "x")
    assert [str(path) for path in tree.runs.iterdir()] == [f"{shown}/runs/x"]
    assert (tree.root / "runs" / "x").read_bytes() == b"x"
    (tree.runs / "x").unlink()


def test_reasons_are_cut_out_of_what_obstore_says():
    unsent = (
        "Generic S3 error: Error performing HEAD https://minio:9000/b/x in 1ms - HTTP error: error "
        "sending request\n\nDebug source:\nGeneric {\n"
    )
    for dump, reason in {
        "InvalidCertificate(\n UnknownIssuer,\n": "its certificate is not trusted, UnknownIssuer",
        'Os {\n code: 111, message: "Connection refused",\n': "Connection refused",
        'ConnectError("dns error", Custom { error: "Name or service not known" })': (
            "Name or service not known"
        ),
        "error: InvalidMessage(InvalidContentType)": "TLS is not understood there",
        "kind: Timeout": "it took too long",
        "hyper::Error(IncompleteMessage)": "the connection was lost",
    }.items():
        assert reason_of(OSError(unsent + dump)) == f"no answer from https://minio:9000: {reason}"
    status = (
        "Generic S3 error: ... - Server returned non-2xx status code: 400 Bad Request: <?xml ?>"
    )
    code = "<Error><Code>AuthorizationHeaderMalformed</Code><Message>the region is wrong.</Message>"
    assert reason_of(OSError(f"{status}\n{code}\n\nDebug source: x")) == (
        "400 AuthorizationHeaderMalformed: the region is wrong"
    )
    assert len(reason_of(OSError("x" * 10_000))) < 400


def test_only_stores_are_remote():
    assert is_remote("s3://b")
    assert is_remote("GS://b/x")
    assert not any(map(is_remote, ["s3:/b", "out", "/s3://b", "s3a://b", "az://b", "file:///b"]))


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_nobody_listens():
    url = f"http://127.0.0.1:{free_port()}"
    settings = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "s", "AWS_ENDPOINT_URL": url}
    with connected(settings):
        for reading in (False, True):
            assert refusal("s3://bucket/out", reading=reading) == (
                f"cannot use s3://bucket/out: no answer from {url}: Connection refused. Check "
                "AWS_ENDPOINT_URL, the network and its proxies."
            )


def test_a_server_that_never_answers_is_given_up(monkeypatch):
    monkeypatch.setattr(
        bucket_module, "FIRST", bucket_module.Patience(connect_s=1, request_s=0.3, retry_s=0.3)
    )
    monkeypatch.setattr("shards.object_probe.FIRST", bucket_module.FIRST)
    monkeypatch.setattr("shards.object_write.FIRST", bucket_module.FIRST)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        settings = {"AWS_ACCESS_KEY_ID": "i", "AWS_SECRET_ACCESS_KEY": "s", "AWS_ENDPOINT_URL": url}
        with connected(settings):
            assert "it took too long" in refusal("s3://bucket/out")


def nobody(monkeypatch, home: Path) -> dict[str, str]:
    """Who has configured nothing, on a machine that is in no cloud."""
    for name in [*os.environ]:
        if name.startswith(("AWS_", "GOOGLE_")) and name != "AWS_CA_BUNDLE":
            monkeypatch.delenv(name)
    return {
        "HOME": str(home),
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://127.0.0.1:{free_port()}",
        "AWS_METADATA_ENDPOINT": f"http://127.0.0.1:{free_port()}",
    }


def test_without_credentials_is_said_what_to_set(monkeypatch, tmp_path):
    with connected(nobody(monkeypatch, tmp_path)):
        assert "no credentials were found. Set AWS_ACCESS_KEY_ID and AWS_SECRET" in refusal(
            "s3://bucket/out"
        )


def test_a_profile_that_is_not_there_is_named(monkeypatch, tmp_path):
    with connected(nobody(monkeypatch, tmp_path) | {"AWS_PROFILE": "nightly"}):
        assert "nightly" in refusal("s3://bucket/out")


def test_a_profile_gives_credentials_region_and_endpoint(bucket, monkeypatch, tmp_path):
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/config").write_text(
        f"[profile nightly]\nregion = eu-west-1\nendpoint_url = {bucket.url}\n"
        "aws_access_key_id = i\naws_secret_access_key = s\n"
    )
    with connected(nobody(monkeypatch, tmp_path) | {"AWS_PROFILE": "nightly"}):
        create_tree("s3://bucket/out")
        assert bucket_of("s3://bucket").store.config["region"] == "eu-west-1"
    assert len(bucket.seen) > 5


def test_without_boto3_the_variables_are_enough(bucket, monkeypatch):
    find_spec = bucket_module.find_spec
    monkeypatch.setattr(
        bucket_module, "find_spec", lambda name: None if name == "boto3" else find_spec(name)
    )
    bucket_module._aws_identity.cache_clear()
    bucket_module._connected.cache_clear()
    create_tree("s3://bucket/out")
    assert bucket_of("s3://bucket").store.credential_provider is None


def test_without_obstore_is_said_what_to_install(monkeypatch):
    with connected({}):
        monkeypatch.setattr(bucket_module, "find_spec", lambda name: None)
        for uri in ("s3://bucket/out", "gs://bucket/out"):
            assert refusal(uri).endswith("Run: pip install 'nightshift[s3]'")


def test_credentials_are_asked_for_again_before_boto3_lets_them_run_out(bucket):
    provider = bucket_of("s3://bucket").store.credential_provider
    expires = provider()["expires_at"]
    assert expires - datetime.now(UTC) < timedelta(minutes=10)


def test_a_gigabyte_would_not_be_copied_for_an_upload(bucket, monkeypatch):
    uploaded = []
    put = obstore.put
    monkeypatch.setattr(obstore, "put", lambda *a, **k: uploaded.append(a[2]) or put(*a, **k))
    tree = create_tree("s3://bucket/out")
    with tree.stage("x") as staged:
        staged.file.write(b"x" * 100_000)
        assert tree.publish(staged, tree.runs / "big")
    assert isinstance(uploaded[-1], mmap.mmap)


def test_staging_is_nobody_elses(bucket, tmp_path, monkeypatch):
    tree = create_tree("s3://bucket/out")
    assert tree.staging.parent == tmp_path
    tree.staging.chmod(0o777)
    create_tree("s3://bucket/out")
    assert tree.staging.stat().st_mode & 0o777 == 0o700
    tree.staging.rename(tmp_path / "elsewhere")
    tree.staging.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match="belongs to another user: remove it, or set TMPDIR"):
        create_tree("s3://bucket/out")
    tree.staging.unlink()
    tree.staging.mkdir()
    monkeypatch.setattr(os, "getuid", lambda: 1234567)
    (tmp_path / "nightshift-1234567").mkdir()
    with pytest.raises(OutputError, match="belongs to another user"):
        create_tree("s3://bucket/out")


def test_listings_say_what_is_there_and_nobody_asks_again(bucket):
    place = ObjectPath.of("s3://bucket/listed")
    for name in ("a", "b"):
        bucket.put(f"listed/x/{name}", b"", {})
    bucket.seen.clear()
    [folder] = place.iterdir()
    assert folder.is_dir()
    assert [path.is_file() for path in folder.iterdir()] == [True, True]
    assert len(bucket.seen) == 2


# A process that a shell starts in the background ignores SIGINT, and so do its children.
WAITS = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from shards.footer import read_footer
from shards.object_path import ObjectPath
print("ready", flush=True)
try:
    ObjectPath.of("s3://bucket/x").version()
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_a_signal_ends_waiting_for_a_store():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        settings = {
            "AWS_ACCESS_KEY_ID": "id",
            "AWS_SECRET_ACCESS_KEY": "s",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{listener.getsockname()[1]}",
        }
        process = subprocess.Popen(
            [sys.executable, "-c", WAITS],
            cwd=ROOT,
            env=os.environ | settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout.readline() == "ready\n"
        connection, _ = listener.accept()  # the request is on its way
        with connection:
            begun = time.monotonic()
            process.send_signal(signal.SIGINT)
            try:
                stdout, stderr = process.communicate(timeout=30)
            finally:
                process.kill()
    assert (stdout, stderr, process.returncode) == ("interrupted\n", "", 0)
    assert time.monotonic() - begun < 5


def test_footers_are_waited_for_together(bucket):
    tree = create_tree("s3://bucket/many")
    paths = [tree.shard_path("m@1", f"p000001-{number:05d}") for number in range(64)]
    bucket.delay_s = 0.02
    begun = time.monotonic()
    assert list(tree.ahead(read_footer, paths)) == [None] * 64
    assert time.monotonic() - begun < 64 * 0.02 / 2
