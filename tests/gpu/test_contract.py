"""The contract of every classifier, on a real GPU."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest

from engines.profile import ShapeRange
from engines.tensorrt_runner import TensorRTClassifier
from tests.engines.classifier_contract import BATCH_SIZE, SLOTS, ClassifierContract
from tests.models.tiny import Tiny, loaded


class GpuContract(ClassifierContract):
    precision = "fp32"
    options: ClassVar = {}

    @pytest.fixture(autouse=True)
    def _plans(self, plan_of):
        self.plan_of = plan_of

    def make_classifier(self, model, batch_size, slots, **fetch):
        height, width = model.input_height, model.input_width
        plan = self.plan_of(
            model.graph,
            ShapeRange(1, batch_size, batch_size),
            ShapeRange.fixed(height),
            ShapeRange.fixed(width),
            self.precision,
        )
        return TensorRTClassifier(
            plan,
            batch_size=batch_size,
            image_size=(height, width),
            slots=slots,
            precision=self.precision,
            **self.options,
            **fetch,
        )

    def test_equal_scores_come_in_order_of_label_id(self):
        """TensorRT chooses which of the four equal last classes fill the last two columns."""
        tiny = Tiny(bias=(0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0))
        with self.make_classifier(loaded(tiny), BATCH_SIZE, SLOTS) as classifier:
            predictions = self.infer(classifier, self.images(3))
        assert predictions.label_ids[:, :3].tolist() == [[1, 3, 4]] * 3
        last = predictions.label_ids[:, 3:]
        assert (last[:, 0] < last[:, 1]).all()
        assert np.isin(last, (0, 2, 5, 6)).all()


class TestFp32(GpuContract):
    pass


class TestFp32WithGraphs(GpuContract):
    options: ClassVar = {"cuda_graph": True}


class TestFp32OneBatchAtATime(GpuContract):
    options: ClassVar = {"max_in_flight": 1}


class TestFp16(GpuContract):
    precision = "fp16"
    # Half has 11 bits: logits of up to 8 are off by 4e-3 for each rounding, of which there are few.
    tolerance = 2e-2
