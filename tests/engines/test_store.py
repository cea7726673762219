from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from engines.errors import EngineBuildError, PlanError
from engines.locks import FileLock
from engines.manifest import canonical_json
from engines.store import EngineStore
from engines.store_entry import read_plan
from engines.store_upkeep import Layout
from tests.engines.manifests import BASE, manifest

PLAN = random.Random(0).randbytes(2000)


class Build:
    """Builds a plan of given bytes, and counts."""

    def __init__(self, plan: bytes = PLAN) -> None:
        self.plan = plan
        self.calls = 0

    def __call__(self, folder: Path) -> None:
        self.calls += 1
        (folder / "engine.plan").write_bytes(self.plan)
        (folder / "layers.json").write_text("{}")
        (folder / "build.log").write_text("built\n")


def never(folder: Path) -> None:
    raise AssertionError("built again")


def fill(store: EngineStore, plan: bytes = PLAN, **changes) -> Path:
    with store.get_or_build(manifest(**changes), Build(plan)) as engine:
        return engine.folder


@pytest.fixture
def store(tmp_path: Path) -> EngineStore:
    return EngineStore(tmp_path / "cache")


def test_builds_once_and_then_reads(store):
    build = Build()
    with store.get_or_build(BASE, build) as first, store.get_or_build(BASE, never) as second:
        assert (first.built, second.built) == (True, False)
        assert first.plan == second.plan == PLAN
        assert first.key == second.key == BASE.key() == first.folder.name
        assert second.manifest == BASE
        assert first.seconds > 0
        assert first.why == ("the store holds no fp16 engine of resnet50",)
        assert second.why == ()
    assert build.calls == 1


def test_the_entry_holds_what_the_design_says_and_is_private(store):
    folder = fill(store)
    assert folder.parent.name == "engines"
    assert sorted(path.name for path in folder.iterdir()) == [
        "build.log",
        "engine.plan",
        "layers.json",
        "manifest.json",
    ]
    for path in (folder.parent, folder, *folder.parent.iterdir()):
        assert path.stat().st_mode & 0o777 == 0o700
    for path in folder.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
    written = json.loads((folder / "manifest.json").read_text())
    assert written["manifest"]["tensorrt_version"] == "8.6.1"
    assert written["key"] == folder.name
    assert written["plan_bytes"] == len(PLAN)


def test_a_rebuild_says_why(store):
    fill(store)
    fill(store, tensorrt_version="10.16.1", gpu_name="NVIDIA L4", precision="fp32/1")
    with store.get_or_build(manifest(tensorrt_version="10.16.1"), Build()) as engine:
        assert engine.why == ("built for TensorRT 8.6.1, this is 10.16.1",)
    newest = store.entries()[0]
    assert newest.why == ("built for TensorRT 8.6.1, this is 10.16.1",)


def test_an_engine_of_another_precision_is_no_reason_to_build(store):
    fill(store, precision="int8/2", calibration_digest="c" * 64)
    with store.get_or_build(manifest(tensorrt_version="10.16.1"), Build()) as engine:
        assert engine.why == ("the store holds no fp16 engine of resnet50",)
    with store.get_or_build(
        manifest(precision="int8/2", calibration_digest="d" * 64), Build()
    ) as engine:
        assert engine.why == ("built for calibration cccccccccccc, this is dddddddddddd",)


def test_a_rebuild_that_was_asked_for_sets_the_old_engine_aside(store):
    folder = fill(store)
    with store.get_or_build(BASE, Build(PLAN[::-1]), rebuild=True) as engine:
        assert engine.built
        assert engine.plan == PLAN[::-1]
        assert engine.why == ("another build of it was asked for",)
    [aside] = (folder.parent / ".quarantine").iterdir()
    assert (aside / "engine.plan").read_bytes() == PLAN
    with store.get_or_build(manifest(gpu_name="other"), Build(), rebuild=True) as engine:
        assert engine.why == ("built for the GPU NVIDIA H200, this is other",)


def test_a_rebuild_that_fails_leaves_the_old_engine_in_service(store):
    folder = fill(store)

    def fail(folder: Path) -> None:
        raise EngineBuildError("killed at its deadline")

    with pytest.raises(EngineBuildError, match="deadline"):
        store.get_or_build(BASE, fail, rebuild=True)
    with store.get_or_build(BASE, never) as engine:
        assert engine.plan == PLAN
    assert list((folder.parent / ".quarantine").iterdir()) == []


def test_a_driver_update_rebuilds_nothing(store):
    fill(store)
    with store.get_or_build(manifest(driver_version="14.0"), never) as engine:
        assert engine.manifest.driver_version == "13.0"


def test_load_opens_by_key_what_another_process_built(store):
    assert store.load(BASE.key()) is None
    fill(store)
    with store.load(BASE.key()) as engine:
        assert engine.plan == PLAN


