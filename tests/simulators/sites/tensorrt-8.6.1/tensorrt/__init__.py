"""TensorRT 8.6.1, simulated."""

from tests.simulators.tensorrt import populate

populate(globals(), "8.6.1")
