"""Logger, network definition and ONNX parser."""

from __future__ import annotations

import enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx

from tests.models.importers import TENSORRT_8_6
from tests.simulators.tensorrt.objects import SimObject, setting

__all__ = [
    "ILayer",
    "ILogger",
    "INetworkDefinition",
    "ITensor",
    "Logger",
    "OnnxParser",
    "ParserError",
    "data_type",
    "log",
]

ONNX_TYPES = {
    onnx.TensorProto.FLOAT: "FLOAT",
    onnx.TensorProto.FLOAT16: "HALF",
    onnx.TensorProto.BFLOAT16: "BF16",
    onnx.TensorProto.UINT8: "UINT8",
    onnx.TensorProto.INT8: "INT8",
    onnx.TensorProto.INT32: "INT32",
    onnx.TensorProto.INT64: "INT64",
    onnx.TensorProto.BOOL: "BOOL",
}
LAYER_TYPES = {
    "Cast": "CAST",
    "Conv": "CONVOLUTION",
    "Relu": "ACTIVATION",
    "Sigmoid": "ACTIVATION",
    "Softmax": "SOFTMAX",
    "TopK": "TOPK",
    "Transpose": "SHUFFLE",
    "Reshape": "SHUFFLE",
    "Flatten": "SHUFFLE",
    "Gemm": "MATRIX_MULTIPLY",
    "MatMul": "MATRIX_MULTIPLY",
    "MaxPool": "POOLING",
    "AveragePool": "POOLING",
    "GlobalAveragePool": "REDUCE",
    "ReduceMean": "REDUCE",
    "QuantizeLinear": "QUANTIZE",
    "DequantizeLinear": "DEQUANTIZE",
    "Constant": "CONSTANT",
    "Identity": "IDENTITY",
}


