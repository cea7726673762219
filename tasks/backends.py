"""Which backend runs the model, and with what."""

from __future__ import annotations

from engines.classifier import Classifier
from engines.onnx_runtime import OnnxRuntimeClassifier
from tasks.job import Job

__all__ = ["open_classifier"]


def open_classifier(job: Job, batch_limit: int | None) -> Classifier:
    """Open the classifier that the settings ask for, in this process.

    Args:
        job: The request.
        batch_limit: Largest batch, where a larger one ran out of memory before.
    """
    largest = job.settings.batch_profile[2]
    batch_size = largest if batch_limit is None else min(largest, batch_limit)
    return OnnxRuntimeClassifier(job.model, batch_size=batch_size)
