"""Who we are at a store stands in the environment, and nowhere else when a run is over."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import boto3
import pytest

from tests.end_to_end.commands import MODEL, ROOT
from tests.simulators.object_server import BUCKET, Fault, object_server

SECRETS = {
    "AWS_ACCESS_KEY_ID": "AKIAqv3ckm8e",
    "AWS_SECRET_ACCESS_KEY": "wq71Xc0vbn5Z",
    "AWS_SESSION_TOKEN": "tk09Rrm2ss4L",
}
DIGITS = sorted((ROOT / "examples/digits/images").rglob("*.png"))[:4]


@pytest.fixture(scope="module")
def server():
    with object_server() as server:
        client = boto3.client("s3", region_name="us-east-1", endpoint_url=server.url, **IDENTITY)
        for path in DIGITS:
            client.put_object(Bucket=BUCKET, Key=f"in/{path.name}", Body=path.read_bytes())
        server.client = client
        yield server


IDENTITY = {"aws_access_key_id": "id", "aws_secret_access_key": "secret"}


def run(server, tmp_path, monkeypatch, output, *options) -> tuple[int, bytes]:
    """Classify images of a bucket; returns the exit code and all that was said."""
    for name, value in (server.environment | SECRETS).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    command = [sys.executable, "-m", "flows.classify_dir", f"s3://{BUCKET}/in", "-o", output]
    command += ["-m", str(MODEL), "--engine-cache", str(tmp_path / "cache"), "--json", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=200)
    return done.returncode, done.stdout + done.stderr


def left_behind(server, tmp_path: Path) -> bytes:
    """All files that the run could have written, and all objects."""
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    listed = server.client.list_objects_v2(Bucket=BUCKET)["Contents"]
    for entry in listed:
        answer = server.client.get_object(Bucket=BUCKET, Key=entry["Key"])
        files.append(f"{entry['Key']} {answer['Metadata']}".encode() + answer["Body"].read())
    assert files
    return b"\n".join(files)


def found_in(text: bytes) -> list[str]:
    return [secret for secret in SECRETS.values() if secret.encode() in text]


def test_the_search_finds_what_is_there(server, tmp_path):
    (tmp_path / "file").write_text(f"key={SECRETS['AWS_SECRET_ACCESS_KEY']}")
    assert found_in(left_behind(server, tmp_path)) == [SECRETS["AWS_SECRET_ACCESS_KEY"]]


def test_a_run_with_its_output_in_a_bucket_leaves_no_secret(server, tmp_path, monkeypatch):
    output = f"s3://{BUCKET}/out"
    code, said = run(server, tmp_path, monkeypatch, output, "--direct", "--progress")
    assert code == 0, said
    left = left_behind(server, tmp_path)
    assert b"run.json" in left
    assert b'"parameters"' in left
    assert found_in(said + left) == []


def test_a_run_under_prefect_leaves_no_secret_in_its_servers_database(
    server, tmp_path, monkeypatch
):
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    code, said = run(server, tmp_path, monkeypatch, str(tmp_path / "out"))
    assert code == 0, said
    assert list((tmp_path / "prefect").rglob("*.db"))
    assert found_in(said + left_behind(server, tmp_path)) == []


def test_a_refused_identity_is_not_repeated(server, tmp_path, monkeypatch):
    server.faults[:] = [Fault("forbidden", lambda request: True, times=10_000)]
    try:
        code, said = run(server, tmp_path, monkeypatch, f"s3://{BUCKET}/refused", "--direct")
    finally:
        server.faults.clear()
    assert code in (1, 2)
    assert b"Traceback" not in said
    assert found_in(said + left_behind(server, tmp_path)) == []
