"""The simulators show only what the real libraries have, and the engines ask for nothing else."""

from __future__ import annotations

import inspect
import io

import pytest

from engines.build_log import BuildLog
from engines.builder import build_plan
from engines.errors import EngineBuildError, PlanError
from engines.layer_times import measure_layers
from engines.precision import apply_precision
from engines.profile import Profile, ShapeRange
from engines.settings import BuilderSettings
from engines.tensorrt_runner import TensorRTClassifier
from engines.timing_cache import TimingCacheFile
from tests.engines.wrapped_graphs import wrapped_cnn
from tests.simulators import cuda_runtime
from tests.simulators.installed import simulated_gpu
from tests.simulators.records import VERSIONS, PybindEnum, cuda_record, tensorrt_record
from tests.simulators.tensorrt.objects import NOT_RECORDED, SimObject, SimulatorGap
from tests.simulators.usage import used_by_engines

PROBED = {
    # engines.features
    ("NetworkDefinitionCreationFlag", "STRONGLY_TYPED"),
    ("NetworkDefinitionCreationFlag", "EXPLICIT_BATCH"),
    ("BuilderFlag", "FP16"),
    ("BuilderFlag", "OBEY_PRECISION_CONSTRAINTS"),
    ("PreviewFeature", "PROFILE_SHARING_0806"),
    ("tensorrt", "IProgressMonitor"),
    ("IBuilderConfig", "progress_monitor"),
    ("ParserError", "node_name"),
    ("ParserError", "node_operator"),
    # engines.builder, where networks are not strongly typed: 8.6.
    ("ILayer", "precision"),
    ("ILayer", "set_output_type"),
    # engines.tensorrt_engine: 8.6 has the first, 11 the second, 10 both.
    ("ICudaEngine", "device_memory_size"),
    ("ICudaEngine", "device_memory_size_v2"),
}
"""What the engines ask for and some version lacks: each behind a probe."""


def recorded(version, owner):
    record = tensorrt_record(version)
    if owner == "tensorrt":
        return {*record["all names"], "__version__"}
    entry = record.get(owner, {})  # a class that this version lacks has no names
    names = {*entry.get("enum", ()), *entry.get("methods", ()), *entry.get("properties", ())}
    return names | NOT_RECORDED.get(owner, set())


@pytest.fixture(params=VERSIONS)
def version(request):
    return request.param


@pytest.fixture
def tensorrt(version):
    with simulated_gpu(version):
        import tensorrt

        yield tensorrt


def test_every_simulated_name_is_recorded(tensorrt, version):
    for name, value in vars(tensorrt).items():
        if name.startswith("_") or name == "populate":
            continue
        assert name in recorded(version, "tensorrt")
        if isinstance(value, type) and issubclass(value, SimObject | PybindEnum):
            members = {n for n in vars(value) if not n.startswith("_")}
            assert members <= recorded(version, name), name


def test_enumerations_have_the_recorded_members_and_values(tensorrt, version):
    for name, entry in tensorrt_record(version).items():
        if name != "all names" and "enum" in entry:
            members = getattr(tensorrt, name).__members__
            assert {key: int(member) for key, member in members.items()} == entry["enum"]


def test_properties_are_as_writable_as_recorded(tensorrt, version):
    checked = 0
    for name, entry in tensorrt_record(version).items():
        for key, access in entry.get("properties", {}).items() if name != "all names" else ():
            member = vars(vars(tensorrt)[name]).get(key)
            if access == "ro" and isinstance(member, property):
                assert member.fset is None, f"{name}.{key}"
                checked += 1
    assert checked > 10


def test_what_was_removed_is_absent(tensorrt, version):
    assert hasattr(tensorrt.BuilderFlag, "FP16") == (version != "11.4.0")
    assert hasattr(tensorrt, "IProgressMonitor") == (version != "8.6.1")
    assert hasattr(tensorrt.ICudaEngine, "device_memory_size") == (version != "11.4.0")
    assert hasattr(tensorrt.ICudaEngine, "device_memory_size_v2") == (version != "8.6.1")
    assert not hasattr(tensorrt, "ICudaEngines")


def test_probing_what_exists_but_is_not_simulated_is_no_answer(tensorrt):
    with pytest.raises(SimulatorGap):
        hasattr(tensorrt, "Refitter")
    with pytest.raises(SimulatorGap):
        hasattr(tensorrt.Builder, "max_DLA_batch_size")


def test_objects_take_no_attributes_that_the_real_ones_lack(tensorrt):
    config = tensorrt.Builder(tensorrt.Logger()).create_builder_config()
    config.builder_optimization_level = 5
    with pytest.raises(AttributeError):
        config.builder_optimisation_level = 5


def test_the_engines_use_only_what_every_version_has_or_what_they_probe(tmp_path):
    uses = set()
    for version in VERSIONS:
        with simulated_gpu(version), used_by_engines(uses):
            import tensorrt

            for precision in ("fp32", "fp16"):
                infer(build(tensorrt, precision, tmp_path))
    everywhere = {
        (owner, name)
        for owner, name in uses
        if all(name in recorded(version, owner) for version in VERSIONS)
    }
    assert {
        ("IExecutionContext", "execute_async_v3"),
        ("IBuilderConfig", "max_aux_streams"),
        ("ITimingCache", "combine"),
        ("TensorIOMode", "INPUT"),
        ("tensorrt", "Runtime"),
    } <= everywhere
    assert uses - everywhere == PROBED


def build(trt, precision, timings):
    """Call everything that the builder ever calls; a graph that cannot be parsed included."""
    side = ShapeRange.fixed(16)
    profile = Profile(batch=ShapeRange(1, 4, 4), height=side, width=side)
    graph = apply_precision(wrapped_cnn(logits=True), precision)

    def attempt(graph):
        return build_plan(
            graph,
            BuilderSettings(
                precision=precision,
                profile=profile,
                workspace_bytes=2**20,
                max_aux_streams=0,
                version_compatible=True,
                hardware_compatibility="ampere_plus",
            ),
            trt=trt,
            log=BuildLog(trt, io.StringIO()),
            timings=TimingCacheFile(timings, version=trt.__version__, gpu="GPU"),
            progress=lambda phase, step, steps: None,
        ).plan

    with pytest.raises(EngineBuildError):
        attempt(b"no graph")
    return attempt(graph)


def infer(plan):
    """Call everything that the runner and the profiler ever call."""
    measure_layers(plan, batch_size=4, image_size=(16, 16), seconds=0.001)
    with TensorRTClassifier(
        plan, batch_size=4, image_size=(16, 16), precision="fp32", cuda_graph=True
    ) as classifier:
        for count in (4, 2):
            classifier.submit(classifier.acquire(), count)
            classifier.collect()
    with pytest.raises(PlanError):
        TensorRTClassifier(plan[:-1], batch_size=4, image_size=(16, 16), precision="fp32")


def test_cuda_functions_are_the_recorded_ones_with_their_parameters():
    functions = cuda_record()["functions"]
    for name in cuda_runtime.__all__:
        value = getattr(cuda_runtime, name)
        if inspect.isfunction(value):
            assert list(inspect.signature(value).parameters) == functions[name], name
        elif isinstance(value, type):
            assert {m.name: int(m) for m in value} == cuda_record()["enums"][name]
        else:
            assert value == cuda_record()["constants"][name]
