"""Every CUDA call and every TensorRT call of the runner fails once: what is seen, what is left."""

from __future__ import annotations

import numpy as np
import pytest

from engines.errors import CudaError, DeviceMemoryError, EngineError, InferenceError, PlanError
from tests.engines.tensorrt_runs import HEIGHT, WIDTH, infer, open_linear, same
from tests.simulators.installed import simulated_gpu
from tests.simulators.machine import machine
from tests.simulators.records import VERSIONS

LAUNCH_FAILURE, OUT_OF_MEMORY, INVALID_VALUE, ILLEGAL_ADDRESS = 719, 2, 1, 700
COUNTS = (2, 1, 2, 2, 1)
BATCHES = [
    np.random.default_rng(count).integers(0, 256, (count, HEIGHT, WIDTH, 3), np.uint8)
    for count in COUNTS
]


def job(results):
    """Open with graphs, keep two batches in flight, collect all, close; results as they come."""
    with open_linear(batch_size=2, slots=3, cuda_graph=True) as classifier:
        waiting = 0
        for batch in BATCHES:
            if waiting == classifier.max_in_flight:
                results.append(classifier.collect())
                waiting -= 1
            slot = classifier.acquire()
            slot.images[: len(batch)] = batch
            classifier.submit(slot, len(batch))
            waiting += 1
        results.extend(classifier.collect() for _ in range(waiting))


@pytest.fixture(params=VERSIONS)
def version(request):
    return request.param


@pytest.fixture
def gpu(version):
    with simulated_gpu(version) as machine:
        yield machine


@pytest.fixture
def expected(gpu):
    with open_linear(batch_size=2, slots=1) as serial:
        return [infer(serial, batch) for batch in BATCHES]


def run_failing(expected):
    """The error of one job, or None; whatever it is, nothing leaks and no result is wrong."""
    results, error = [], None
    try:
        job(results)
    except EngineError as raised:
        error = raised
    assert all(same(result, wanted) for result, wanted in zip(results, expected, strict=False))
    assert len(results) == len(expected) or error is not None
    machine.verify()
    assert machine.leaks() == []
    return error


def count_of(attribute):
    """How often a whole job calls."""
    machine.reset()
    job([])
    return getattr(machine, attribute)


@pytest.mark.parametrize("code", [LAUNCH_FAILURE, OUT_OF_MEMORY, INVALID_VALUE])
def test_any_cuda_call_that_fails_is_the_error_that_is_seen(gpu, expected, code):
    calls = count_of("calls")
    names = list(machine.call_names)
    # Preparing a graph begins with asking for the memory of its context.
    first_capture = names.index("cudaStreamBeginCapture")
    last_question = first_capture - names[first_capture::-1].index("cudaMemGetInfo")
    capture = range(last_question, names.index("cudaMemcpyAsync"))
    assert calls > 100
    for number in range(1, calls + 1):
        machine.reset()
        machine.fail_call(number, code)
        error = run_failing(expected)
        if error is None:
            # Only where a graph was captured: the job goes on without.
            assert code != LAUNCH_FAILURE
            assert number - 1 in capture, names[number - 1]
            continue
        first = error if isinstance(error, CudaError) else error.__cause__
        assert isinstance(first, CudaError), (number, names[number - 1], error)
        assert (first.call, first.code) == (names[number - 1], code)
        assert first.sticky == (code == LAUNCH_FAILURE)
        assert isinstance(first, DeviceMemoryError) == (code == OUT_OF_MEMORY)


@pytest.mark.parametrize("order", ["late", "random", "early"])
def test_any_operation_that_fails_on_the_device_ends_the_job(gpu, expected, order):
    operations = count_of("operations_run")
    assert operations > 50
    for number in range(1, operations + 1):
        machine.reset(order=order, seed=number)
        machine.fail_operation(number, ILLEGAL_ADDRESS)
        error = run_failing(expected)
        assert isinstance(error, CudaError), number
        assert (error.code, error.sticky) == (ILLEGAL_ADDRESS, True)


def test_anything_that_tensorrt_refuses_is_said_with_its_reason(gpu, expected):
    calls = count_of("tensorrt_calls")
    assert calls > 20
    survived = 0
    for number in range(1, calls + 1):
        machine.reset()
        machine.refuse_call(number)
        error = run_failing(expected)
        if error is None:
            survived += 1  # captured without a graph
            continue
        assert isinstance(error, PlanError if number == 1 else InferenceError)
        assert "injected refusal" in str(error)
    # For each of two lanes: a context, its profile, its shape, four addresses or three, two runs.
    assert 0 < survived <= 2 * 8


def test_closing_after_a_sticky_error_frees_everything_and_keeps_silent(gpu):
    classifier = open_linear(batch_size=2)
    classifier.submit(classifier.acquire(), 1)
    gpu.fail_operation(gpu.operations_run + 2, ILLEGAL_ADDRESS)
    with pytest.raises(CudaError, match="cudaErrorIllegalAddress"):
        classifier.collect()
    classifier.close()
    classifier.close()
    assert gpu.leaks() == []


def test_an_error_that_only_closing_meets_is_raised_once(gpu):
    classifier = open_linear(batch_size=2)
    classifier.submit(classifier.acquire(), 1)
    gpu.fail_operation(gpu.operations_run + 2, ILLEGAL_ADDRESS)
    with pytest.raises(CudaError, match="cudaErrorIllegalAddress"):
        classifier.close()
    classifier.close()
    assert gpu.leaks() == []


def test_the_error_of_a_block_is_not_hidden_by_that_of_closing(gpu):
    def fail():
        with open_linear(batch_size=2) as classifier:
            classifier.submit(classifier.acquire(), 1)
            gpu.fail_operation(gpu.operations_run + 2, ILLEGAL_ADDRESS)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as raised:
        fail()
    assert "cudaErrorIllegalAddress" in raised.value.__notes__[0]
    assert gpu.leaks() == []


def test_a_dead_device_is_no_reason_to_call_a_plan_damaged(gpu):
    gpu.refuse_call(1)
    with pytest.raises(PlanError):
        open_linear(batch_size=2)
    question = len(gpu.call_names) - gpu.call_names[::-1].index("cudaMemGetInfo")
    gpu.reset()
    gpu.refuse_call(1)
    gpu.fail_call(question, LAUNCH_FAILURE)
    with pytest.raises(CudaError, match="cudaErrorLaunchFailure"):
        open_linear(batch_size=2)
    assert gpu.leaks() == []
