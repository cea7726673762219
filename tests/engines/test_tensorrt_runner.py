"""The runner under the three simulated TensorRT versions."""

from __future__ import annotations

import logging
import re
import sys
from typing import ClassVar

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from engines.errors import (
    BackendUnavailableError,
    DeviceMemoryError,
    InferenceError,
    ModelError,
    PlanError,
)
from engines.tensorrt_runner import TensorRTClassifier
from engines.tensorrt_slots import in_order
from tests.engines.classifier_contract import ClassifierContract
from tests.engines.tensorrt_runs import HEIGHT, WIDTH, infer, linear_graph, open_linear, same
from tests.engines.wrapped_graphs import wrapped_cnn
from tests.simulators.installed import simulated_gpu
from tests.simulators.plans import build_plan
from tests.simulators.records import VERSIONS


def images(count, height=HEIGHT, width=WIDTH, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), np.uint8)


@pytest.fixture(params=VERSIONS)
def version(request):
    return request.param


@pytest.fixture
def gpu(version):
    with simulated_gpu(version) as machine:
        yield machine
        machine.verify()
        assert machine.leaks() == []


class TestContract(ClassifierContract):
    options: ClassVar = {}

    @pytest.fixture(autouse=True)
    def _gpu(self, gpu):
        """Every test of the suite runs on a simulated GPU."""

    def make_classifier(self, model, batch_size, slots, **fetch):
        size = (model.input_height, model.input_width)
        return TensorRTClassifier(
            build_plan(model.graph, batch=(1, batch_size, batch_size), size=size),
            batch_size=batch_size,
            image_size=size,
            slots=slots,
            precision="fp32",
            **self.options,
            **fetch,
        )


class TestContractWithGraphs(TestContract):
    options: ClassVar = {"cuda_graph": True}


@pytest.mark.parametrize("version", ["10.16.1"])
class TestContractOneBatchAtATime(TestContract):
    options: ClassVar = {"max_in_flight": 1}


@pytest.mark.parametrize("version", ["11.4.0"])
class TestContractWhenWorkRunsAtRandomTimes(TestContract):
    @pytest.fixture
    def gpu(self, version):
        with simulated_gpu(version, order="random", seed=1) as machine:
            yield machine


@pytest.mark.parametrize("version", ["8.6.1"])
class TestContractWhenWorkRunsAtOnce(TestContract):
    @pytest.fixture
    def gpu(self, version):
        with simulated_gpu(version, order="early") as machine:
            yield machine


