"""The simulated GPU finds what it is there to find, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from engines.cuda import Event, Stream
from engines.errors import CudaError
from engines.memory import DeviceBuffer, PinnedBuffer, copy_to_device, copy_to_host
from tests.simulators.installed import simulated_environment, simulated_gpu
from tests.simulators.machine import SimulatedMisuse, SimulatedRace


@pytest.fixture
def gpu():
    with simulated_gpu("10.16.1") as machine:
        yield machine


@pytest.fixture
def made(gpu):
    """Two streams, an event, a device block and a page-locked one, all kept."""
    things = Stream(), Stream(), Event(), DeviceBuffer(4), PinnedBuffer(4)
    yield things
    gpu.reset()
    for thing in things:
        thing._handle = None


def test_unordered_writes_of_two_streams_are_a_race(made):
    one, two, _, device, host = made
    copy_to_device(device, host, 4, stream=one)
    with pytest.raises(SimulatedRace, match="an event wait is missing"):
        copy_to_device(device, host, 4, stream=two)


def test_unordered_reads_of_two_streams_are_none(gpu, made):
    one, two, _, device, host = made
    with PinnedBuffer(4) as other:
        copy_to_host(host, device, 4, stream=one)
        copy_to_host(other, device, 4, stream=two)
        one.synchronize()
        two.synchronize()
    gpu.verify()


def test_an_event_orders_what_came_before_it_and_nothing_later(made):
    one, two, event, device, host = made
    copy_to_device(device, host, 4, stream=one)
    event.record(stream=one)
    two.wait_event(event)
    copy_to_device(device, host, 4, stream=two)
    with pytest.raises(SimulatedRace):
        copy_to_device(device, host, 4, stream=one)


def test_a_host_that_waited_orders_everything_it_queues(gpu, made):
    one, two, _, device, host = made
    copy_to_device(device, host, 4, stream=one)
    one.synchronize()
    copy_to_host(host, device, 4, stream=two)
    two.synchronize()
    gpu.verify()


def test_order_is_passed_on_through_a_third_stream(gpu, made):
    one, two, event, device, host = made
    with Stream() as third, Event() as second:
        copy_to_device(device, host, 4, stream=one)
        event.record(stream=one)
        third.wait_event(event)
        second.record(stream=third)
        two.wait_event(second)
        copy_to_host(host, device, 4, stream=two)
        two.synchronize()
        third.synchronize()
    gpu.verify()


def test_a_source_that_the_host_changes_in_flight_is_a_race(made):
    one, _, _, device, host = made
    view = host.array((4,), np.uint8)
    view[:] = 1
    copy_to_device(device, host, 4, stream=one)
    view[2] = 9
    with pytest.raises(SimulatedRace, match="the host wrote"):
        one.synchronize()


def test_a_target_that_the_host_changes_in_flight_is_a_race(made):
    one, _, _, device, host = made
    copy_to_host(host, device, 4, stream=one)
    host.array((4,), np.uint8)[:] = 0
    with pytest.raises(SimulatedRace, match="the host wrote"):
        one.synchronize()


def test_freeing_in_flight_is_misuse_and_kept_for_the_end(gpu, made):
    one, _, _, device, host = made
    copy_to_device(device, host, 4, stream=one)
    with pytest.raises(SimulatedMisuse, match="freed while"):
        device.close()
    with pytest.raises(AssertionError, match="freed while"):
        gpu.verify()


def test_writing_freed_memory_shows_at_the_end(gpu, made):
    *_, host = made
    view = host.array((4,), np.uint8)
    host.close()
    gpu.verify()
    view[1] = 0
    with pytest.raises(SimulatedMisuse, match="after it was freed"):
        gpu.verify()


def test_copies_past_the_end_of_a_block_are_misuse(gpu, made):
    one, _, _, device, host = made
    device.nbytes = host.nbytes = 5
    with pytest.raises(SimulatedMisuse, match="run past its end"):
        copy_to_device(device, host, 5, stream=one)


def test_late_work_waits_for_the_host_and_early_work_does_not(gpu, made):
    for order, ran in (("late", 0), ("early", 1)):
        gpu.reset(order=order)
        stream, device, host = Stream(), DeviceBuffer(4), PinnedBuffer(4)
        copy_to_device(device, host, 4, stream=stream)
        assert gpu.operations_run == ran
        stream.synchronize()
        for thing in (device, host, stream):
            thing.close()


def test_random_work_is_the_same_for_the_same_seed(gpu, made):
    def progress(seed):
        gpu.reset(order="random", seed=seed)
        with Stream() as stream, DeviceBuffer(4) as device, PinnedBuffer(4) as host:
            seen = []
            for _ in range(20):
                copy_to_device(device, host, 4, stream=stream)
                seen.append(gpu.operations_run)
            stream.synchronize()
        return seen

    assert progress(1) == progress(1)
    assert progress(1) != progress(2)


def test_a_sticky_error_stays(gpu, made):
    gpu.fail_call(gpu.calls + 1, 700)
    for _ in range(3):
        with pytest.raises(CudaError, match="cudaErrorIllegalAddress"):
            Event()


def test_other_programs_find_the_simulated_gpu_too():
    code = (
        "import json, tensorrt; from engines.device import device_info;"
        "info = device_info(); print(json.dumps([tensorrt.__version__, info.name]))"
    )
    environment = simulated_environment("8.6.1", name="Small GPU")
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, check=True, timeout=60
    )
    assert json.loads(result.stdout) == ["8.6.1", "Small GPU"]
