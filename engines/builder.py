"""A wrapped ONNX graph in, a plan out: what `trtexec --onnx --saveEngine` does.

One path for TensorRT 8.6, 10 and 11 (engines.features). TensorRT's calls return None, False or -1
and say why in its log only: every result is checked, and the exception has the log's last errors.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from types import ModuleType
from typing import Any

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # ships no types

from engines.build_log import BuildLog
from engines.errors import BackendUnavailableError, EngineBuildError
from engines.features import Features, probe
from engines.opset import fit_operators
from engines.precision import OWN_NODE_PREFIX
from engines.profile import Profile
from engines.settings import BuilderSettings
from engines.timing_cache import TIMING_ITERATIONS, TimingCacheFile

__all__ = ["RECIPE_VERSION", "BuiltPlan", "build_plan", "least_memory_bytes"]

RECIPE_VERSION = 3
"""Raised whenever this module asks TensorRT for something else, so that engines are built again."""

INPUT_NAME = "images"

FP16_PRECISIONS = ("fp16", "int8")
"""Those that compute something in fp16: int8 does so outside of its Q/DQ pairs."""

FP32_LAYER_TYPES = ("ACTIVATION", "SOFTMAX", "TOPK")
"""`LayerType` of what follows the model: pinned to fp32 where flags alone decide the precision."""

SCRATCH_BYTES = 256 * 2**20
"""Room for kernels and their scratch memory while they are timed; chosen, not measured."""

Progress = Callable[[str, int, int], None]
"""Called with a phase's name, its steps done and its steps in all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltPlan:
    """A build's result.

    Attributes:
        plan: The serialized engine; this TensorRT deserialized it once.
        layers: What the engine inspector says of it, JSON.
        seconds: How long TensorRT built.
    """

    plan: bytes
    layers: str
    seconds: float


def build_plan(
    graph: bytes,
    settings: BuilderSettings,
    *,
    trt: ModuleType,
    log: BuildLog,
    timings: TimingCacheFile,
    progress: Progress,
) -> BuiltPlan:
    """Build an engine on this thread's GPU; takes seconds to many minutes.

    Args:
        graph: Wrapped graph in the precision of `settings`, see engines.precision.
        settings: What to build.
        trt: The module `tensorrt`.
        log: Receives what TensorRT says.
        timings: Timing cache to use and to add to.
        progress: Told of phases and steps where this TensorRT reports them.

    Raises:
        EngineBuildError: TensorRT refused the graph, the shapes or the settings, or failed.
        ModelError: The graph has an operator that TensorRT lacks; see engines.opset.
        BackendUnavailableError: This TensorRT is too old for a setting.
    """
    return _Build(settings, trt, log).run(graph, timings, progress)


def least_memory_bytes(graph_bytes: int, profile: Profile) -> int:
    """Memory below which no build succeeds: the weights, the largest batch in uint8 and in fp32.

    An estimate from below: activations are the model's secret until it is built.
    """
    return graph_bytes + prod(profile.max_shape) * (1 + 4) + SCRATCH_BYTES


