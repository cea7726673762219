"""The loops of a measurement on the simulated GPU; its figures mean nothing, its steps do."""

from __future__ import annotations

import logging

import pytest

from engines.errors import DeviceMemoryError, EngineError
from engines.measure import Latency, Timing, bare_loop, measure, timed
from tests.engines.tensorrt_runs import HEIGHT, WIDTH, linear_graph
from tests.simulators.installed import simulated_gpu
from tests.simulators.plans import build_plan
from tests.simulators.records import VERSIONS

SIZE = (HEIGHT, WIDTH)
SECONDS = 0.02


@pytest.fixture
def gpu():
    with simulated_gpu("10.16.1") as machine:
        yield machine
        machine.verify()
        assert machine.leaks() == []


def plan(batch=(1, 4, 4)):
    return build_plan(linear_graph(), batch=batch, size=SIZE)


def run(plan, **options):
    return measure(plan, batch_size=4, image_size=SIZE, seconds=SECONDS, **options)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("cuda_graph", [False, True])
def test_an_engine_is_measured_and_nothing_of_it_stays(version, cuda_graph):
    with simulated_gpu(version) as machine:
        found = run(plan(), cuda_graph=cuda_graph)
        machine.verify()
        assert machine.leaks() == []
    assert (found.batch_size, found.image_size, found.cuda_graph) == (4, SIZE, cuda_graph)
    assert found.compute_only > 0
    assert found.with_transfers > 0
    assert 0 < found.latency_ms.p50 <= found.latency_ms.p90 <= found.latency_ms.p99
    assert found.batches >= 3


def test_the_bare_loop_copies_its_images_once_and_nothing_else(gpu):
    timing = bare_loop(plan(), batch_size=4, image_size=SIZE, seconds=SECONDS)
    assert gpu.call_names.count("cudaMemcpyAsync") == 1
    assert timing.batches >= 1
    assert timing.latencies_ms == []


def test_an_engine_without_a_graph_is_measured_without(gpu, caplog):
    built = plan()
    gpu.refuse_call(gpu.tensorrt_calls + 5)  # the context of the first graph
    with caplog.at_level(logging.WARNING):
        assert not run(built, cuda_graph=True).cuda_graph
    assert "without CUDA graphs" in caplog.text


def test_sizes_outside_the_profile_are_refused(gpu):
    with pytest.raises(ValueError, match=r"\[5, 2, 3, 3\].*\[4, 2, 3, 3\]"):
        measure(plan(), batch_size=5, image_size=SIZE, seconds=SECONDS)


def test_too_little_memory_is_said_with_both_figures(gpu):
    with pytest.raises(DeviceMemoryError, match=r"limit leaves 0\.000 GiB"):
        run(plan(), memory_limit_bytes=1)


@pytest.mark.parametrize("call", range(1, 12))
def test_a_refusal_in_the_bare_loop_leaves_nothing_behind(gpu, call):
    built = plan()
    gpu.refuse_call(gpu.tensorrt_calls + call)
    with pytest.raises(EngineError, match="injected refusal"):
        bare_loop(built, batch_size=4, image_size=SIZE, seconds=SECONDS)


def test_the_warm_up_sets_the_number_of_batches():
    ran = []

    def run(batches):
        ran.append(batches)
        return batches * (0.5 if len(ran) == 1 else 0.01)

    assert timed(run, seconds=2.0) == (200, 2.0)
    assert ran == [2, 1, 200]


def test_percentiles():
    assert Latency.of([float(i) for i in range(1, 102)]) == Latency(p50=51.0, p90=91.0, p99=100.0)
    assert Latency.of([2.0]) == Latency(p50=2.0, p90=2.0, p99=2.0)
    assert Timing(images_per_second=1.0, batches=1).latencies_ms == []
