"""From a model to its engine, through the real store and build process, on the simulated GPU."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from engines.build_report import BuildEvent
from engines.engine import open_engine, prepare_engine
from engines.errors import BackendUnavailableError, EngineBuildError, ModelError, PlanError
from engines.precision import precision_recipe
from engines.profile import Profile, parse_batch_size, parse_image_size
from engines.quantize import Calibration
from engines.quantize.calibrate import calibrate
from engines.settings import BuilderSettings, EngineSettings
from engines.store import EngineStore, StoredEngine
from tests.engines.quantize.networks import network, photographs
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
    assert events[0].text == "Building the engine: the store holds no fp16 engine of cnn"
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


SMALL_HEIGHT, SMALL_WIDTH = parse_image_size("32")
INT8 = EngineSettings(
    builder=BuilderSettings(
        precision="int8",
        profile=Profile(batch=parse_batch_size("1:2:4"), height=SMALL_HEIGHT, width=SMALL_WIDTH),
    )
)
QUANTIZABLE = Model(network(["identity"]), name="net")


def ranges(method: str = "minmax") -> Calibration:
    return calibrate(QUANTIZABLE.graph, [photographs(32)], method=method, threads=1)


@pytest.mark.parametrize("version", ["8.6.1", "10.16.1", "11.4.0"])
def test_an_int8_engine_is_built_from_a_calibration_that_is_part_of_its_key(
    install_gpu, store, version
):
    install_gpu(version)
    first = ranges()
    with prepare_engine(QUANTIZABLE, INT8, store, calibration=first) as engine:
        assert engine.built
        assert engine.manifest.precision == precision_recipe("int8")
        assert engine.manifest.calibration_digest == first.digest
        assert Calibration.from_json((engine.folder / "calibration.json").read_bytes()) == first
    with prepare_engine(QUANTIZABLE, INT8, store, calibration=ranges()) as engine:
        assert not engine.built
    with prepare_engine(QUANTIZABLE, INT8, store, calibration=ranges("percentile")) as engine:
        assert engine.built
        assert engine.why[0].startswith(f"built for calibration {first.digest[:12]}, this is ")


def test_a_calibration_is_no_part_of_an_engine_that_does_not_use_it(install_gpu, store):
    install_gpu()
    fp16 = replace(INT8, builder=replace(INT8.builder, precision="fp16"))
    prepare_engine(QUANTIZABLE, fp16, store).close()
    with prepare_engine(QUANTIZABLE, fp16, store, calibration=ranges()) as engine:
        assert not engine.built
        assert engine.manifest.calibration_digest is None


def test_int8_without_a_calibration_or_with_another_models_is_refused(install_gpu, store):
    install_gpu()
    with pytest.raises(ModelError, match="--calibration-images"):
        prepare_engine(QUANTIZABLE, INT8, store)
    with pytest.raises(ModelError, match="calibrate again"):
        prepare_engine(replace(QUANTIZABLE, graph=b"other"), INT8, store, calibration=ranges())


def test_bf16_is_refused_by_8_and_built_by_10(install_gpu, store):
    bf16 = replace(INT8, builder=replace(INT8.builder, precision="bf16"))
    install_gpu("8.6.1")
    with pytest.raises(BackendUnavailableError, match="bf16 needs TensorRT 10"):
        prepare_engine(QUANTIZABLE, bf16, store)
    install_gpu("10.16.1")
    with prepare_engine(QUANTIZABLE, bf16, store) as engine:
        assert engine.manifest.precision == "bf16/1"
