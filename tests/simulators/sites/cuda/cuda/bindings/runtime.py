"""The simulated CUDA runtime."""

from tests.simulators.cuda_runtime import *  # noqa: F403
