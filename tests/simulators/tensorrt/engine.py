"""Runtime, engine, execution context and inspector; networks are executed by ONNX Runtime."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from contextlib import suppress
from math import prod
from typing import Any

import numpy as np
import onnx
import onnxruntime

from tests.simulators.machine import Failure, SimulatedMisuse, Span, Work, machine
from tests.simulators.tensorrt.network import data_type, log
from tests.simulators.tensorrt.objects import SimObject, setting
from tests.simulators.tensorrt.plan import Plan, read_plan, write_plan

__all__ = ["EngineInspector", "ICudaEngine", "IExecutionContext", "IProfiler", "Runtime"]

NUMPY_TYPES = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "UINT8": np.uint8,
    "INT8": np.int8,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
}
ACTIVATION_BYTES_PER_INPUT_BYTE = 4
"""Of a simulated context: as if it held the input once in float32."""


@functools.lru_cache(maxsize=8)
def _session(network: bytes) -> onnxruntime.InferenceSession:
    """One session for each graph: a thousand simulated engines of one graph need no more."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])


@functools.lru_cache(maxsize=8)
def _tensors(network: bytes) -> tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto]]:
    graph = onnx.load_model_from_string(network).graph
    weights = {weight.name for weight in graph.initializer}
    return [value for value in graph.input if value.name not in weights], list(graph.output)


def _refusable(method: Callable) -> Callable:
    """Let a method that answers None or False do so where the machine is told to."""

    @functools.wraps(method)
    def call(self: Any, *arguments: Any) -> Any:
        if machine.enter_tensorrt():
            return self._refuse(f"{method.__name__}: injected refusal")
        return method(self, *arguments)

    return call


class Runtime(SimObject):
    engine_host_code_allowed = setting("engine_host_code_allowed", False)
    error_recorder = setting("error_recorder")
    gpu_allocator = setting("gpu_allocator")
    max_threads = setting("max_threads", 1)
    temporary_directory = setting("temporary_directory")
    tempfile_control_flags = setting("tempfile_control_flags", 0)
    logger = property(lambda self: self._logger)

    def __init__(self, logger) -> None:
        self._logger = logger
        log(logger, "VERBOSE", "[MemUsageChange] Init CUDA")

    @_refusable
    def deserialize_cuda_engine(self, serialized_engine):
        try:
            plan = read_plan(bytes(serialized_engine))
        except (ValueError, TypeError, KeyError) as error:
            return self._refuse(
                f"Error Code 1: Serialization (Serialization assertion failed: {error})"
            )
        here = self._trt.version
        if plan.version != here:
            return self._refuse(
                "Error Code 1: Serialization (Version tag does not match. Note: Current Version: "
                f"{here}, Serialized Engine Version: {plan.version})"
            )
        if (plan.device, tuple(plan.compute_capability)) != (
            machine.name,
            tuple(machine.compute_capability),
        ):
            return self._refuse(
                "Error Code 6: The engine plan file is generated on an incompatible device, "
                f"expecting {machine.name} got {plan.device}, please rebuild"
            )
        if plan.host_code and not self.engine_host_code_allowed:
            return self._refuse("Error Code 9: the engine holds host code, which is not allowed")
        weights = machine.memory.allocate("weights", len(serialized_engine), backed=False)
        if weights is None:
            return self._refuse("Error Code 2: OutOfMemory (no further information)")
        return self._trt.ICudaEngine._of(plan, self._logger, weights)

    def _refuse(self, text: str) -> None:
        log(self._logger, "ERROR", f"IRuntime::deserializeCudaEngine: {text}")


class _DeviceShare(SimObject):
    """Gives its device memory back when Python forgets it, as TensorRT's objects do."""

    def __del__(self) -> None:
        block = self.__dict__.get("_block")
        if block is None or machine.memory.blocks.get(block.address) is not block:
            return  # the machine was reset meanwhile
        # What it finds is kept for `verify`: nothing may be raised here.
        with suppress(SimulatedMisuse):
            machine.require_idle(block)
        machine.memory.release(block)


