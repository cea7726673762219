"""The command, killed: its own process, and the device process below it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "examples/digits"
COUNT = 2000


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """2,000 images: links to those of the example under names of their own."""
    root = tmp_path_factory.mktemp("images")
    sources = sorted(path for path in (EXAMPLE / "images").rglob("*") if path.is_file())
    for number in range(COUNT):
        source = sources[number % len(sources)]
        target = root / f"{number:04d}{source.suffix}"
        target.write_bytes(source.read_bytes())
    return root


def start(images: Path, out: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "flows.classify_dir", str(images), "--direct"]
    command += ["--model", str(EXAMPLE / "model"), "--output", str(out), "--shard-size", "100"]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def published(out: Path) -> list[Path]:
    return sorted(out.glob("predictions/*/*.parquet"))


def wait_for(condition, timeout_s: float = 60):
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.005)
    raise TimeoutError("the condition did not come true")


def children(pid: int) -> list[int]:
    try:
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    except FileNotFoundError:
        return []


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def assert_complete(out: Path) -> None:
    names = [
        name
        for path in published(out)
        for name in pq.ParquetFile(path).read(["file_name"])["file_name"].to_pylist()
    ]
    assert len(names) == len(set(names)) == COUNT


def test_a_killed_device_process_is_replaced_and_the_table_is_complete(images, tmp_path):
    process = start(images, tmp_path)
    wait_for(lambda: len(published(tmp_path)) >= 2)
    (worker,) = children(process.pid)
    os.kill(worker, signal.SIGKILL)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert "was killed by signal 9" in stderr
    assert f"{COUNT:,} images: {COUNT:,} ok" in stdout
    assert_complete(tmp_path)


def test_a_killed_command_takes_its_device_process_along_and_can_be_resumed(images, tmp_path):
    process = start(images, tmp_path)
    wait_for(lambda: len(published(tmp_path)) >= 2)
    (worker,) = children(process.pid)
    process.kill()
    process.communicate(timeout=30)
    wait_for(lambda: not is_running(worker), 10)
    before = {path: path.stat().st_mtime_ns for path in published(tmp_path)}
    assert 2 <= len(before) < COUNT // 100
    again = start(images, tmp_path)
    _, stderr = again.communicate(timeout=120)
    assert again.returncode == 0, stderr
    assert before.items() <= {p: p.stat().st_mtime_ns for p in published(tmp_path)}.items()
    assert_complete(tmp_path)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_command_leaves_no_process_and_can_be_resumed(images, tmp_path, number, code):
    process = start(images, tmp_path)
    wait_for(lambda: len(published(tmp_path)) >= 2)
    (worker,) = children(process.pid)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == code
    assert "Traceback" not in stderr
    assert "resumes" in stderr
    assert not is_running(worker)
    assert list((tmp_path / "state/staging").iterdir()) == []
    again = start(images, tmp_path)
    _, stderr = again.communicate(timeout=120)
    assert again.returncode == 0, stderr
    assert_complete(tmp_path)


def test_two_commands_at_once_share_the_output(images, tmp_path):
    both = [start(images, tmp_path), start(images, tmp_path)]
    for process in both:
        _, stderr = process.communicate(timeout=200)
        assert process.returncode == 0, stderr
    assert_complete(tmp_path)