def test_a_damaged_engine_is_set_aside_and_built_once(store):
    folder = fill(store)
    (folder / "engine.plan").write_bytes(PLAN[:-1] + b"?")
    with store.get_or_build(BASE, Build()) as engine:
        assert engine.built
        assert engine.plan == PLAN
        assert "damaged" in engine.why[0]
        assert "sha256" in engine.why[0]
    [aside] = (folder.parent / ".quarantine").iterdir()
    assert (aside / "engine.plan").read_bytes() == PLAN[:-1] + b"?"


def test_a_build_that_is_damaged_at_once_is_an_error_and_is_not_kept(store, monkeypatch):
    """A disk that does not keep what it is given: once is bad luck, twice is reported."""
    folder = fill(store)
    (folder / "engine.plan").write_bytes(b"damaged")
    build = Build()

    def publish_damaged(self: EngineStore, staging: Path, key: str) -> None:
        (staging / "engine.plan").write_bytes(b"damaged again")
        staging.rename(folder)

    monkeypatch.setattr(EngineStore, "_publish", publish_damaged)
    with pytest.raises(PlanError, match=r"engine\.plan has 13 bytes"):
        store.get_or_build(BASE, build)
    assert build.calls == 1
    assert not folder.exists()


def test_a_plan_that_does_not_load_is_set_aside_by_its_user(store):
    folder = fill(store)
    aside = store.quarantine(BASE.key())
    assert aside is not None
    assert aside.parent.name == ".quarantine"
    assert not folder.exists()
    assert store.quarantine(BASE.key()) is None
    with store.get_or_build(BASE, Build()) as engine:
        assert engine.built


def test_quarantine_keeps_the_newest_three(store):
    folder = fill(store)
    for _ in range(5):
        store.quarantine(BASE.key())
        fill(store)
    assert len(list((folder.parent / ".quarantine").iterdir())) == 3


def test_a_failed_build_leaves_its_log_and_nothing_else(store, tmp_path):
    def fail(folder: Path) -> None:
        (folder / "engine.plan").write_bytes(b"half")
        (folder / "build.log").write_text("Error Code 4\n")
        raise EngineBuildError("TensorRT refused node 'conv1'")

    with pytest.raises(EngineBuildError, match=r"refused node 'conv1'\nThe log .*/\S+\.log$") as e:
        store.get_or_build(BASE, fail)
    log = Path(str(e.value).split()[-1])
    assert log.read_text() == "Error Code 4\n"
    root = tmp_path / "cache" / "engines"
    assert list((root / ".staging").iterdir()) == []
    assert [path for path in root.iterdir() if not path.name.startswith(".")] == []
    with store.get_or_build(BASE, Build()) as engine:
        assert engine.built


def test_a_build_without_a_plan_or_on_a_full_disk_is_an_error(store, monkeypatch):
    with pytest.raises(PlanError, match=r"cannot be kept.*No such file.*engine\.plan"):
        store.get_or_build(BASE, lambda folder: None)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PlanError, match=r"cannot be kept.*No space left"):
        store.get_or_build(BASE, Build())
    monkeypatch.undo()
    with store.get_or_build(BASE, Build()) as engine:
        assert engine.built


def test_two_thousand_corruptions_of_plan_and_manifest_are_refused(store, tmp_path):
    """Bits flipped, files cut, lengthened, emptied, swapped with another engine's."""
    folder, other = fill(store), fill(store, PLAN[::-1], gpu_name="NVIDIA L4")
    dice = random.Random(7)
    for round_ in range(2000):
        name = dice.choice(["engine.plan", "manifest.json"])
        path = folder / name
        good = path.read_bytes()
        path.write_bytes(bad := corrupt(good, (other / name).read_bytes(), dice))
        if bad == good:
            continue
        with pytest.raises(PlanError):
            read_plan(folder)
        path.write_bytes(good)
        if round_ % 200 == 0:
            assert read_plan(folder)[1] == PLAN


def corrupt(good: bytes, others: bytes, dice: random.Random) -> bytes:
    at = dice.randrange(len(good))
    bad = bytearray(good)
    match dice.randrange(7):
        case 0:
            bad[at] ^= 1 << dice.randrange(8)
        case 1:
            del bad[at:]
        case 2:
            bad += dice.randbytes(dice.randrange(1, 9))
        case 3:
            bad[at : at + 16] = dice.randbytes(len(bad[at : at + 16]))
        case 4:
            del bad[at]
        case 5:
            bad[at:at] = b" "
        case 6:
            bad[:] = others
    return bytes(bad)


def test_every_single_bit_of_the_manifest_counts(store):
    folder = fill(store)
    path = folder / "manifest.json"
    good = path.read_bytes()
    for at in range(len(good)):
        path.write_bytes(good[:at] + bytes([good[at] ^ (1 << at % 8)]) + good[at + 1 :])
        with pytest.raises(PlanError):
            read_plan(folder)