class Severity(enum.IntEnum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    VERBOSE = 4


class ILogger(SimObject):
    """To be derived from; pybind11 insists that __init__ is called."""

    Severity = Severity
    INTERNAL_ERROR = Severity.INTERNAL_ERROR
    ERROR = Severity.ERROR
    WARNING = Severity.WARNING
    INFO = Severity.INFO
    VERBOSE = Severity.VERBOSE

    def __init__(self) -> None:
        self._initialised = True

    def log(self, severity, msg):
        raise RuntimeError('Tried to call pure virtual function "ILogger::log"')


class Logger(SimObject):
    """TensorRT's own logger, which prints to stderr; this one keeps the lines."""

    Severity = Severity
    INTERNAL_ERROR = Severity.INTERNAL_ERROR
    ERROR = Severity.ERROR
    WARNING = Severity.WARNING
    INFO = Severity.INFO
    VERBOSE = Severity.VERBOSE
    min_severity = setting("min_severity", Severity.WARNING)

    def __init__(self, min_severity=Severity.WARNING) -> None:
        self._initialised = True
        self._min_severity = min_severity
        self._lines: list[tuple[Severity, str]] = []

    def log(self, severity, msg):
        if severity <= self._min_severity:
            self._lines.append((severity, msg))


def log(logger: Any, severity: str, text: str) -> None:
    """Send a line to a logger, which must have been initialised."""
    if not logger.__dict__.get("_initialised"):
        raise TypeError("ILogger.__init__() must be called when overriding __init__")
    logger.log(Severity[severity], text)


def data_type(trt: SimpleNamespace, element: int) -> Any:
    """The DataType of an ONNX element type; 8.6 narrows INT64 to INT32."""
    name = ONNX_TYPES.get(element, "FLOAT")
    if name == "INT64" and not hasattr(trt.DataType, "INT64"):
        name = "INT32"
    return getattr(trt.DataType, name)


class ITensor(SimObject):
    name = setting("name")
    shape = setting("shape")
    dtype = setting("dtype")
    location = setting("location")
    allowed_formats = setting("allowed_formats")
    dynamic_range = setting("dynamic_range")
    is_network_input = setting("is_network_input", False)
    is_network_output = setting("is_network_output", False)
    is_shape_tensor = setting("is_shape_tensor", False)
    is_execution_tensor = setting("is_execution_tensor", True)

    @classmethod
    def _of(cls, value: onnx.ValueInfoProto) -> ITensor:
        tensor = cls()
        tensor._name = value.name
        tensor._onnx_name = value.name
        kind = value.type.tensor_type
        tensor._dtype = data_type(cls._trt, kind.elem_type)
        tensor._shape = cls._trt.Dims(
            d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim
        )
        tensor._location = cls._trt.TensorLocation.DEVICE
        tensor._allowed_formats = 1 << int(cls._trt.TensorFormat.LINEAR)
        return tensor


class ILayer(SimObject):
    name = setting("name")
    metadata = setting("metadata", "")
    type = setting("type")
    precision = setting("precision")
    precision_is_set = property(lambda self: self.__dict__.get("_precision") is not None)
    num_inputs = property(lambda self: len(self._inputs))
    num_outputs = property(lambda self: len(self._outputs))

    @classmethod
    def _of(cls, node: onnx.NodeProto, tensors: dict[str, ITensor]) -> ILayer:
        layer = cls()
        layer._name = layer._metadata = node.name or node.op_type
        layer._type = getattr(cls._trt.LayerType, LAYER_TYPES.get(node.op_type, "ELEMENTWISE"))
        layer._inputs = [_tensor(cls._trt, tensors, name) for name in node.input if name]
        layer._outputs = [_tensor(cls._trt, tensors, name) for name in node.output if name]
        layer._output_types: dict[int, Any] = {}
        return layer

    def get_input(self, index):
        return self._inputs[index] if index < len(self._inputs) else None

    def get_output(self, index):
        return self._outputs[index] if index < len(self._outputs) else None

    def set_output_type(self, index, dtype):
        self._output_types[index] = dtype

    def get_output_type(self, index):
        return self._output_types.get(index, self._outputs[index].dtype)

    def output_type_is_set(self, index):
        return index in self._output_types

    def reset_output_type(self, index):
        self._output_types.pop(index, None)

    def reset_precision(self):
        self._precision = None


def _tensor(trt: SimpleNamespace, tensors: dict[str, ITensor], name: str) -> ITensor:
    """The tensor of a name; one that shape inference did not reach has no known shape."""
    if name not in tensors:
        value = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        tensors[name] = trt.ITensor._of(value)
    return tensors[name]


class INetworkDefinition(SimObject):
    name = setting("name", "Unnamed Network 0")
    flags = property(lambda self: self._flags)
    num_inputs = property(lambda self: len(self._inputs))
    num_outputs = property(lambda self: len(self._outputs))
    num_layers = property(lambda self: len(self._layers))
    has_implicit_batch_dimension = property(lambda self: False)
    error_recorder = setting("error_recorder")

    @classmethod
    def _new(cls, flags: int) -> INetworkDefinition:
        network = cls()
        network._flags = flags
        network._inputs, network._outputs, network._layers = [], [], []
        network._model = None
        return network

    def get_flag(self, flag):
        return bool(self._flags & 1 << int(flag))

    def get_input(self, index):
        return self._inputs[index] if index < len(self._inputs) else None

    def get_output(self, index):
        return self._outputs[index] if index < len(self._outputs) else None

    def get_layer(self, index):
        return self._layers[index] if index < len(self._layers) else None

    def _fill(self, model: onnx.ModelProto) -> None:
        self._model = model
        inferred = onnx.shape_inference.infer_shapes(model)
        graph = inferred.graph
        values = [*graph.input, *graph.output, *graph.value_info]
        tensors = {value.name: self._trt.ITensor._of(value) for value in values}
        weights = {weight.name for weight in graph.initializer}
        self._inputs = [tensors[value.name] for value in graph.input if value.name not in weights]
        self._outputs = [tensors[value.name] for value in graph.output]
        for tensor in self._inputs:
            tensor._is_network_input = True
        for tensor in self._outputs:
            tensor._is_network_output = True
        self._layers = [self._trt.ILayer._of(node, tensors) for node in graph.node]


class ParserError(SimObject):
    @classmethod
    def _of(cls, code: str, index: int, node: onnx.NodeProto | None, desc: str) -> ParserError:
        error = cls()
        # 8.6 has fewer codes, all of those used here among them.
        error._code = getattr(cls._trt.ErrorCode, code)
        error._index, error._onnx, error._desc = index, node, desc
        return error

    def code(self):
        return self._code

    def desc(self):
        return self._desc

    def file(self):
        return "ModelImporter.cpp"

    def func(self):
        return "parseNode"

    def line(self):
        return 1

    def node(self):
        return self._index

    def node_name(self):
        return self._onnx.name if self._onnx else ""

    def node_operator(self):
        return self._onnx.op_type if self._onnx else ""

    def local_function_stack(self):
        return []

    def local_function_stack_size(self):
        return 0


class OnnxParser(SimObject):
    flags = setting("flags", 0)
    num_errors = property(lambda self: len(self._errors))

    def __init__(self, network, logger) -> None:
        self._network, self._logger, self._errors = network, logger, []

    def get_error(self, index):
        return self._errors[index]

    def clear_errors(self):
        self._errors = []

    def set_flag(self, flag):
        self._flags = (self.flags or 0) | 1 << int(flag)

    def clear_flag(self, flag):
        self._flags = (self.flags or 0) & ~(1 << int(flag))

    def get_flag(self, flag):
        return bool((self.flags or 0) & 1 << int(flag))

    def supports_operator(self, op_name):
        typed = hasattr(self._trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")
        return onnx.defs.has(op_name) if typed else op_name in TENSORRT_8_6

    def get_used_vc_plugin_libraries(self):
        return []

    def parse_from_file(self, model):
        if not Path(model).is_file():
            return self._fail("MODEL_DESERIALIZE_FAILED", -1, None, f"Failed to open file: {model}")
        return self._parse(lambda: onnx.load(model))

    def parse(self, model, path=None):
        base = str(Path(path).parent) if path else ""

        def load() -> onnx.ModelProto:
            proto = onnx.load_model_from_string(bytes(model))
            if base:
                onnx.external_data_helper.load_external_data_for_model(proto, base)
            return proto

        return self._parse(load)

    def _parse(self, load) -> bool:
        trt = self._trt
        explicit = getattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)
        typed = hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")
        if not typed and not self._network._flags & 1 << int(explicit):
            text = "This version of the ONNX parser only supports networks with an explicit batch"
            return self._fail("INVALID_VALUE", -1, None, text)
        try:
            model = load()
        except Exception as error:
            return self._fail("MODEL_DESERIALIZE_FAILED", -1, None, f"Failed to parse: {error}")
        for index, node in enumerate(model.graph.node):
            if node.domain not in ("", "ai.onnx") or not onnx.defs.has(node.op_type):
                text = f"No importer registered for op: {node.op_type}"
                return self._fail("UNSUPPORTED_NODE", index, node, text)
            axes_input = node.op_type.startswith("Reduce") and len(node.input) > 1
            if not typed and axes_input and node.op_type != "ReduceSum":
                # 8.6 itself takes it for a reduction over all axes, without a word.
                text = f"{node.op_type}: axes as an input need a newer parser"
                return self._fail("UNSUPPORTED_NODE", index, node, text)
        self._network._fill(model)
        return True

    def _fail(self, code: str, index: int, node: onnx.NodeProto | None, text: str) -> bool:
        self._errors.append(self._trt.ParserError._of(code, index, node, text))
        log(self._logger, "ERROR", f"[ModelImporter] node {index}: {text}")
        return False
