"""Real processes for tests: each in a group of its own, and none of them left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
FAKE_RUN = Path(__file__).with_name("fake_run.py")


def clean_environment(home: Path) -> dict[str, str]:
    """The environment of a newcomer: an empty home, and neither Prefect nor Nightshift set up."""
    home.mkdir(parents=True, exist_ok=True)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT", "NIGHTSHIFT"))}
    return kept | {"HOME": str(home)}


def processes_with(marker: str) -> list[int]:
    """Ids of the live processes that have `marker` in their command line or environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            zombie = (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            continue
        if marker.encode() in text and not zombie and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found


def wait_for(condition: Callable[[], object], timeout_s: float = 90) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except OSError:
        return False


class Command:
    """Starts the fake command; `out` is its output directory, `home` its user's home."""

    def __init__(self, base: Path) -> None:
        self.out = base / "out"
        self.home = base / "home"
        self.environment = clean_environment(self.home)

    def start(self, *options: str, fake: dict[str, object] | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, FAKE_RUN, "photos", "-m", "model", "-o", self.out, *options],
            cwd=ROOT,
            env=self.environment | {"FAKE": json.dumps(fake or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(
        self, *options: str, fake: dict[str, object] | None = None
    ) -> subprocess.CompletedProcess[str]:
        with self.start(*options, fake=fake) as process:
            stdout, stderr = process.communicate(timeout=120)
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    def wait_for_step(self, process: subprocess.Popen[str], step: str) -> None:
        """Wait until `process` has begun `step`."""
        mark = self.out / step
        wait_for(
            lambda: (
                process.poll() is not None
                or (mark.exists() and str(process.pid) in mark.read_text().split())
            )
        )
        assert process.poll() is None, process.communicate()


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    yield Command(tmp_path)
    for pid in processes_with(str(tmp_path)):
        os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="session")
def warm_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared by the tests that need a server: making its database takes most of its start."""
    return tmp_path_factory.mktemp("prefect")


@pytest.fixture
def prefect_command(warm_base: Path) -> Iterator[Command]:
    """As `command`, where a temporary server starts in seconds."""
    yield Command(warm_base)
    for pid in processes_with(str(warm_base)):
        os.kill(pid, signal.SIGKILL)