class ICudaEngine(_DeviceShare):
    error_recorder = setting("error_recorder")
    name = property(lambda self: self._plan.name)
    num_io_tensors = property(lambda self: len(self._values))
    num_layers = property(lambda self: len(self._plan.layers))
    num_optimization_profiles = property(lambda self: max(1, len(self._plan.profiles)))
    num_aux_streams = property(lambda self: self._plan.aux_streams)
    refittable = property(lambda self: False)
    profiling_verbosity = property(
        lambda self: getattr(self._trt.ProfilingVerbosity, self._plan.verbosity)
    )
    device_memory_size = property(lambda self: self._activation_bytes())
    device_memory_size_v2 = property(lambda self: self._activation_bytes())

    @classmethod
    def _of(cls, plan: Plan, logger: Any, block: Any) -> ICudaEngine:
        engine = cls()
        engine._plan, engine._logger, engine._block = plan, logger, block
        engine._contexts = 0
        inputs, outputs = _tensors(plan.network)
        engine._inputs = {value.name for value in inputs}
        engine._values = {value.name: value for value in [*inputs, *outputs]}
        return engine

    def get_tensor_name(self, index):
        return list(self._values)[index]

    def get_tensor_mode(self, name):
        if name not in self._values:
            return self._trt.TensorIOMode.NONE
        return (
            self._trt.TensorIOMode.INPUT if name in self._inputs else self._trt.TensorIOMode.OUTPUT
        )

    def get_tensor_dtype(self, name):
        return data_type(self._trt, self._values[name].type.tensor_type.elem_type)

    def get_tensor_shape(self, name):
        dims = self._values[name].type.tensor_type.shape.dim
        return self._trt.Dims(d.dim_value if d.HasField("dim_value") else -1 for d in dims)

    def get_tensor_format(self, name, profile_index=0):
        return self._trt.TensorFormat.LINEAR

    def get_tensor_location(self, name):
        return self._trt.TensorLocation.DEVICE

    def get_tensor_profile_shape(self, name, profile_index):
        if name not in self._inputs:
            return [self._trt.Dims()] * 3  # real ones have nbDims -1
        return [self._trt.Dims(shape) for shape in self._profile(name, profile_index)]

    def is_shape_inference_io(self, name):
        return False

    def serialize(self):
        return self._trt.IHostMemory(write_plan(self._plan))

    def create_engine_inspector(self):
        inspector = self._trt.EngineInspector()
        inspector._engine = self
        return inspector

    @_refusable
    def create_execution_context(self, *strategy):
        size = self._activation_bytes()
        block = machine.memory.allocate("context", size, backed=False)
        if block is None:
            return self._refuse(f"Error Code 2: OutOfMemory (requested {size} bytes)")
        context = self._trt.IExecutionContext._of(self, block)
        self._contexts += 1
        return context

    def get_device_memory_size_for_profile_v2(self, profile_index):
        return self._activation_bytes()

    def _refuse(self, text: str) -> None:
        log(self._logger, "ERROR", f"ICudaEngine: {text}")

    def _profile(self, name: str, index: int) -> tuple:
        if self._plan.profiles and name in self._plan.profiles[index]:
            return self._plan.profiles[index][name]
        return (tuple(self.get_tensor_shape(name)),) * 3

    def _activation_bytes(self) -> int:
        return ACTIVATION_BYTES_PER_INPUT_BYTE * sum(
            prod(self._profile(name, 0)[2]) for name in self._inputs
        )


class IProfiler(SimObject):
    """Sub-classes must call `IProfiler.__init__` and override `report_layer_time`."""

    def __init__(self) -> None:
        self._ready = True

    def report_layer_time(self, layer_name, ms):
        raise RuntimeError("Tried to call a pure virtual function")


