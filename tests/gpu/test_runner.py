"""What only a real GPU shows: order with no simulator watching, freed memory, a dead device."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engines.classifier import Predictions
from engines.cuda import Event, Stream
from engines.device import device_info
from engines.errors import PlanError
from engines.memory import DeviceBuffer, PinnedBuffer, copy_to_device, copy_to_host
from engines.profile import ShapeRange
from engines.tensorrt_runner import TensorRTClassifier
from tests.engines.tensorrt_runs import HEIGHT, WIDTH, infer, linear_graph, same
from tests.engines.test_tensorrt_order import BATCH_SIZE, POOL, RINGS, play
from tests.engines.wrapped_graphs import images as noise
from tests.engines.wrapped_graphs import wrapped_cnn

ROOT = Path(__file__).parent.parent.parent
SEQUENCES_PER_RING = 50

SPARE_BYTES = 64 * 2**20
"""What CUDA and TensorRT may keep of their own from one opening to the next."""


@pytest.fixture
def linear_plan(plan_of):
    return plan_of(
        linear_graph(),
        ShapeRange(1, BATCH_SIZE, BATCH_SIZE),
        ShapeRange.fixed(HEIGHT),
        ShapeRange.fixed(WIDTH),
    )


def open_plan(plan, batch_size=BATCH_SIZE, size=(HEIGHT, WIDTH), **options):
    return TensorRTClassifier(
        plan, batch_size=batch_size, image_size=size, precision="fp32", **options
    )


@pytest.mark.parametrize(("slots", "in_flight", "graph"), RINGS)
def test_random_sequences_of_batches_equal_serial_execution(linear_plan, slots, in_flight, graph):
    with open_plan(linear_plan, batch_size=1, slots=1) as serial:
        rows = [infer(serial, POOL[i : i + 1]) for i in range(len(POOL))]
    expected = Predictions(
        np.concatenate([row.label_ids for row in rows]),
        np.concatenate([row.scores for row in rows]),
    )
    options = {"slots": slots, "max_in_flight": in_flight, "cuda_graph": graph}
    with open_plan(linear_plan, **options) as classifier:
        assert classifier.uses_cuda_graph == graph
        dice = random.Random(slots)
        for _ in range(SEQUENCES_PER_RING):
            play(classifier, expected, dice)


def test_copies_are_ordered_by_events_across_streams():
    nbytes = 64 * 2**20
    with (
        Stream() as upload,
        Stream() as download,
        Event() as uploaded,
        DeviceBuffer(nbytes) as device,
        PinnedBuffer(nbytes) as source,
        PinnedBuffer(nbytes) as target,
    ):
        for number in range(1, 6):
            source.array((nbytes,), np.uint8)[:] = number
            copy_to_device(device, source, nbytes, stream=upload)
            uploaded.record(stream=upload)
            download.wait_event(uploaded)
            copy_to_host(target, device, nbytes, stream=download)
            download.synchronize()
            assert (target.array((nbytes,), np.uint8) == number).all()


def test_one_engine_serves_several_resolutions(plan_of):
    sides = ShapeRange(8, 16, 32)
    graph = wrapped_cnn(height="height", width="width")
    plan = plan_of(graph, ShapeRange(1, 2, 4), sides, sides)
    for size in ((8, 8), (16, 12), (24, 32)):
        fixed = plan_of(
            wrapped_cnn(height=size[0], width=size[1]),
            ShapeRange.fixed(3),
            ShapeRange.fixed(size[0]),
            ShapeRange.fixed(size[1]),
        )
        batch = noise(3, *size)
        with open_plan(plan, 3, size) as dynamic, open_plan(fixed, 3, size) as reference:
            result, expected = infer(dynamic, batch), infer(reference, batch)
        np.testing.assert_array_equal(result.label_ids, expected.label_ids)
        np.testing.assert_allclose(result.scores, expected.scores, rtol=1e-4)


def test_batches_below_the_profile_are_padded(plan_of, linear_plan):
    plan = plan_of(
        linear_graph(),
        ShapeRange.fixed(BATCH_SIZE),
        ShapeRange.fixed(HEIGHT),
        ShapeRange.fixed(WIDTH),
    )
    with open_plan(plan) as fixed, open_plan(linear_plan) as dynamic:
        for count in range(1, BATCH_SIZE + 1):
            assert same(infer(fixed, POOL[:count]), infer(dynamic, POOL[:count]))


def test_memory_comes_back_with_every_close(linear_plan):
    def open_and_close():
        with open_plan(linear_plan, cuda_graph=True) as classifier:
            infer(classifier, POOL[:BATCH_SIZE])
        return device_info().free_bytes

    first, *later = (open_and_close() for _ in range(5))
    assert min(later) > first - SPARE_BYTES


def test_a_damaged_plan_is_refused_with_the_reason():
    with pytest.raises(PlanError, match="does not load the plan"):
        open_plan(b"no plan of anybody" * 100)


DEATH = """
import json, sys
from pathlib import Path
from engines.errors import CudaError
from engines.tensorrt_runner import TensorRTClassifier
from engines.tensorrt_slots import Lane

addresses = Lane.addresses.fget
Lane.addresses = property(lambda lane: {**addresses(lane), "images": 1 << 20})
classifier = TensorRTClassifier(
    Path(sys.argv[1]).read_bytes(), batch_size=4, image_size=(2, 3), precision="fp32"
)
try:
    classifier.submit(classifier.acquire(), 4)  # the first enqueue waits for the device
    classifier.collect()
except CudaError as error:
    classifier.close()
    print(json.dumps([error.name, error.sticky]))
"""


def test_a_dead_device_is_said_to_be_dead_and_close_keeps_silent(linear_plan, tmp_path):
    plan = tmp_path / "engine.plan"
    plan.write_bytes(linear_plan)
    command = [sys.executable, "-c", DEATH, str(plan)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == ["cudaErrorIllegalAddress", True]
    with open_plan(linear_plan) as classifier:
        infer(classifier, POOL[:1])
