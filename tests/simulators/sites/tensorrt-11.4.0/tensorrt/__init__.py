"""TensorRT 11.4.0, simulated."""

from tests.simulators.tensorrt import populate

populate(globals(), "11.4.0")
