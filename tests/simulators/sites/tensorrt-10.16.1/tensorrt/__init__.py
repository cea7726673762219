"""TensorRT 10.16.1, simulated."""

from tests.simulators.tensorrt import populate

populate(globals(), "10.16.1")