class IExecutionContext(_DeviceShare):
    name = setting("name", "")
    nvtx_verbosity = setting("nvtx_verbosity")
    enqueue_emits_profile = setting("enqueue_emits_profile", True)
    debug_sync = setting("debug_sync", False)
    error_recorder = setting("error_recorder")
    profiler = setting("profiler")
    persistent_cache_limit = setting("persistent_cache_limit", 0)
    engine = property(lambda self: self._engine)
    active_optimization_profile = property(lambda self: self._profile)

    @classmethod
    def _of(cls, engine: ICudaEngine, block: Any) -> IExecutionContext:
        context = cls()
        context._engine, context._block, context._logger = engine, block, engine._logger
        # On 8.6 only the first context of an engine begins with a profile.
        context._profile = 0 if engine._contexts == 0 or cls._trt.version != "8.6.1" else -1
        context._shapes: dict[str, tuple[int, ...]] = {}
        context._addresses: dict[str, int] = {}
        context._ran_with: dict[str, tuple[int, ...]] = {}
        context._generation = 0
        context._unreported = False
        return context

    @_refusable
    def set_optimization_profile_async(self, profile_index, stream_handle):
        if profile_index >= self._engine.num_optimization_profiles:
            return self._refuse(f"profile {profile_index} does not exist")
        if not self._engine._plan.profile_sharing and self._profile != profile_index:
            return self._refuse(f"Profile {profile_index} has been chosen by another context")
        self._profile = profile_index
        self._change()
        spans = (Span(self._block, 0, self._block.nbytes, writes=True),)
        work = Work("set_optimization_profile_async", spans, lambda: lambda: None)
        return self._queue(stream_handle, work)

    @_refusable
    def set_input_shape(self, name, shape):
        shape = tuple(int(size) for size in shape)
        if name not in self._engine._inputs:
            return self._refuse(f"{name} is no input")
        if self._profile < 0:
            return self._refuse("Profile 0 has been chosen by another IExecutionContext")
        low, _, high = self._engine._profile(name, self._profile)
        inside = len(shape) == len(low) and all(
            a <= size <= b for a, size, b in zip(low, shape, high, strict=True)
        )
        if not inside:
            return self._refuse(
                f"Parameter check failed: {shape} of {name} does not satisfy the profile's "
                f"minimum {low} and maximum {high}"
            )
        if self._shapes.get(name) != shape:
            self._change()
        self._shapes[name] = shape
        return True

    def get_tensor_shape(self, name):
        if name in self._engine._inputs:
            return self._trt.Dims(self._shapes.get(name) or self._engine.get_tensor_shape(name))
        return self._trt.Dims(self._output_shape(name))

    def infer_shapes(self):
        return [name for name in self._engine._inputs if name not in self._all_shapes()]

    @_refusable
    def set_tensor_address(self, name, memory):
        if name not in self._engine._values:
            return self._refuse(f"{name} is no I/O tensor")
        if self._addresses.get(name) != int(memory):
            self._change()
        self._addresses[name] = int(memory)
        return True

    def get_tensor_address(self, name):
        return self._addresses.get(name, 0)

    @_refusable
    def execute_async_v3(self, stream_handle):
        shapes = self._all_shapes()
        missing = sorted(self._engine._inputs - set(shapes))
        if missing or self._profile < 0:
            return self._refuse(f"shapes of {missing} are not set, profile {self._profile}")
        unset = sorted(set(self._engine._values) - set(self._addresses))
        if unset:
            return self._refuse(f"Address is not set for the tensors {unset}")
        try:
            capturing = machine.stream(int(stream_handle)).capture is not None
        except Failure as failure:
            return self._refuse(f"Error Code 1: Cuda Runtime ({failure.code})")
        if capturing and self._ran_with != shapes:
            machine.stream(int(stream_handle)).capture_invalid = True
            return self._refuse("the first enqueue with new shapes cannot be captured")
        queued = self._queue(stream_handle, self._work(shapes))
        if queued:
            self._ran_with = dict(shapes)
            self._unreported = self.profiler is not None
        if self._unreported and self.enqueue_emits_profile:
            return self.report_to_profiler()
        return queued

    @_refusable
    def report_to_profiler(self):
        if not self._unreported:
            return self._refuse("no profiler is set, or nothing was enqueued since the last report")
        self._unreported = False
        for number, layer in enumerate(self._engine._plan.layers):
            self.profiler.report_layer_time(layer["Name"], 0.01 * (1 + number))
        return True

    def _work(self, shapes: dict[str, tuple[int, ...]]) -> Work:
        spans = {name: self._span(name, shapes) for name in self._engine._values}
        generation = self._generation
        return Work(
            "enqueue",
            (*spans.values(), Span(self._block, 0, self._block.nbytes, writes=True)),
            lambda: self._execution(shapes, spans),
            still_valid=lambda: self._generation == generation,
        )

    def _span(self, name: str, shapes: dict[str, tuple[int, ...]]) -> Span:
        is_input = name in self._engine._inputs
        shape = shapes[name] if is_input else self._output_shape(name)
        nbytes = prod(shape) * np.dtype(self._numpy_type(name)).itemsize
        block, start = machine.memory.find(self._addresses[name], nbytes)
        if block.kind != "device":
            raise SimulatedMisuse(f"the address of {name} is in {block}")
        return Span(block, start, start + nbytes, writes=not is_input)

    def _execution(self, shapes: dict[str, tuple[int, ...]], spans: dict[str, Span]) -> Callable:
        """Bound to shapes and addresses of now: later calls change only later enqueues."""
        session = _session(self._engine._plan.network)
        views = {
            name: span.block.data[span.start : span.stop].view(self._numpy_type(name))
            for name, span in spans.items()
        }
        feed = {name: views[name].reshape(shape) for name, shape in shapes.items()}

        def run() -> None:
            names = [name for name in views if name not in feed]
            results = dict(zip(names, session.run(names, feed), strict=True))
            if {"scores", "label_ids"} <= set(results):
                _shuffle_ties(results)
            for name, result in results.items():
                views[name][:] = result.astype(views[name].dtype).ravel()

        return run

    def _all_shapes(self) -> dict[str, tuple[int, ...]]:
        """What was set, and static shapes, which need not be."""
        static = {
            name: tuple(shape)
            for name in self._engine._inputs
            if -1 not in (shape := self._engine.get_tensor_shape(name))
        }
        return {**static, **self._shapes}

    def _output_shape(self, name: str) -> tuple[int, ...]:
        symbols: dict[str, int] = {}
        for known, shape in self._all_shapes().items():
            dims = self._engine._values[known].type.tensor_type.shape.dim
            symbols.update({d.dim_param: size for d, size in zip(dims, shape, strict=True)})
        dims = self._engine._values[name].type.tensor_type.shape.dim
        return tuple(
            d.dim_value if d.HasField("dim_value") else symbols.get(d.dim_param, -1) for d in dims
        )

    def _numpy_type(self, name: str) -> type:
        return NUMPY_TYPES[self._engine.get_tensor_dtype(name).name]

    def _queue(self, stream_handle: Any, work: Work) -> bool:
        if machine.sticky:
            return self._refuse(f"Error Code 1: Cuda Runtime ({machine.sticky})")
        try:
            machine.submit(machine.stream(int(stream_handle)), work)
        except Failure as failure:
            return self._refuse(f"Error Code 1: Cuda Runtime ({failure.code})")
        return True

    def _change(self) -> None:
        """A graph captured before must not be launched any more."""
        self._generation += 1

    def _refuse(self, text: str) -> bool:
        log(self._logger, "ERROR", f"IExecutionContext: {text}")
        return False


