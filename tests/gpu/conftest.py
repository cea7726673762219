"""A GPU with TensorRT, and engines for it. Without one, tests that were asked for fail.

pytest -m gpu tests/gpu
"""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from engines.build_log import BuildLog
from engines.builder import build_plan
from engines.device import DeviceInfo, device_info
from engines.errors import EngineError
from engines.features import import_tensorrt
from engines.precision import apply_precision
from engines.profile import Profile, ShapeRange
from engines.settings import BuilderSettings
from engines.timing_cache import TimingCacheFile

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    """Mark what is in this folder; the hook sees everything that was collected."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.gpu)


@pytest.fixture(scope="session", autouse=True)
def gpu() -> DeviceInfo:
    """The first GPU."""
    try:
        info = device_info()  # before TensorRT, which crashes where there is no driver
        import_tensorrt()
    except EngineError as error:
        pytest.fail(f"tests/gpu need a GPU with TensorRT, and were asked for: {error}")
    return info


@pytest.fixture(scope="session")
def plan_of(gpu, tmp_path_factory):
    """Builds plans in this process, each once: plan_of(graph, batch, height, width, precision)."""
    trt = import_tensorrt()
    timings = TimingCacheFile(
        tmp_path_factory.mktemp("timings"), version=trt.__version__, gpu=gpu.name
    )
    plans: dict[tuple, bytes] = {}

    def plan(
        graph: bytes,
        batch: ShapeRange,
        height: ShapeRange,
        width: ShapeRange,
        precision: str = "fp32",
    ) -> bytes:
        key = (graph, batch, height, width, precision)
        if key not in plans:
            profile = Profile(batch=batch, height=height, width=width)
            plans[key] = build_plan(
                apply_precision(graph, precision),
                BuilderSettings(precision=precision, profile=profile),
                trt=trt,
                log=BuildLog(trt, io.StringIO()),
                timings=timings,
                progress=lambda phase, step, steps: None,
            ).plan
        return plans[key]

    return plan
