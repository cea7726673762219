"""The build process for real: spawned, watched, killed, with the simulated TensorRT inside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from engines.build_process import build_in_child
from engines.build_report import BuildEvent
from engines.build_request import BuildRequest, describe_error, restore_error
from engines.errors import (
    BackendUnavailableError,
    CudaError,
    DeviceMemoryError,
    EngineBuildError,
    ModelError,
)
from engines.profile import Profile, parse_batch_size, parse_image_size
from engines.settings import BuilderSettings
from tests.engines.wrapped_graphs import wrapped_cnn
from tests.simulators.installed import simulated_environment
from tests.simulators.records import VERSIONS

HEIGHT, WIDTH = parse_image_size("16")
PROFILE = Profile(batch=parse_batch_size("1:4:8"), height=HEIGHT, width=WIDTH)
SETTINGS = BuilderSettings(precision="fp16", profile=PROFILE)


@pytest.fixture
def gpu(monkeypatch):
    """Children see a simulated GPU with this TensorRT and these settings."""

    def install(version: str = "10.16.1", **settings: object) -> None:
        for name, value in simulated_environment(version, **settings).items():
            monkeypatch.setenv(name, value)

    return install


def request(folder: Path, **changes: object) -> BuildRequest:
    asked = BuildRequest(
        folder=folder, settings=SETTINGS, device=0, timings=None, gpu="Simulated H200 9.0"
    )
    return replace(asked, **changes)


def build(
    folder: Path, *, graph: bytes | None = None, deadline_s: float = 60.0, **changes: object
) -> list[BuildEvent]:
    events: list[BuildEvent] = []
    build_in_child(
        wrapped_cnn() if graph is None else graph,
        request(folder, **changes),
        deadline_s=deadline_s,
        report=events.append,
    )
    return events


@pytest.mark.parametrize("version", VERSIONS)
def test_leaves_plan_nodes_layers_and_log_in_the_folder(gpu, tmp_path, version):
    gpu(version)
    events = build(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "build.log",
        "engine.plan",
        "layers.json",
        "nodes.json",
    ]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in tmp_path.iterdir())
    assert json.loads((tmp_path / "layers.json").read_text(), strict=False)["Layers"]
    assert json.loads((tmp_path / "nodes.json").read_text())["before_precision"] > 1
    assert "[VERBOSE]" in (tmp_path / "build.log").read_text()
    assert events[0].text.endswith("Starting TensorRT")
    assert any(event.steps for event in events) == (version != "8.6.1")


def test_a_deadline_kills_the_build_and_says_where_it_was(gpu, tmp_path):
    gpu(build_seconds=60)
    started = time.monotonic()
    with pytest.raises(EngineBuildError, match=r"deadline of 3 s, while at '"):
        build(tmp_path, deadline_s=3)
    assert time.monotonic() - started < 20
    assert not (tmp_path / "engine.plan").exists()
    assert running_children() == []


def test_a_build_that_reports_nothing_is_heard_of_all_the_same(gpu, tmp_path, monkeypatch):
    monkeypatch.setattr("engines.build_process.HEARTBEAT_S", 0.2)
    gpu("8.6.1", build_seconds=1)
    assert len(build(tmp_path)) >= 5


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_cancelling_kills_the_build(gpu, tmp_path, error):
    gpu(build_seconds=60)

    def cancel(event: BuildEvent) -> None:
        if event.steps:
            raise error

    with pytest.raises(error):
        build_in_child(wrapped_cnn(), request(tmp_path), deadline_s=60, report=cancel)
    assert running_children() == []


def test_ctrl_c_of_the_group_is_left_to_the_parent(gpu, tmp_path):
    gpu(build_seconds=1)
    sent = []

    def interrupt_children(event: BuildEvent) -> None:
        if event.steps and not sent:
            sent.append([os.kill(pid, signal.SIGINT) for pid in running_children()])

    build_in_child(wrapped_cnn(), request(tmp_path), deadline_s=60, report=interrupt_children)
    assert sent == [[None]]
    assert (tmp_path / "engine.plan").exists()


PARENT = """
import sys
from pathlib import Path
from engines.build_process import build_in_child
from tests.engines.test_build_process import request, running_children
from tests.engines.wrapped_graphs import wrapped_cnn

