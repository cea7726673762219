"""Builder, configuration, optimization profile, timing cache and progress monitor."""

from __future__ import annotations

import json
import time
from typing import Any

import onnx

from tests.simulators.machine import machine
from tests.simulators.tensorrt.network import log
from tests.simulators.tensorrt.objects import SimObject, setting
from tests.simulators.tensorrt.plan import Plan, write_plan

__all__ = [
    "Builder",
    "IBuilderConfig",
    "IHostMemory",
    "IOptimizationProfile",
    "IProgressMonitor",
    "ITimingCache",
]


class IHostMemory(SimObject, bytearray):
    """Bytes of TensorRT; speaks the buffer protocol, and little more may be used of it."""

    nbytes = property(lambda self: len(self))
    dtype = property(lambda self: self._trt.DataType.INT8)


class IOptimizationProfile(SimObject):
    extra_memory_target = setting("extra_memory_target", 1.0)

    def __init__(self) -> None:
        self._shapes: dict[str, tuple] = {}

    def set_shape(self, input, min, opt, max):
        shapes = tuple(tuple(int(size) for size in shape) for shape in (min, opt, max))
        for low, tuned, high in zip(*shapes, strict=True):
            if not low <= tuned <= high:
                raise ValueError(f"Shape provided for {input} is inconsistent: {shapes}")
        self._shapes[input] = shapes

    def get_shape(self, input):
        return [self._trt.Dims(shape) for shape in self._shapes.get(input, ())]

    def __bool__(self) -> bool:
        return bool(self._shapes)


class IProgressMonitor(SimObject):
    """To be derived from."""

    def __init__(self) -> None:
        self._initialised = True

    def phase_start(self, phase_name, parent_phase, num_steps):
        raise RuntimeError("Tried to call a pure virtual function")

    def step_complete(self, phase_name, step):
        raise RuntimeError("Tried to call a pure virtual function")

    def phase_finish(self, phase_name):
        raise RuntimeError("Tried to call a pure virtual function")


class ITimingCache(SimObject):
    """A set of timed layers, tied to version and device."""

    @classmethod
    def _of(cls, data: bytes) -> ITimingCache:
        cache = cls()
        cache._made_for = [cls._trt.version, machine.name]
        cache._entries: set[str] = set()
        if data:
            content = json.loads(data)
            cache._made_for, cache._entries = content["made_for"], set(content["entries"])
        return cache

    def serialize(self):
        content = {"made_for": self._made_for, "entries": sorted(self._entries)}
        return self._trt.IHostMemory(json.dumps(content).encode())

    def combine(self, input_cache, ignore_mismatch):
        if input_cache._made_for != self._made_for and not ignore_mismatch:
            return False
        self._entries |= input_cache._entries
        return True

    def reset(self):
        self._entries = set()
        return True


class IBuilderConfig(SimObject):
    avg_timing_iterations = setting("avg_timing_iterations", 1)
    builder_optimization_level = setting("builder_optimization_level", 3)
    engine_capability = setting("engine_capability")
    hardware_compatibility_level = setting("hardware_compatibility_level")
    max_aux_streams = setting("max_aux_streams", -1)
    max_num_tactics = setting("max_num_tactics", -1)
    plugins_to_serialize = setting("plugins_to_serialize", ())
    profile_stream = setting("profile_stream", 0)
    profiling_verbosity = setting("profiling_verbosity")
    progress_monitor = setting("progress_monitor")
    runtime_platform = setting("runtime_platform")
    num_optimization_profiles = property(lambda self: len(self._profiles))

    def __init__(self) -> None:
        # TF32 alone is on from the start.
        self._on = {self._trt.BuilderFlag.TF32}
        self._pools: dict[Any, int] = {}
        self._previews: dict[Any, bool] = {}
        self._profiles: list[IOptimizationProfile] = []
        self._cache: ITimingCache | None = None
        self._tactic_sources = sum(1 << int(source) for source in self._trt.TacticSource)
        self._profiling_verbosity = self._trt.ProfilingVerbosity.LAYER_NAMES_ONLY

    @property
    def flags(self):
        return sum(1 << int(flag) for flag in self._on)

    @flags.setter
    def flags(self, value):
        self._on = {flag for flag in self._trt.BuilderFlag if value & 1 << int(flag)}

    def set_flag(self, flag):
        self._on.add(flag)

    def clear_flag(self, flag):
        self._on.discard(flag)

    def get_flag(self, flag):
        return flag in self._on

    def set_memory_pool_limit(self, pool, pool_size):
        self._pools[pool] = pool_size

    def get_memory_pool_limit(self, pool):
        return self._pools.get(pool, machine.memory.total_bytes)

    def set_preview_feature(self, feature, enable):
        self._previews[feature] = enable

    def get_preview_feature(self, feature):
        return self._previews.get(feature, False)

    def set_tactic_sources(self, tactic_sources):
        self._tactic_sources = tactic_sources
        return True

    def get_tactic_sources(self):
        return self._tactic_sources

    def create_timing_cache(self, serialized_timing_cache):
        try:
            return self._trt.ITimingCache._of(bytes(serialized_timing_cache))
        except (ValueError, KeyError, TypeError):
            return None

    def set_timing_cache(self, cache, ignore_mismatch):
        made_here = cache._made_for == [self._trt.version, machine.name]
        if not made_here and not ignore_mismatch:
            return False
        self._cache = cache
        return True

    def get_timing_cache(self):
        return self._cache

    def add_optimization_profile(self, profile):
        if not profile:
            return -1
        self._profiles.append(profile)
        return len(self._profiles) - 1


