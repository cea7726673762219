"""The builder under the simulated TensorRT of three versions: what it asks for, what it reports."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from types import ModuleType

import numpy as np
import onnx
import pytest
from onnx import helper

from engines.build_log import BuildLog
from engines.builder import BuiltPlan, build_plan, least_memory_bytes
from engines.errors import BackendUnavailableError, EngineBuildError, ModelError
from engines.features import import_tensorrt, probe
from engines.precision import apply_precision
from engines.profile import Profile, parse_batch_size, parse_image_size
from engines.settings import BuilderSettings
from engines.timing_cache import TimingCacheFile
from tests.engines.wrapped_graphs import wrapped_cnn
from tests.simulators.installed import simulated_gpu
from tests.simulators.records import VERSIONS

HEIGHT, WIDTH = parse_image_size("16")
PROFILE = Profile(batch=parse_batch_size("1:4:8"), height=HEIGHT, width=WIDTH)
FP32 = BuilderSettings(precision="fp32", profile=PROFILE)
FP16 = replace(FP32, precision="fp16")


@pytest.fixture(params=VERSIONS)
def trt(request):
    with simulated_gpu(request.param):
        yield import_tensorrt()


@pytest.fixture
def trt86():
    with simulated_gpu("8.6.1"):
        yield import_tensorrt()


def build(trt: ModuleType, settings: BuilderSettings, graph: bytes | None = None, **more):
    graph = wrapped_cnn() if graph is None else graph
    log = io.StringIO()
    timings = more.pop("timings", None)
    progress = more.pop("progress", lambda phase, step, steps: None)
    built = build_plan(
        apply_precision(graph, settings.precision),
        settings,
        trt=trt,
        log=BuildLog(trt, log),
        timings=TimingCacheFile(timings, version=trt.__version__, gpu="GPU 9.0"),
        progress=progress,
    )
    return built, log.getvalue()


@pytest.fixture
def config(trt, monkeypatch):
    """The configuration of the last build."""
    seen = []
    create = trt.Builder.create_builder_config

    def remember(self):
        seen.append(create(self))
        return seen[-1]

    monkeypatch.setattr(trt.Builder, "create_builder_config", remember)
    return lambda: seen[-1]


def test_the_probe_finds_the_three_versions_apart_by_what_they_have():
    found = {}
    for version in VERSIONS:
        with simulated_gpu(version):
            found[version] = probe(import_tensorrt())
    old, ten, eleven = (found[version] for version in VERSIONS)
    assert [old.network_flags, ten.network_flags, eleven.network_flags] == [1, 2, 1]
    assert [old.typed, ten.typed, eleven.typed] == [False, True, True]
    assert [old.progress_monitor, ten.progress_monitor, eleven.progress_monitor] == [0, 1, 1]
    assert old.fp16_flags == ("FP16", "OBEY_PRECISION_CONSTRAINTS")
    assert old.preview_features == ("PROFILE_SHARING_0806",)
    assert old.int8_flags == ("INT8",)
    assert (old.opset, ten.opset, eleven.opset) == (17, None, None)
    assert (old.target, ten.target, eleven.target) == ("tensorrt-8", "tensorrt-10", "tensorrt-10")
    assert ten.int8_flags == eleven.int8_flags == ()
    assert ten.fp16_flags == eleven.fp16_flags == ten.preview_features == ()
    assert (
        old.tactic_sources == ten.tactic_sources == ("EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS")
    )
    assert eleven.tactic_sources == ()
    assert old.version == "8.6.1"


def test_a_machine_without_tensorrt_is_told_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tensorrt", None)
    with pytest.raises(BackendUnavailableError, match=r"nvcr\.io/nvidia/tensorrt.*onnxruntime"):
        import_tensorrt()


@pytest.mark.parametrize("settings", [FP32, FP16], ids=["fp32", "fp16"])
def test_builds_a_plan_that_loads_and_lists_its_layers(trt, settings):
    built, log = build(trt, settings)
    assert isinstance(built, BuiltPlan)
    engine = trt.Runtime(BuildLog(trt, io.StringIO()).sink).deserialize_cuda_engine(built.plan)
    shapes = engine.get_tensor_profile_shape("images", 0)
    assert [tuple(shape) for shape in shapes] == [(1, 16, 16, 3), (4, 16, 16, 3), (8, 16, 16, 3)]
    layers = json.loads(built.layers)["Layers"]
    assert "conv1" in {layer["Name"] for layer in layers}  # DETAILED: not only names
    assert "[VERBOSE] " in log


def test_one_engine_serves_a_range_of_resolutions(trt):
    height, width = parse_image_size("8:16:32")
    settings = replace(FP16, profile=Profile(batch=PROFILE.batch, height=height, width=width))
    built, _ = build(trt, settings, wrapped_cnn(height="height", width="width"))
    engine = trt.Runtime(BuildLog(trt, io.StringIO()).sink).deserialize_cuda_engine(built.plan)
    shapes = engine.get_tensor_profile_shape("images", 0)
    assert [tuple(shape) for shape in shapes] == [(1, 8, 8, 3), (4, 16, 16, 3), (8, 32, 32, 3)]


def test_a_fixed_input_refuses_other_sizes_in_words(trt):
    height, width = parse_image_size("8:16:32")
    settings = replace(FP32, profile=Profile(batch=PROFILE.batch, height=height, width=width))
    with pytest.raises(EngineBuildError, match=r"fixed at \[-1, 16, 16, 3\].*\[8, 32, 32, 3\] was"):
        build(trt, settings)


def test_tf32_is_off_unless_asked_for(trt, config):
    build(trt, FP32)
    assert not config().get_flag(trt.BuilderFlag.TF32)
    build(trt, replace(FP32, tf32=True))
    assert config().get_flag(trt.BuilderFlag.TF32)


def test_every_setting_arrives(trt, config):
    build(
        trt,
        replace(
            FP32,
            workspace_bytes=1 << 28,
            optimization_level=5,
            max_aux_streams=0,
            version_compatible=True,
            hardware_compatibility="ampere_plus",
        ),
    )
    made = config()
    assert made.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE) == 1 << 28
    assert made.builder_optimization_level == 5
    assert made.avg_timing_iterations == 8
    assert made.max_aux_streams == 0
    assert made.get_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    assert made.get_flag(trt.BuilderFlag.EXCLUDE_LEAN_RUNTIME)
    assert made.hardware_compatibility_level == trt.HardwareCompatibilityLevel.AMPERE_PLUS
    assert made.profiling_verbosity == trt.ProfilingVerbosity.DETAILED
    assert made.num_optimization_profiles == 1


def test_nothing_is_set_that_was_not_asked_for(trt, config):
    build(trt, FP32)
    made = config()
    assert made.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE) == 2**30  # all of the GPU
    assert made.max_aux_streams == -1
    assert made.flags == 0
    assert made.hardware_compatibility_level == trt.HardwareCompatibilityLevel.NONE


def test_no_kernels_of_other_libraries_are_used(trt, config):
    build(trt, FP32)
    sources = config().get_tactic_sources()
    allowed = {
        name for name, source in trt.TacticSource.__members__.items() if sources & 1 << int(source)
    }
    assert allowed == {"EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS"}


def test_on_8_6_fp16_is_permitted_and_scores_are_pinned_to_fp32(trt86, monkeypatch):
    trt, networks = trt86, []
    create = trt.Builder.create_network

    def remember(self, flags=0):
        networks.append(create(self, flags))
        return networks[-1]

    monkeypatch.setattr(trt.Builder, "create_network", remember)
    build(trt, FP16)
    network = networks[0]
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    pinned = {layer.name for layer in layers if layer.precision_is_set}
    assert pinned == {"nightshift/softmax", "nightshift/topk"}
    assert {layer.get_output_type(0) for layer in layers if layer.name in pinned} == {
        trt.DataType.FLOAT
    }


def test_8_6_shares_its_profile_between_contexts(trt86, monkeypatch):
    seen = []
    monkeypatch.setattr(
        trt86.IBuilderConfig,
        "set_preview_feature",
        lambda self, feature, enable: seen.append((feature.name, enable)),
    )
    build(trt86, FP32)
    assert seen == [("PROFILE_SHARING_0806", True)]


def test_a_hardware_level_that_the_version_lacks_is_refused(trt86):
    with pytest.raises(BackendUnavailableError, match=r"needs TensorRT 10, this is 8\.6\.1"):
        build(trt86, replace(FP32, hardware_compatibility="same_compute_capability"))


def test_a_node_that_cannot_be_read_is_named(trt, monkeypatch):
    model = onnx.load_model_from_string(wrapped_cnn())
    conv = next(node for node in model.graph.node if node.name == "conv2")
    conv.op_type, conv.domain = "DeformConvX", "com.example"
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    given = model.SerializeToString()
    words = r"has no operator com\.example\.DeformConvX \(first node 'conv2'\).*onnxruntime"
    with pytest.raises(ModelError, match=words) as refused:
        build(trt, FP32, given)
    assert probe(trt).version in str(refused.value)
    monkeypatch.setattr(trt.OnnxParser, "supports_operator", lambda *_: True)
    with pytest.raises(EngineBuildError, match=r"node 'conv2' \(DeformConvX\): No importer") as e:
        build(trt, FP32, given)
    assert probe(trt).version in str(e.value)


def test_a_newer_opset_is_lowered_for_8_6(trt86):
    """torch 2.13 writes opset 20: 8.6 would read a mean over two axes as one over all."""
    model = onnx.load_model_from_string(wrapped_cnn())
    [old] = [entry for entry in model.opset_import if entry.domain == ""]
    old.version = 20
    pool = next(node for node in model.graph.node if node.op_type == "GlobalAveragePool")
    axes = onnx.numpy_helper.from_array(np.array([2, 3]), "axes")
    model.graph.initializer.append(axes)
    pool.op_type = "ReduceMean"
    pool.input.append("axes")
    built, _ = build(trt86, FP32, model.SerializeToString())
    assert pool.name in {layer["Name"] for layer in json.loads(built.layers)["Layers"]}


def test_bytes_that_are_no_model_are_an_error(trt):
    with pytest.raises(EngineBuildError, match="cannot read the model: Failed to parse"):
        build(trt, FP32, b"not an onnx file")


def test_a_refused_build_carries_tensorrts_words(trt, monkeypatch):
    monkeypatch.setattr(trt.Builder, "_complaint", lambda *_: "Error Code 10: no implementation")
    with pytest.raises(
        EngineBuildError, match="could not build the engine: Error Code 10: no impl"
    ):
        build(trt, FP32)


def test_a_plan_that_does_not_load_again_is_an_error(trt, monkeypatch):
    monkeypatch.setattr(
        trt.Runtime, "deserialize_cuda_engine", lambda self, plan: self._refuse("Error Code 1: tag")
    )
    with pytest.raises(EngineBuildError, match=r"does not load.*Error Code 1: tag"):
        build(trt, FP32)


@pytest.mark.parametrize(
    ("owner", "method", "answer", "words"),
    [
        ("IBuilderConfig", "add_optimization_profile", -1, "refused the profile"),
        ("IBuilderConfig", "set_tactic_sources", False, "refused the tactic sources"),
    ],
)
def test_every_answer_is_looked_at(trt86, monkeypatch, owner, method, answer, words):
    monkeypatch.setattr(getattr(trt86, owner), method, lambda *_: answer)
    with pytest.raises(EngineBuildError, match=words):
        build(trt86, FP32)


def test_a_builder_that_does_not_start_is_an_error(trt, monkeypatch):
    """No driver: pybind11 raises TypeError, and the reason is a warning (seen with 8.6.1)."""

    def refuse(self, logger):
        logger.log(trt.ILogger.Severity.WARNING, "CUDA initialization failure with error: 35")
        raise TypeError("pybind11::init(): factory function returned nullptr")

    monkeypatch.setattr(trt.Builder, "__init__", refuse)
    with pytest.raises(EngineBuildError, match="does not start: CUDA initialization failure"):
        build(trt, FP32)


def test_progress_is_reported_where_tensorrt_reports_it(trt):
    steps: list[tuple[str, int, int]] = []
    build(trt, FP32, progress=lambda *step: steps.append(step))
    if not probe(trt).progress_monitor:
        assert steps == []
        return
    phase, _, total = steps[0]
    assert steps == [(phase, done, total) for done in range(total + 1)]


def test_timings_are_kept_and_used_again(trt, tmp_path):
    _, first = build(trt, FP32, timings=tmp_path)
    _, second = build(trt, FP32, timings=tmp_path)
    assert "Timing Runner" in first
    assert "Timing Runner" not in second
    build(trt, FP32, wrapped_cnn(seed=1), timings=tmp_path)
    [file] = tmp_path.glob("*.cache")
    assert file.name == f"tensorrt-{trt.__version__}-GPU-9.0-x8.cache"


def test_builds_that_overlap_add_their_timings(trt, tmp_path, monkeypatch):
    """The other build ends while this one runs: what it timed is not lost."""
    work = trt.Builder.build_serialized_network

    def overlapped(self, network, config):
        monkeypatch.undo()
        model = onnx.load_model_from_string(wrapped_cnn())
        for node in model.graph.node:
            node.name += "_of_another_model"
        build(trt, FP32, model.SerializeToString(), timings=tmp_path)
        return work(self, network, config)

    monkeypatch.setattr(trt.Builder, "build_serialized_network", overlapped)
    build(trt, FP32, timings=tmp_path)
    content = next(tmp_path.glob("*.cache")).read_bytes()
    assert b'"conv1"' in content
    assert b'"conv1_of_another_model"' in content


@pytest.mark.parametrize("damage", [b"", b"short", b"x" * 300])
def test_a_damaged_timing_cache_counts_as_none_and_is_replaced(trt, tmp_path, damage):
    build(trt, FP32, timings=tmp_path)
    [file] = tmp_path.glob("*.cache")
    good = file.read_bytes()
    file.write_bytes(damage)
    _, log = build(trt, FP32, timings=tmp_path)
    assert "cache hit" not in log
    assert file.read_bytes() == good


def test_the_timings_of_another_gpu_are_not_taken(trt, tmp_path):
    build(trt, FP32, timings=tmp_path)
    with simulated_gpu(trt.__version__, name="Simulated L4"):
        _, log = build(import_tensorrt(), FP32, timings=tmp_path)
    assert "cache hit" not in log


def test_the_log_stops_at_its_size_but_not_for_errors(trt, monkeypatch):
    monkeypatch.setattr("engines.build_log.MAX_LOG_CHARACTERS", 100)
    file = io.StringIO()
    log = BuildLog(trt, file)
    for _ in range(50):
        log.sink.log(trt.ILogger.Severity.VERBOSE, "Tactic: 0x1 Time: 0.1")
    log.sink.log(trt.ILogger.Severity.ERROR, "the cause")
    assert len(file.getvalue()) < 300
    assert log.take_errors() == "the cause"
    assert log.take_errors() == "TensorRT gave no reason"


def test_the_memory_estimate_holds_weights_and_the_largest_batch():
    least = least_memory_bytes(100_000_000, PROFILE)
    assert least >= 100_000_000 + 8 * 16 * 16 * 3 * 5
    larger = replace(PROFILE, batch=parse_batch_size("1024"))
    assert least_memory_bytes(100_000_000, larger) - least == 1016 * 16 * 16 * 3 * 5


def test_impossible_settings_are_refused_with_what_was_given():
    for name, value in {
        "workspace_bytes": 0,
        "optimization_level": 6,
        "max_aux_streams": -1,
        "hardware_compatibility": "hopper",
        "precision": "int4",
    }.items():
        with pytest.raises(ValueError, match=rf"{name}.*{value}"):
            replace(FP32, **{name: value})