def report(event):
    if event.steps:
        print(*running_children(), flush=True)

build_in_child(wrapped_cnn(), request(Path(sys.argv[1])), deadline_s=60, report=report)
"""


def test_the_build_dies_with_a_parent_that_is_killed(gpu, tmp_path):
    gpu(build_seconds=60)
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, tmp_path], stdout=subprocess.PIPE, text=True
    ) as parent:
        child = int(parent.stdout.readline())
        assert is_running(child)
        parent.kill()
    deadline = time.monotonic() + 10
    while is_running(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_running(child)


def test_a_crash_of_tensorrt_is_an_error_with_its_last_words(gpu, tmp_path, monkeypatch):
    gpu()
    site = tmp_path / "site" / "tensorrt"
    site.mkdir(parents=True)
    (site / "__init__.py").write_text(
        "import os, sys\nprint('corrupted size vs. prev_size', flush=True)\nos.abort()\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{site.parent}:{os.environ['PYTHONPATH']}")
    folder = tmp_path / "build"
    folder.mkdir()
    with pytest.raises(EngineBuildError, match=r"killed by SIGABRT.*corrupted size vs\. prev_size"):
        build(folder)


def test_a_mistake_in_the_child_is_an_error_with_its_traceback_in_the_log(gpu, tmp_path):
    gpu()
    with pytest.raises(EngineBuildError, match=r"ended with 1; its last words: .*DecodeError"):
        build(tmp_path, graph=b"not a model")
    assert "Traceback" in (tmp_path / "build.log").read_text()


def test_too_little_free_memory_is_refused_before_the_build_with_both_figures(gpu, tmp_path):
    gpu(total_bytes=200 * 2**20)
    with pytest.raises(DeviceMemoryError, match=r"0\.25\d? GiB are needed.* 0\.195 GiB") as e:
        build(tmp_path)
    assert not e.value.sticky
    assert str(e.value).count("failed:") == 1


def test_errors_keep_their_class_across_the_pipe(gpu, tmp_path):
    gpu()
    with pytest.raises(ModelError, match="fp16 ends at 65504"):
        build(tmp_path, graph=wrapped_cnn(largest_weight=1e6))
    with pytest.raises(BackendUnavailableError, match="GPU 3 was asked for"):
        build(tmp_path, device=3)


def test_no_tensorrt_is_reported_as_such(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "")
    with pytest.raises(BackendUnavailableError, match="TensorRT cannot be used here"):
        build(tmp_path)


def test_a_request_survives_its_line(tmp_path):
    asked = request(tmp_path, timings=tmp_path / "timings")
    assert BuildRequest.from_line(asked.to_line().decode()) == asked
    assert b"\n" not in asked.to_line()[:-1]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (EngineBuildError("a: b"), EngineBuildError),
        (ModelError("m"), ModelError),
        (BackendUnavailableError("b"), BackendUnavailableError),
        (DeviceMemoryError("cudaMalloc", 2, "memory", "a (2): b", sticky=False), DeviceMemoryError),
        (CudaError("cudaFree", 700, "illegal", "address", sticky=True), EngineBuildError),
    ],
)
def test_errors_survive_json(error, expected):
    restored = restore_error(json.loads(json.dumps(describe_error(error))))
    assert type(restored) is expected
    assert str(restored) == str(error)


def running_children() -> list[int]:
    """Processes that this one started and that have not ended.

    Not multiprocessing's resource tracker, which some test before may have started for good.
    """
    listed = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    return [pid for pid in map(int, listed.split()) if is_running(pid) and not is_tracker(pid)]


def is_tracker(pid: int) -> bool:
    """Whether a process is multiprocessing's resource tracker."""
    return b"multiprocessing.resource_tracker" in Path(f"/proc/{pid}/cmdline").read_bytes()


def is_running(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