class _Build:
    """One build and the objects of TensorRT that it needs."""

    def __init__(self, settings: BuilderSettings, trt: ModuleType, log: BuildLog) -> None:
        self.settings = settings
        self.trt = trt
        self.log = log
        self.features: Features = probe(trt)
        self.quantized = False  # whether the graph holds Q/DQ pairs, its author's or ours
        try:
            self.builder = trt.Builder(log.sink)
        except TypeError as error:  # pybind11's answer to a factory that returned nullptr
            raise self.failure("TensorRT does not start") from error

    def run(self, graph: bytes, timings: TimingCacheFile, progress: Progress) -> BuiltPlan:
        self.quantized = b"DequantizeLinear" in graph
        network = self.parse(graph)
        config = self.configure(network)
        timings.lend(config)
        self.log.take_errors()  # of a cache that is not taken, which costs nothing but time
        if self.features.progress_monitor:
            config.progress_monitor = _progress_monitor(self.trt, progress)
        started = time.monotonic()
        serialized = self.builder.build_serialized_network(network, config)
        if serialized is None:
            raise self.failure("TensorRT could not build the engine")
        seconds = time.monotonic() - started
        timings.merge(config)
        plan = bytes(serialized)
        return BuiltPlan(plan=plan, layers=self.inspect(plan), seconds=seconds)

    def failure(self, what: str) -> EngineBuildError:
        return EngineBuildError(f"{what}: {self.log.take_errors()}")

    def parse(self, graph: bytes) -> Any:  # noqa: ANN401 - tensorrt.INetworkDefinition
        """Read the graph into a network; errors name the node."""
        trt = self.trt
        network = self.builder.create_network(self.features.network_flags)
        parser = trt.OnnxParser(network, self.log.sink)
        graph = self.fit(graph, parser)
        if b"InstanceNormalization" in graph:
            # On by default since 10; without it 8.6 takes a plugin, which is not loaded here. For
            # no other model, as 8.6.0's library has no such call and 8.6.1's bindings crash on it.
            parser.set_flag(trt.OnnxParserFlag.NATIVE_INSTANCENORM)
        if not parser.parse(graph):
            errors = [parser.get_error(index) for index in range(parser.num_errors)]
            reasons = "; ".join(self.parser_error(graph, error) for error in errors)
            raise EngineBuildError(
                f"TensorRT {self.features.version} cannot read the model: "
                f"{reasons or self.log.take_errors()}"
            )
        return network

    def fit(self, graph: bytes, parser: Any) -> bytes:  # noqa: ANN401 - tensorrt.OnnxParser
        """Write the graph in the operators and the opset that the parser reads."""
        try:
            model = onnx.load_model_from_string(graph)
        except DecodeError:
            return graph  # The parser says what is wrong with it.
        fit_operators(
            model,
            supports=parser.supports_operator,
            opset=self.features.opset,
            parser=f"TensorRT {self.features.version}",
        )
        return bytes(model.SerializeToString())

    def parser_error(self, graph: bytes, error: Any) -> str:  # noqa: ANN401 - ParserError
        """One error of the parser with the node's name and operator, if it concerns a node."""
        name, operator = "", ""
        if self.features.parser_node_names:
            name, operator = error.node_name(), error.node_operator()
        elif error.node() >= 0:
            with suppress(IndexError):
                node = onnx.load_model_from_string(graph).graph.node[error.node()]
                name, operator = node.name, node.op_type
        where = f"node {name!r} ({operator}): " if name or operator else ""
        return f"{where}{error.desc()}"

    def configure(self, network: Any) -> Any:  # noqa: ANN401 - INetworkDefinition, IBuilderConfig
        trt, settings = self.trt, self.settings
        config = self.builder.create_builder_config()
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        config.builder_optimization_level = settings.optimization_level
        config.avg_timing_iterations = TIMING_ITERATIONS
        if settings.workspace_bytes is not None:
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace_bytes)
        if settings.max_aux_streams is not None:
            config.max_aux_streams = settings.max_aux_streams
        for name in self.flags():
            config.set_flag(getattr(trt.BuilderFlag, name))
        if not settings.tf32:  # the only flag that is on from the start
            config.clear_flag(trt.BuilderFlag.TF32)
        for name in self.features.preview_features:
            config.set_preview_feature(getattr(trt.PreviewFeature, name), True)
        self.limit_tactics(config)
        config.hardware_compatibility_level = self.hardware_compatibility()
        self.add_profile(network, config)
        if settings.precision in FP16_PRECISIONS and not self.features.typed:
            self.pin_to_fp32(network)
        return config

    def flags(self) -> Iterator[str]:
        """Names of the builder flags to set."""
        if self.settings.tf32:
            yield "TF32"
        if self.settings.precision in FP16_PRECISIONS:
            yield from self.features.fp16_flags
        if self.quantized:
            yield from self.features.int8_flags
        if self.settings.version_compatible:
            # Without the lean runtime: host code, which plans of ours must not hold.
            yield from ("VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME")

    def limit_tactics(self, config: Any) -> None:  # noqa: ANN401 - IBuilderConfig
        sources = self.features.tactic_sources
        if not sources:
            return
        mask = sum(1 << int(getattr(self.trt.TacticSource, name)) for name in sources)
        if not config.set_tactic_sources(mask):
            raise self.failure(f"TensorRT refused the tactic sources {', '.join(sources)}")

    def hardware_compatibility(self) -> Any:  # noqa: ANN401 - HardwareCompatibilityLevel
        level = self.settings.hardware_compatibility
        levels = self.trt.HardwareCompatibilityLevel
        if not hasattr(levels, level.upper()):
            raise BackendUnavailableError(
                f"hardware compatibility {level!r} needs TensorRT 10, this is "
                f"{self.features.version}: take 'none' or 'ampere_plus'"
            )
        return getattr(levels, level.upper())

    def add_profile(self, network: Any, config: Any) -> None:  # noqa: ANN401 - as in configure
        """Set min, opt and max of the input; a dimension that is fixed must be what was asked."""
        wanted = self.settings.profile
        shape = tuple(network.get_input(0).shape)
        for size, low, high in zip(shape, wanted.min_shape, wanted.max_shape, strict=True):
            if size != -1 and not low == size == high:
                raise EngineBuildError(
                    f"the model's input is fixed at {list(shape)} [batch, height, width, 3], but "
                    f"{list(wanted.min_shape)} to {list(wanted.max_shape)} was asked for: take its "
                    "own size, or export the model with dynamic height and width"
                )
        profile = self.builder.create_optimization_profile()
        profile.set_shape(INPUT_NAME, wanted.min_shape, wanted.opt_shape, wanted.max_shape)
        if not profile or config.add_optimization_profile(profile) < 0:
            raise self.failure(
                f"TensorRT refused the profile {wanted.min_shape} to {wanted.max_shape}"
            )

    def pin_to_fp32(self, network: Any) -> None:  # noqa: ANN401 - INetworkDefinition
        """Keep scores in fp32 on 8.6, where FP16 is a permission for every layer of the network."""
        trt = self.trt
        pinned = {getattr(trt.LayerType, name) for name in FP32_LAYER_TYPES}
        for index in range(network.num_layers):
            layer = network.get_layer(index)
            if layer.name.startswith(OWN_NODE_PREFIX) and layer.type in pinned:
                layer.precision = trt.DataType.FLOAT
                layer.set_output_type(0, trt.DataType.FLOAT)

    def inspect(self, plan: bytes) -> str:
        """Deserialize the plan, which shows that it loads, and ask what became of the layers."""
        trt = self.trt
        runtime = trt.Runtime(self.log.sink)  # engine_host_code_allowed stays False
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise self.failure("TensorRT does not load the engine that it built")
        inspector = engine.create_engine_inspector()
        # Without shapes the inspector says neither dtypes nor memory formats of a dynamic engine.
        context = self.context_at_opt(engine)
        if context is not None:
            inspector.execution_context = context
        layers = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
        return str(layers)

    def context_at_opt(self, engine: Any) -> Any:  # noqa: ANN401 - ICudaEngine, IExecutionContext
        """A context with the shape that the kernels were timed at; None if it does not fit."""
        context = engine.create_execution_context()
        shape = self.settings.profile.opt_shape
        if context is None or not context.set_input_shape(INPUT_NAME, shape):
            self.log.take_errors()  # the engine is good all the same
            return None
        return context


def _progress_monitor(trt: ModuleType, progress: Progress) -> Any:  # noqa: ANN401 - see above
    """An IProgressMonitor; the class cannot exist before TensorRT is imported."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, _parent: str | None, num_steps: int) -> None:
            self.steps[phase_name] = num_steps
            progress(phase_name, 0, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            progress(phase_name, step + 1, self.steps.get(phase_name, 0))
            return True  # go on; a build is cancelled by killing its process

        def phase_finish(self, phase_name: str) -> None:
            self.steps.pop(phase_name, None)

    return Monitor()