@pytest.mark.usefixtures("gpu")
class TestRunner:
    def test_a_single_slot_works_synchronously(self):
        with open_linear(slots=1) as classifier:
            assert classifier.max_in_flight == classifier.slot_count == 1
            with open_linear(slots=6) as reference:
                for seed in range(5):
                    batch = images(1 + seed % 4, seed=seed)
                    assert same(infer(classifier, batch), infer(reference, batch))

    def test_more_batches_may_be_submitted_than_the_device_holds(self):
        with open_linear(slots=6, max_in_flight=2) as classifier:
            batches = [images(1 + seed % 4, seed=seed) for seed in range(6)]
            for batch in batches:
                slot = classifier.acquire()
                slot.images[: len(batch)] = batch
                classifier.submit(slot, len(batch))
            results = [classifier.collect() for _ in batches]
            for batch, result in zip(batches, results, strict=True):
                assert same(result, infer(classifier, batch))

    def test_batches_below_the_profile_are_padded(self):
        with open_linear(smallest=3) as classifier, open_linear() as reference:
            for count in (1, 2, 3, 4):
                batch = images(count)
                result = infer(classifier, batch)
                assert result.scores.shape == (count, 3)
                assert same(result, infer(reference, batch))

    def test_one_engine_serves_several_resolutions(self):
        graph = wrapped_cnn(height="height", width="width")
        plan = build_plan(graph, batch=(1, 2, 4), size=((8, 8), (16, 16), (24, 32)))
        for size in ((8, 8), (16, 12), (24, 32)):
            fixed = wrapped_cnn(height=size[0], width=size[1])
            one = {"batch_size": 3, "image_size": size, "precision": "fp32"}
            with (
                TensorRTClassifier(plan, **one) as classifier,
                TensorRTClassifier(build_plan(fixed, batch=(1, 3, 3), size=size), **one) as other,
            ):
                batch = images(3, *size)
                result, expected = infer(classifier, batch), infer(other, batch)
                np.testing.assert_array_equal(result.label_ids, expected.label_ids)
                np.testing.assert_allclose(result.scores, expected.scores, rtol=1e-5)

    @pytest.mark.parametrize("size", [(4, 8), (16, 40)])
    def test_sizes_outside_the_profile_are_refused_with_both_named(self, size):
        graph = wrapped_cnn(height="height", width="width")
        plan = build_plan(graph, batch=(1, 2, 4), size=((8, 8), (16, 16), (24, 32)))
        expected = rf"images \[2, {size[0]}, {size[1]}, 3\] .* \[1, 8, 8, 3\] to \[4, 24, 32, 3\]"
        with pytest.raises(ValueError, match=expected):
            TensorRTClassifier(plan, batch_size=2, image_size=size, precision="fp32")

    def test_batches_above_the_profile_are_refused(self):
        plan = build_plan(linear_graph(), batch=(1, 4, 4), size=(HEIGHT, WIDTH))
        with pytest.raises(ValueError, match=r"images \[5, "):
            TensorRTClassifier(plan, batch_size=5, image_size=(HEIGHT, WIDTH), precision="fp32")

    def test_label_ids_are_read_in_the_type_of_the_engine(self):
        with (
            open_linear(linear_graph(id_type=TensorProto.INT64)) as wide,
            open_linear() as narrow,
        ):
            result = infer(wide, images(4))
            assert result.label_ids.dtype == np.int32
            assert same(result, infer(narrow, images(4)))

    def test_logits_are_those_of_the_model(self):
        with open_linear(linear_graph(logits=True), logits=True) as classifier:
            result = infer(classifier, images(3))
        best = np.sort(result.logits, axis=1)[:, ::-1][:, :3]
        np.testing.assert_array_equal(best, result.scores)

    def test_outputs_that_nobody_fetches_stay_on_the_device(self, gpu):
        copies = {}
        for logits in (False, True):
            gpu.reset()
            with open_linear(linear_graph(logits=True), logits=logits) as classifier:
                before = gpu.call_names.count("cudaMemcpyAsync")
                result = infer(classifier, images(3))
                copies[logits] = gpu.call_names.count("cudaMemcpyAsync") - before
            assert (result.logits is not None) == logits
        assert copies == {False: 3, True: 4}  # the images, label_ids, scores

    def test_full_batches_are_launched_as_a_graph_and_others_are_not(self, gpu):
        with open_linear(cuda_graph=True) as classifier:
            assert classifier.uses_cuda_graph
            launches = [gpu.call_names.count("cudaGraphLaunch")]
            for count in (4, 3, 4):
                infer(classifier, images(count))
                launches.append(gpu.call_names.count("cudaGraphLaunch"))
        assert launches == [0, 1, 1, 2]

    def test_an_engine_that_cannot_be_captured_runs_without_graphs(self, gpu, caplog):
        with open_linear() as plain:
            expected = infer(plain, images(4))
        gpu.reset()
        with open_linear(cuda_graph=True):
            at = gpu.call_names.index("cudaStreamBeginCapture") + 1
        gpu.reset()
        gpu.fail_call(at, 900)
        with (
            caplog.at_level(logging.WARNING),
            open_linear(cuda_graph=True) as classifier,
        ):
            assert not classifier.uses_cuda_graph
            assert same(infer(classifier, images(4)), expected)
        assert "without CUDA graphs: cudaStreamBeginCapture failed" in caplog.text

    def test_too_little_memory_is_said_with_both_figures(self, gpu, version):
        for needed in self.memory_needed():
            gpu.reset(total_bytes=needed - 1)
            with pytest.raises(DeviceMemoryError, match=r"needed, \S+ GiB of \S+ GiB are free"):
                open_linear()
            assert gpu.leaks() == []
            gpu.reset()
            with pytest.raises(DeviceMemoryError, match=r"needed, the memory limit leaves \S+ GiB"):
                open_linear(memory_limit_bytes=needed - 1)
            assert gpu.leaks() == []
        with open_linear(memory_limit_bytes=needed) as classifier:
            infer(classifier, images(1))

    def memory_needed(self):
        """Bytes after the weights, after the activations, after two batches in flight."""
        weights = len(build_plan(linear_graph(), batch=(1, 4, 4), size=(HEIGHT, WIDTH)))
        batch = 4 * HEIGHT * WIDTH * 3
        activations, results = 4 * batch, 4 * 3 * (4 + 4)
        return weights, weights + activations, weights + activations + 2 * (batch + results)

    def test_graphs_that_do_not_fit_the_limit_are_left_out(self):
        *_, needed = self.memory_needed()
        with open_linear(memory_limit_bytes=needed, cuda_graph=True) as classifier:
            assert not classifier.uses_cuda_graph
            infer(classifier, images(4))

    def test_a_plan_of_another_version_or_damaged_is_refused_with_the_reason(self, version):
        other = next(other for other in VERSIONS if other != version)
        with simulated_gpu(other):
            foreign = build_plan(linear_graph(), batch=(1, 4, 4), size=(HEIGHT, WIDTH))
        with simulated_gpu(version):
            sizes = {"batch_size": 4, "image_size": (HEIGHT, WIDTH), "precision": "fp32"}
            reason = rf"{re.escape(version)}.*Serialized Engine Version: {re.escape(other)}"
            with pytest.raises(PlanError, match=reason):
                TensorRTClassifier(foreign, **sizes)
            with pytest.raises(PlanError, match="magic tag does not match"):
                TensorRTClassifier(b"garbage", **sizes)

    def test_a_tensorrt_that_does_not_start_is_unavailable(self, monkeypatch):
        import tensorrt

        def fail(logger):
            logger.log(tensorrt.ILogger.WARNING, "CUDA initialization failure with error: 999")
            raise TypeError("factory function returned nullptr")

        monkeypatch.setattr(tensorrt, "Runtime", fail)
        with pytest.raises(BackendUnavailableError, match="does not start: CUDA initialization"):
            open_linear()

    def test_a_plan_of_another_network_is_refused_and_forgotten(self, gpu):
        model = onnx.load_model_from_string(linear_graph())
        del model.graph.output[0]
        with pytest.raises(PlanError) as held:
            open_linear(model.SerializeToString())
        assert "outputs ['label_ids']; expected images, and scores" in str(held.value)
        assert gpu.leaks() == []

    def test_a_gpu_that_is_not_there_is_refused(self, gpu):
        with pytest.raises(BackendUnavailableError, match=r"GPU 3 was asked for.* shows 1"):
            open_linear(device=3)
        gpu.reset(device_count=0)
        with pytest.raises(BackendUnavailableError, match="no NVIDIA GPU can be used"):
            open_linear()

    def test_another_number_of_scores_than_declared_is_a_model_error(self):
        """Labels would be missing, or be of other classes."""
        graph = linear_graph(logits=True)
        with pytest.raises(ModelError, match="declares 12 scores for an image and gives 5"):
            open_linear(graph, classes=12)
        open_linear(graph, classes=5).close()

    def test_slots_of_a_closed_classifier_are_not_lent_any_more(self):
        classifier = open_linear()
        slot = classifier.acquire()
        classifier.close()
        with pytest.raises(RuntimeError, match="closed"):
            slot.images  # noqa: B018

    @pytest.mark.parametrize("name", ["batch_size", "slots", "max_in_flight"])
    def test_sizes_below_one_are_programming_errors(self, name):
        with pytest.raises(ValueError, match=f"{name}=0"):
            TensorRTClassifier(
                b"",
                **{
                    "batch_size": 1,
                    "slots": 1,
                    "max_in_flight": 1,
                    "image_size": (1, 1),
                    "precision": "fp32",
                    name: 0,
                },
            )

    def test_after_a_failure_nothing_but_close_is_answered(self, gpu):
        with open_linear() as classifier:
            lent = classifier.acquire()
            gpu.refuse_call(gpu.tensorrt_calls + 1)
            with pytest.raises(InferenceError, match="injected refusal"):
                classifier.submit(lent, 2)
            for use in (classifier.acquire, classifier.collect, lambda: classifier.submit(lent, 2)):
                with pytest.raises(InferenceError, match="an earlier batch failed"):
                    use()

    def test_says_versions_device_and_key(self, version):
        with open_linear(engine_key="abc") as classifier:
            info = classifier.info
        assert (info.backend, info.precision, info.engine_key) == ("tensorrt", "fp32", "abc")
        assert info.device == "Simulated H200"
        assert info.versions == {
            "tensorrt": version,
            "cuda_runtime": "13.0",
            "cuda_driver": "13.0",
        }