def _shuffle_ties(results: dict[str, np.ndarray]) -> None:
    """Equal scores in the order that nobody hopes for: TensorRT promises none."""
    scores, label_ids = results["scores"], results["label_ids"]
    if (scores[:, 1:] == scores[:, :-1]).any():
        order = np.lexsort((-label_ids, -scores))
        results["scores"] = np.take_along_axis(scores, order, axis=1)
        results["label_ids"] = np.take_along_axis(label_ids, order, axis=1)


class EngineInspector(SimObject):
    execution_context = setting("execution_context")
    error_recorder = setting("error_recorder")

    def get_layer_information(self, layer_index, format):
        return json.dumps(self._layers()[layer_index])

    def get_engine_information(self, format):
        names = list(self._engine._values)
        if self._trt.version == "11.4.0":
            io: dict = {"I/O Tensors": [{"Name": name} for name in names]}
        else:
            io = {"Bindings": names}
        # The real one separates names by a control character, which JSON would escape.
        return json.dumps({"Layers": self._layers(), **io}).replace("\\u001e", "\x1e")

    def _layers(self) -> list:
        """Names alone, unless the engine was built with DETAILED."""
        if self._engine._plan.verbosity != "DETAILED":
            return [layer["Name"] for layer in self._engine._plan.layers]
        return [self._detailed(layer) for layer in self._engine._plan.layers]

    def _detailed(self, layer: dict) -> dict:
        tensors = self._tensors_told()

        def tensor(name: str) -> dict:
            if self._trt.version == "11.4.0":
                dtype = {"Format": "Row major linear FP32 format (kLINEAR)", "Datatype": "Float"}
            else:
                dtype = {"Format/Datatype": "Row major linear FP32"}
            return {"Name": name, "Location": "Device", "Dimensions": [-1], **(tensors or dtype)}

        told = {key: value for key, value in layer.items() if key != "Nodes"}
        return {
            **told,
            "Inputs": [tensor(name) for name in layer["Inputs"]],
            "Outputs": [tensor(name) for name in layer["Outputs"]],
            "Metadata": "\x1e".join(f"[ONNX Layer: {name}]" for name in layer["Nodes"]),
        }

    def _tensors_told(self) -> dict | None:
        """What is said of tensors while a shape is open that only a context could tell."""
        shapes = {} if self.execution_context is None else self.execution_context._all_shapes()
        dynamic = [n for n in self._engine._inputs if -1 in self._engine.get_tensor_shape(n)]
        if all(name in shapes for name in dynamic):
            return None
        unknown = "N/A due to dynamic shapes"
        if self._trt.version == "11.4.0":
            return {"Format": unknown, "Datatype": unknown}
        return {"Format/Datatype": unknown}
