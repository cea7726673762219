"""Times of layers, on the simulated GPU of three TensorRT versions."""

from __future__ import annotations

import json

import pytest

from engines.errors import EngineError
from engines.layer_times import measure_layers
from engines.report.times import LayerTimes, parse_times
from tests.engines.wrapped_graphs import wrapped_cnn
from tests.simulators.installed import simulated_gpu
from tests.simulators.plans import build_plan
from tests.simulators.records import VERSIONS


@pytest.fixture(params=VERSIONS)
def machine(request):
    with simulated_gpu(request.param) as machine:
        yield machine
        machine.verify()
        assert machine.leaks() == []


def plan() -> bytes:
    return build_plan(wrapped_cnn(), batch=(1, 4, 8), size=(16, 16))


def test_every_layer_has_a_time_and_the_batch_one_of_its_own(machine):
    times = measure_layers(plan(), batch_size=8, image_size=(16, 16), seconds=0.01)
    assert (times.batch_size, times.height, times.width) == (8, 16, 16)
    assert "conv1" in times.names
    # The simulator gives the n-th layer n hundredths of a millisecond.
    expected = [0.01 * (1 + number) for number in range(len(times.names))]
    assert times.milliseconds == pytest.approx(expected)
    assert times.batches >= 1
    assert times.images_per_second == pytest.approx(8000 / times.batch_ms)
    assert times.total_ms == pytest.approx(sum(expected))


def test_a_refusal_says_what_was_refused(machine):
    engine = plan()
    refused = set()
    for number in range(1, 40):
        machine.refuse_call(machine.tensorrt_calls + number)
        try:
            measure_layers(engine, batch_size=8, image_size=(16, 16), seconds=0.0001)
        except EngineError as error:
            refused.add(str(error))
    assert any("refused the times of the layers" in text for text in refused)


def test_a_size_outside_the_profile_is_refused(machine):
    with pytest.raises(ValueError, match=r"images \[9, 16, 16, 3\] were asked"):
        measure_layers(plan(), batch_size=9, image_size=(16, 16))


TIMES = LayerTimes(
    batch_size=8,
    height=16,
    width=16,
    batches=3,
    names=("a", "b"),
    milliseconds=(0.5, 0.25),
    batch_ms=0.5,
)


def test_times_are_kept_as_json():
    assert parse_times(json.loads(json.dumps(TIMES.to_json()))) == TIMES


@pytest.mark.parametrize(
    "change", [{"format": 2}, {"names": ["a"]}, {"batch_ms": 0}, {"milliseconds": None}]
)
def test_what_is_no_profile_is_refused(change):
    with pytest.raises(ValueError, match=r"."):
        parse_times(TIMES.to_json() | change)