def test_an_engine_under_the_wrong_key_is_refused(store):
    folder, other = fill(store), fill(store, gpu_name="NVIDIA L4")
    shutil.rmtree(folder)
    shutil.copytree(other, folder)
    with pytest.raises(PlanError, match="manifest of another engine"):
        read_plan(folder)


def test_a_manifest_of_another_format_is_refused(store):
    folder = fill(store)
    content = json.loads((folder / "manifest.json").read_text())
    del content["digest"]
    content["format"] = 3
    content["digest"] = __import__("hashlib").sha256(canonical_json(content)).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
    with pytest.raises(PlanError, match="format is 3, expected 2"):
        read_plan(folder)


@pytest.mark.parametrize("name", ["engine.plan", "manifest.json"])
def test_symbolic_links_and_special_files_are_refused(store, tmp_path, name):
    folder = fill(store)
    (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    with pytest.raises(PlanError, match="cannot be read"):
        read_plan(folder)
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(PlanError, match="link or a special file"):
        read_plan(folder)


def test_an_entry_that_is_a_link_is_refused_and_set_aside(store, tmp_path):
    folder = fill(store)
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    with store.get_or_build(BASE, Build()) as engine:
        assert engine.built
        assert not folder.is_symlink()
    assert (tmp_path / "elsewhere" / "engine.plan").exists()


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_what_others_can_write_to_is_not_loaded(store, mode):
    folder = fill(store)
    folder.chmod(mode)
    with pytest.raises(PlanError, match=r"can be written to by other users \(mode 0"):
        read_plan(folder)
    folder.chmod(0o700)
    (folder / "engine.plan").chmod(0o666)
    with pytest.raises(PlanError, match="can be written to by other users"):
        read_plan(folder)


def test_what_belongs_to_somebody_else_is_not_loaded(store, monkeypatch):
    folder = fill(store)
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    with pytest.raises(PlanError, match=r"belongs to user \d+, this is user 4711.*--engine-cache"):
        read_plan(folder)


def test_a_store_that_others_can_write_to_or_that_is_a_link_is_refused(tmp_path):
    (tmp_path / "open" / "engines").mkdir(parents=True)
    (tmp_path / "open" / "engines").chmod(0o777)
    with pytest.raises(PlanError, match="can be written to by other users"):
        EngineStore(tmp_path / "open")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "engines").symlink_to(tmp_path / "open")
    with pytest.raises(PlanError, match="link or a special file"):
        EngineStore(tmp_path / "linked")


def test_a_store_that_others_can_only_read_is_made_private(tmp_path):
    (tmp_path / "engines").mkdir(mode=0o755)
    EngineStore(tmp_path)
    assert (tmp_path / "engines").stat().st_mode & 0o777 == 0o700


# -- eviction ------------------------------------------------------------------------------------


def names(store: EngineStore, tmp_path: Path) -> set[str]:
    return {entry.manifest.gpu_name for entry in store.entries()}


def age(folder: Path, seconds: float) -> None:
    """Pretend that the engine was last used this long ago."""
    lock = Layout(folder.parent).use_lock(folder.name)
    os.utime(lock, (time.time() - seconds,) * 2)


def test_the_least_recently_used_goes_first(tmp_path):
    store = EngineStore(tmp_path, max_bytes=3 * 5000)
    for number, seconds in enumerate([300, 100, 200]):
        age(fill(store, gpu_name=f"gpu{number}"), seconds)
    with store.get_or_build(manifest(gpu_name="gpu0"), never):
        pass  # used just now
    fill(store, bytes(5000), gpu_name="large")
    assert names(store, tmp_path) == {"gpu0", "gpu1", "large"}


def test_an_engine_in_use_is_never_evicted(tmp_path):
    store = EngineStore(tmp_path, max_bytes=1)
    with store.get_or_build(manifest(gpu_name="used"), Build()) as used:
        age(used.folder, 1000)
        fill(store, gpu_name="new")
        fill(store, gpu_name="newer")
        assert names(store, tmp_path) == {"used", "newer"}
    fill(store, gpu_name="newest")
    assert names(store, tmp_path) == {"newest"}


def test_an_engine_in_use_by_another_process_is_never_evicted(tmp_path):
    store = EngineStore(tmp_path, max_bytes=1)
    folder = fill(store, gpu_name="used")
    age(folder, 1000)
    with child(f"engine = store.load({folder.name!r})", tmp_path, max_bytes=1) as process:
        assert process.stdout.readline() == "ready\n"
        fill(store, gpu_name="new")
        assert names(store, tmp_path) == {"used", "new"}
        process.kill()
    fill(store, gpu_name="newer")
    assert names(store, tmp_path) == {"newer"}


