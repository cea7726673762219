"""The command with its output in a bucket, on a server in this process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from shards.trees import open_tree
from tests.end_to_end.commands import MODEL, ROOT, rows, run
from tests.simulators.object_server import BUCKET, ObjectServer, connected, object_server

OUT = f"s3://{BUCKET}/nightly/out"
DIGITS = ROOT / "examples/digits/images"


@pytest.fixture(scope="module")
def server():
    with object_server() as server, connected(server.environment):
        yield server


def save(path: Path, colour: int = 0) -> None:
    Image.new("RGB", (32, 32), (colour, colour, colour)).save(path)


def verified(output: str) -> dict:
    done = subprocess.run(
        [sys.executable, "-m", "flows.verify", output, "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["status"]) == (0, "fine"), done.stdout
    return answer


def test_nights_in_a_bucket_are_those_in_a_directory(server, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for name in "abcde":
        save(images / f"{name}.png")
    (images / "b.png").write_bytes(b"not an image at all")
    os.utime(images / "b.png", (1, 1))

    def night(*options):
        arguments = ("--model", MODEL, "--output", OUT, "--shard-size", "2", *options)
        code, answer, said = run(images, *arguments, "--max-error-rate", "1")
        assert code == 0, said
        return tuple(
            answer[name]
            for name in ("images", "errors", "rows_written", "changed", "pruned", "retried")
        )

    assert night("--run-id", "first") == (5, 1, 5, 0, 0, 0)
    listed = (open_tree(OUT).run_path("first") / "errors.csv").read_bytes().decode()
    assert listed.count("\n") == 2
    assert "b.png" in listed
    before = len(server.seen)
    assert night() == (5, 1, 0, 0, 0, 0)
    again = [request for request in server.seen[before:] if request.method == "PUT"]
    assert all("/predictions/" not in request.path for request in again)
    save(images / "c.png", 200)
    (images / "e.png").unlink()
    assert night("--prune", "--run-id", "third") == (4, 1, 1, 1, 1, 0)
    save(images / "b.png")
    os.utime(images / "b.png", (1, 1))
    assert night("--retry-errors", "--run-id", "fourth")[:3] == (4, 0, 1)
    found = rows(OUT)
    assert {name: row["run_id"] for name, row in found.items()} == {
        "a.png": "first",
        "b.png": "fourth",
        "c.png": "third",
        "d.png": "first",
    }
    answer = verified(OUT + "/")
    assert (answer["images"], answer["runs"]) == (4, 4)


def start(images: Path, output: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "flows.classify_dir", str(images), "--direct"]
    command += ["--model", str(MODEL), "--output", output, "--shard-size", "25"]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def published(server: ObjectServer, output: str) -> int:
    below = output.removeprefix("s3:/") + "/predictions/"
    return sum(r.method == "PUT" and r.path.startswith(below) for r in server.seen)


def test_a_killed_command_is_gone_on_with_by_two_at_once(server, tmp_path):
    images, output = tmp_path / "images", f"s3://{BUCKET}/killed"
    images.mkdir()
    sources = sorted(path for path in DIGITS.rglob("*") if path.is_file())
    for number, source in enumerate(sources):
        shutil.copy(source, images / f"{number:04d}{source.suffix}")
    server.delay_s = 0.03
    killed = start(images, output)
    deadline = time.monotonic() + 60
    while published(server, output) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    killed.kill()
    killed.communicate(timeout=30)
    server.delay_s = 0.0
    both = [start(images, output) for _ in range(2)]
    for process in both:
        _, said = process.communicate(timeout=100)
        assert process.returncode == 0, said
        assert "Traceback" not in said
    assert len(rows(output)) == len(sources)
    answer = verified(output)
    assert answer["images"] == len(sources)


@pytest.mark.parametrize("command", ["verify", "compact"])
def test_a_bucket_without_an_output_is_said_to_be_none(server, tmp_path, command):
    target = ["--target", str(tmp_path / "few")] if command == "compact" else []
    for output, says in (
        (f"s3://{BUCKET}/nothing", "is no output of classify_dir: expected"),
        ("s3://nobucket/nothing", "There is no such bucket"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", f"flows.{command}", output, *target],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.returncode == 2
        assert says in done.stderr
        assert "Traceback" not in done.stderr
