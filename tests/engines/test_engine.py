"""From a model to its engine, through the real store and build process, on the simulated GPU."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from engines.build_report import BuildEvent
from engines.engine import open_engine, prepare_engine
from engines.errors import BackendUnavailableError, EngineBuildError, PlanError
from engines.profile import Profile, parse_batch_size, parse_image_size
from engines.settings import BuilderSettings, EngineSettings
from engines.store import EngineStore, StoredEngine
from tests.engines.wrapped_graphs import wrapped_cnn

HEIGHT, WIDTH = parse_image_size("16")
BUILDER = BuilderSettings(
    precision="fp16",
    profile=Profile(batch=parse_batch_size("1:4:8"), height=HEIGHT, width=WIDTH),
)
SETTINGS = EngineSettings(builder=BUILDER)


@dataclass(frozen=True)
class Model:
    graph: bytes
    name: str = "cnn"
    model_id: str = "cnn@0123456789ab"


MODEL = Model(wrapped_cnn())


@pytest.fixture
def store(tmp_path):
    return EngineStore(tmp_path / "cache")


def test_the_first_start_builds_and_the_second_reads(install_gpu, store):
    install_gpu()
    events: list[BuildEvent] = []
    with prepare_engine(MODEL, SETTINGS, store, events.append) as first:
        assert first.built
        assert first.manifest.tensorrt_version == "10.16.1"
        assert first.manifest.gpu_name == "Simulated H200"
        assert first.manifest.compute_capability == "9.0"
        assert first.manifest.precision == "fp16/1"
    assert events[0].text == "Building the engine: the store holds no engine of cnn"
    events.clear()
    with prepare_engine(MODEL, SETTINGS, store, events.append) as second:
        assert not second.built
        assert second.plan == first.plan
    assert events == []
    assert [path.suffix for path in store.timings.iterdir()].count(".cache") == 1


def test_another_tensorrt_gpu_model_or_profile_rebuilds_and_says_why(install_gpu, store):
    install_gpu("8.6.1")
    prepare_engine(MODEL, SETTINGS, store).close()
    install_gpu("10.16.1")
    with prepare_engine(MODEL, SETTINGS, store) as engine:
        assert engine.why == ("built for TensorRT 8.6.1, this is 10.16.1",)
    install_gpu("10.16.1", name="Simulated L4", compute_capability=[8, 9])
    with prepare_engine(MODEL, SETTINGS, store) as engine:
        assert engine.why == (
            "built for the GPU Simulated H200, this is Simulated L4",
            "built for compute capability 9.0, this is 8.9",
        )
    other = Model(wrapped_cnn(seed=1), model_id="cnn@ba9876543210")
    with prepare_engine(other, SETTINGS, store) as engine:
        assert "this is cnn@ba9876543210" in engine.why[0]
    profile = replace(BUILDER.profile, batch=parse_batch_size("1:8:16"))
    wider = replace(SETTINGS, builder=replace(BUILDER, profile=profile))
    with prepare_engine(MODEL, wider, store) as engine:
        assert engine.why == ("built for batch size 1:4:8, this is 1:8:16",)


def test_what_does_not_change_the_engine_rebuilds_nothing(install_gpu, store):
    install_gpu()
    prepare_engine(MODEL, SETTINGS, store).close()
    renamed = replace(MODEL, name="renamed", model_id="renamed@0123456789ab")
    relaxed = replace(SETTINGS, deadline_s=10.0, timing_cache=False)
    with prepare_engine(renamed, relaxed, store) as engine:
        assert not engine.built


def test_a_build_that_fails_leaves_a_log_that_the_message_names(install_gpu, store):
    install_gpu()
    height, width = parse_image_size("8:16:32")
    profile = replace(BUILDER.profile, height=height, width=width)
    with pytest.raises(EngineBuildError, match=r"input is fixed.*\nThe log .* is (\S+)$") as error:
        prepare_engine(MODEL, replace(SETTINGS, builder=replace(BUILDER, profile=profile)), store)
    assert Path(str(error.value).split()[-1]).is_file()


def test_no_gpu_is_reported_as_such(install_gpu, store):
    install_gpu(device_count=0)
    with pytest.raises(BackendUnavailableError, match="--backend onnxruntime"):
        prepare_engine(MODEL, SETTINGS, store)


class Loader:
    """Refuses the first plans, as TensorRT does when a plan is not for this driver."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.loaded: list[StoredEngine] = []

    def __call__(self, engine: StoredEngine) -> str:
        self.loaded.append(engine)
        if len(self.loaded) <= self.refusals:
            raise PlanError("Error Code 1: tag")
        engine.close()
        return "loaded"


def test_an_engine_that_does_not_load_is_built_once_more(install_gpu, store):
    install_gpu()
    prepare_engine(MODEL, SETTINGS, store).close()
    events: list[BuildEvent] = []
    load = Loader(refusals=1)
    assert open_engine(MODEL, SETTINGS, store, load, events.append) == "loaded"
    assert [engine.built for engine in load.loaded] == [False, True]
    assert "does not load and is built again: Error Code 1: tag" in events[0].text
    assert len(list((load.loaded[0].folder.parent / ".quarantine").iterdir())) == 1


def test_the_second_failure_to_load_is_reported_and_nothing_bad_is_kept(install_gpu, store):
    install_gpu()
    prepare_engine(MODEL, SETTINGS, store).close()
    load = Loader(refusals=2)
    with pytest.raises(PlanError, match="Error Code 1: tag"):
        open_engine(MODEL, SETTINGS, store, load)
    assert len(load.loaded) == 2
    assert store.entries() == []


def test_a_fresh_engine_that_does_not_load_is_not_built_again(install_gpu, store):
    install_gpu()
    load = Loader(refusals=1)
    with pytest.raises(PlanError, match="Error Code 1: tag"):
        open_engine(MODEL, SETTINGS, store, load)
    assert [engine.built for engine in load.loaded] == [True]


def test_another_error_while_loading_keeps_the_engine(install_gpu, store):
    install_gpu()

    def fail(engine: StoredEngine) -> None:
        raise RuntimeError("a mistake")

    with pytest.raises(RuntimeError, match="a mistake"):
        open_engine(MODEL, SETTINGS, store, fail)
    with prepare_engine(MODEL, SETTINGS, store) as engine:
        assert not engine.built