def test_quarantine_goes_before_any_engine(tmp_path):
    store = EngineStore(tmp_path, max_bytes=2 * 5000)
    fill(store, gpu_name="damaged")
    store.quarantine(manifest(gpu_name="damaged").key())
    fill(store, gpu_name="old")
    fill(store, gpu_name="new")
    assert names(store, tmp_path) == {"old", "new"}
    assert list((tmp_path / "engines" / ".quarantine").iterdir()) == []


def test_nothing_is_evicted_where_nobody_can_know_what_is_in_use(tmp_path, monkeypatch):
    def no_locks(file, kind):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    store = EngineStore(tmp_path, max_bytes=1)
    fill(store, gpu_name="old")
    fill(store, gpu_name="new")
    assert names(store, tmp_path) == {"old", "new"}


# -- processes -----------------------------------------------------------------------------------

CHILD = """
import sys, time
from pathlib import Path
from engines.store import EngineStore
from tests.engines.manifests import BASE, manifest
store = EngineStore(Path(sys.argv[1]), max_bytes=int(sys.argv[2]))
{statements}
print("ready", flush=True)
time.sleep(60)
"""


def child(statements: str, cache: Path, *, max_bytes: int = 1 << 30) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD.format(statements=statements), cache, str(max_bytes)],
        stdout=subprocess.PIPE,
        text=True,
    )


BUILD_ONE = """
def build(folder):
    with open(Path(sys.argv[1]) / "builds", "a") as builds:
        builds.write("x")
    time.sleep(0.5)
    (folder / "engine.plan").write_bytes(bytes(5000))

engine = store.get_or_build(BASE, build)
assert engine.plan == bytes(5000)
print("built" if engine.built else "read", flush=True)
sys.exit()
"""


def test_sixteen_processes_make_one_build(tmp_path):
    children = [child(BUILD_ONE, tmp_path) for _ in range(16)]
    said = [process.communicate(timeout=120)[0].strip() for process in children]
    assert [process.returncode for process in children] == [0] * 16
    assert sorted(said) == ["built"] + ["read"] * 15
    assert (tmp_path / "builds").read_text() == "x"


BUILD_FOR_EVER = """
def build(folder):
    with open(folder / "engine.plan", "wb") as plan:
        for _ in range(20):
            plan.write(bytes(1000))
            plan.flush()
            time.sleep(0.0002)
    (folder / "layers.json").write_text("{}")

print("ready", flush=True)
for number in range(10**6):
    store.get_or_build(manifest(gpu_name=f"{time.time_ns()}"), build).close()
"""


def test_fifty_kills_during_builds_leave_no_bad_entry(tmp_path):
    """The least that survives a kill is either nothing or a whole engine; leftovers go later."""
    dice = random.Random(3)
    staging = tmp_path / "engines" / ".staging"
    leftovers = 0
    for _ in range(50):
        with child(BUILD_FOR_EVER, tmp_path, max_bytes=300_000) as process:
            assert process.stdout.readline() == "ready\n"
            time.sleep(dice.uniform(0, 0.1))
            process.send_signal(signal.SIGKILL)
            process.wait()
        leftovers += len(list(staging.iterdir()))
    store = EngineStore(tmp_path)
    folders = [path for path in (tmp_path / "engines").iterdir() if path.name[0] != "."]
    assert len(folders) > 5
    for folder in folders:
        entry, plan = read_plan(folder)
        assert plan == bytes(20_000)
        assert entry.manifest.key() == folder.name
    assert leftovers > 5  # most kills hit a build, and the next process removes what is left
    fill(store)
    assert list(staging.iterdir()) == []


def test_the_leftovers_of_the_same_engine_go_and_another_build_under_way_stays(tmp_path):
    store = EngineStore(tmp_path)
    staging = tmp_path / "engines" / ".staging"
    other = manifest(gpu_name="other").key()
    for key in (BASE.key(), other):
        (staging / f"{key}.killed").mkdir()
    with FileLock(tmp_path / "engines" / ".locks" / f"{other}.build"):
        fill(store)
        assert [path.name for path in staging.iterdir()] == [f"{other}.killed"]
    fill(store, gpu_name="third")
    assert list(staging.iterdir()) == []


def test_without_locks_the_first_to_publish_wins_and_all_get_the_same(tmp_path, monkeypatch):
    def no_locks(file, kind):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    barrier = threading.Barrier(4, timeout=30)

    def build(folder: Path) -> None:
        Build(folder.name.encode())(folder)
        barrier.wait()

    plans = []

    def run() -> None:
        with EngineStore(tmp_path).get_or_build(BASE, build) as engine:
            plans.append(engine.plan)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(plans) == 4
    assert len(set(plans)) == 1