def test_without_the_libraries_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    with pytest.raises(BackendUnavailableError, match=r"cuda-python 12\.9 or 13"):
        TensorRTClassifier(b"", batch_size=1, image_size=(1, 1), precision="fp32")


def test_equal_scores_are_put_in_order_of_label_id():
    label_ids = np.array([[3, 1, 2], [5, 4, 0], [2, 1, 0], [9, 8, 7]], np.int32)
    scores = np.array([[3, 2, 1], [2, 2, 1], [1, 1, 1], [2, 1, 1]], np.float32)
    ordered, kept = in_order(label_ids.copy(), scores.copy())
    assert ordered.tolist() == [[3, 1, 2], [4, 5, 0], [0, 1, 2], [9, 7, 8]]
    np.testing.assert_array_equal(kept, scores)


def test_a_nan_comes_last_and_stays_with_its_label():
    label_ids = np.array([[7, 4, 2]], np.int32)
    ordered, scores = in_order(label_ids, np.array([[np.nan, 0.5, 0.5]], np.float32))
    assert ordered.tolist() == [[2, 4, 7]]
    np.testing.assert_array_equal(scores, np.array([[0.5, 0.5, np.nan]], np.float32))


def test_one_column_has_no_order_to_mend():
    label_ids, scores = in_order(np.zeros((3, 1), np.int32), np.ones((3, 1), np.float32))
    assert label_ids.shape == scores.shape == (3, 1)
