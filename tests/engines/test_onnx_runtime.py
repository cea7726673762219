from __future__ import annotations

from engines.onnx_runtime import OnnxRuntimeClassifier
from tests.engines.classifier_contract import ClassifierContract


class TestOnnxRuntime(ClassifierContract):
    def make_classifier(self, model, batch_size, slots):
        return OnnxRuntimeClassifier(model, batch_size=batch_size, slots=slots)