class Builder(SimObject):
    max_threads = setting("max_threads", 1)
    error_recorder = setting("error_recorder")
    gpu_allocator = setting("gpu_allocator")
    num_DLA_cores = property(lambda self: 0)
    platform_has_fast_fp16 = property(lambda self: True)
    platform_has_fast_int8 = property(lambda self: True)
    platform_has_tf32 = property(lambda self: True)
    logger = property(lambda self: self._logger)

    def __init__(self, logger) -> None:
        self._logger = logger
        log(logger, "VERBOSE", "[MemUsageChange] Init builder")

    def create_network(self, flags=0):
        return self._trt.INetworkDefinition._new(int(flags))

    def create_builder_config(self):
        return self._trt.IBuilderConfig()

    def create_optimization_profile(self):
        return self._trt.IOptimizationProfile()

    def is_network_supported(self, network, config):
        return self._complaint(network, config) is None

    def reset(self):
        pass

    def build_serialized_network(self, network, config):
        complaint = self._complaint(network, config)
        if complaint is not None:
            log(self._logger, "ERROR", complaint)
            return None
        if not self._take_time(network, config):
            log(self._logger, "INFO", "Build was cancelled by the progress monitor")
            return None
        if any(node.op_type == machine.unbuildable for node in network._model.graph.node):
            text = f"Error Code 10: Could not find any implementation for {machine.unbuildable}"
            log(self._logger, "ERROR", text)
            return None
        return self._trt.IHostMemory(write_plan(self._plan(network, config)))

    def _complaint(self, network, config) -> str | None:
        """What TensorRT would refuse, in about its words."""
        trt, graph = self._trt, network._model.graph
        typed_flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
        typed = typed_flag is not None and bool(network._flags & 1 << int(typed_flag))
        precisions = {
            name
            for name in ("FP16", "INT8")
            if hasattr(trt.BuilderFlag, name) and config.get_flag(getattr(trt.BuilderFlag, name))
        }
        if typed and precisions:
            return f"Error Code 4: {precisions} are not compatible with a strongly typed network"
        if typed_flag is None and "FP16" not in precisions and _holds_halves(graph):
            return (
                "Error Code 4: fp16 precision has been set for a layer, but fp16 is not configured"
            )
        pairs = any(node.op_type == "DequantizeLinear" for node in graph.node)
        if typed_flag is None and pairs and "INT8" not in precisions:
            return "Error Code 4: a network with Q/DQ layers needs BuilderFlag::kINT8"
        if not pairs and "INT8" in precisions:
            return "Error Code 4: Calibration failure occurred with no scaling factors detected"
        for tensor in network._inputs:
            name = tensor._onnx_name
            readers = {node.op_type for node in graph.node if name in node.input}
            if tensor.dtype == trt.DataType.UINT8 and readers != {"Cast"}:
                return f"Error Code 4: UINT8 input {name} must be consumed by a Cast, not {readers}"
            if -1 in tensor.shape and not config._profiles:
                return "Network has dynamic or shape inputs, but no optimization profile is defined"
            for profile in config._profiles:
                if -1 in tensor.shape and tensor.name not in profile._shapes:
                    return f"Error Code 4: input {tensor.name} has no shape in the profile"
                for shape in profile._shapes.get(tensor.name, ()):
                    if any(
                        d not in (-1, size) for d, size in zip(tensor.shape, shape, strict=True)
                    ):
                        return f"Error Code 4: static dimension mismatch for {tensor.name}: {shape}"
        return None

    def _take_time(self, network, config) -> bool:
        """Report progress and fill the timing cache; False where the monitor cancels."""
        monitor = config.__dict__.get("_progress_monitor")
        phase, steps = "Building engine from the simulated network", max(1, len(network._layers))
        if monitor is not None:
            monitor.phase_start(phase, None, steps)
        goes_on = True
        for step, layer in enumerate(network._layers):
            time.sleep(machine.build_seconds / steps)
            hit = config._cache is not None and layer.name in config._cache._entries
            self._tell_of_timing(layer.name, hit)
            if config._cache is not None:
                config._cache._entries.add(layer.name)
            if monitor is not None and not monitor.step_complete(phase, step):
                goes_on = False
                break
        if monitor is not None:
            monitor.phase_finish(phase)
        return goes_on

    def _tell_of_timing(self, name: str, hit: bool) -> None:
        """What the verbose log says; 8.6 leaves the layer's name out of the first line."""
        old = self._trt.version == "8.6.1"
        lines = [
            f"=============== Computing costs for {'' if old else name}",
            f"{'*' * 15} Autotuning format combination: Float(3,1) -> Float(3,1) {'*' * 15}",
        ]
        tactic = "Tactic: 0x0000000000000001"
        if not hit and old:
            lines += [
                f"--------------- Timing Runner: {name} (Simulated)",
                f"{name} Set Tactic Name: simulated {tactic}",
                f"{tactic} Time: 0.0125",
                f"Fastest {tactic} Time: 0.0125",
                f">>>>>>>>>>>>>>> Chose Runner Type: Simulated {tactic}",
            ]
        elif not hit:
            lines += [
                f"--------------- Timing Runner: {name} (Simulated[0x80000009])",
                f"Tactic Name: simulated {tactic} Time: 0.0125",
                f"{name} (Simulated[0x80000009]) profiling completed in 0.1 seconds. "
                f"Fastest {tactic} Time: 0.0125",
                f">>>>>>>>>>>>>>> Chose Runner Type: Simulated {tactic}",
            ]
        for line in lines:
            log(self._logger, "VERBOSE", line)

    def _plan(self, network, config) -> Plan:
        trt = self._trt
        sharing = getattr(trt.PreviewFeature, "PROFILE_SHARING_0806", None)
        lean = trt.BuilderFlag.VERSION_COMPATIBLE in config._on and (
            trt.BuilderFlag.EXCLUDE_LEAN_RUNTIME not in config._on
        )
        return Plan(
            version=trt.version,
            device=machine.name,
            compute_capability=tuple(machine.compute_capability),
            profiles=[dict(profile._shapes) for profile in config._profiles],
            layers=_fused_layers(network._model.graph),
            verbosity=config.profiling_verbosity.name,
            # Later than 8.6 every engine allows it.
            profile_sharing=trt.version != "8.6.1" or config.get_preview_feature(sharing),
            aux_streams=max(0, config.max_aux_streams),
            host_code=lean,
            name=network.name,
            network=network._model.SerializeToString(),
        )


