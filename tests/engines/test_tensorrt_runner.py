"""The runner under the three simulated TensorRT versions."""

from __future__ import annotations

import pytest

from engines.tensorrt_runner import TensorRTClassifier
from tests.engines.classifier_contract import ClassifierContract
from tests.simulators.installed import simulated_gpu
from tests.simulators.plans import build_plan
from tests.simulators.records import VERSIONS


@pytest.fixture(autouse=True, params=VERSIONS)
def gpu(request):
    with simulated_gpu(request.param) as machine:
        yield machine
        machine.verify()
        assert machine.leaks() == []


class TestContract(ClassifierContract):
    def make_classifier(self, model, batch_size, slots):
        size = (model.input_height, model.input_width)
        return TensorRTClassifier(
            build_plan(model.graph, batch=(1, batch_size, batch_size), size=size),
            batch_size=batch_size,
            image_size=size,
            slots=slots,
            precision="fp32",
        )