def _holds_halves(graph: onnx.GraphProto) -> bool:
    half = onnx.TensorProto.FLOAT16
    casts = (
        attribute.i
        for node in graph.node
        if node.op_type == "Cast"
        for attribute in node.attribute
        if attribute.name == "to"
    )
    return half in casts or any(weight.data_type == half for weight in graph.initializer)


def _fused_layers(graph: onnx.GraphProto) -> list[dict]:
    """Layers as the inspector shows them: a Relu joins the Conv before it, constants are gone."""
    producers = {output: node for node in graph.node for output in node.output}
    layers: dict[str, dict] = {}
    homes: dict[str, str] = {}
    for node in graph.node:
        name = node.name or f"{node.op_type}_{len(layers)}"
        if node.op_type == "Constant":
            continue
        before = producers.get(node.input[0]) if node.input else None
        if node.op_type == "Relu" and before is not None and before.op_type == "Conv":
            home = homes[before.output[0]]
            layers[home]["Name"] += f" + {name}"
            layers[home]["Outputs"] = list(node.output)
            layers[home]["Nodes"].append(name)
        else:
            home = name
            layers[home] = {
                "Name": name,
                "LayerType": "CaskConvolution" if node.op_type == "Conv" else node.op_type,
                "Inputs": list(node.input),
                "Outputs": list(node.output),
                "Nodes": [name],
                "TacticName": f"simulated_{node.op_type.lower()}",
                "TacticValue": "0x0000000000000001",
            }
        homes.update(dict.fromkeys(node.output, home))
    return list(layers.values())
