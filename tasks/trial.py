"""The self-test before a long run: a model that cannot be right is refused, a doubtful one told.

On drawn images alone: the user's own would have to be decoded before the first shard is opened,
where an image that crashes its decoder could be blamed on nobody. `flows.doctor` looks at them.
"""

from __future__ import annotations

import logging
import time

from engines.check import Check, worst
from engines.classifier import Classifier
from engines.errors import ModelError
from engines.model import Model
from engines.self_test import self_test

__all__ = ["try_out"]

_log = logging.getLogger(__name__)


def try_out(model: Model, classifier: Classifier) -> tuple[Check, ...]:
    """Test an opened classifier, and log what was found.

    Args:
        model: What it runs.
        classifier: Open, idle, and fetching logits.

    Raises:
        ModelError: A check failed; the message has them all, and what to do.
        EngineError: Inference failed.
    """
    started = time.monotonic()
    checks = self_test(classifier, model)
    for check in checks:
        if check.status == "warning":
            _log.warning("self-test: %s", check)
    if worst(checks) == "failed":
        failed = "; ".join(str(check) for check in checks if check.status == "failed")
        raise ModelError(
            f"the model's self-test failed. {failed}. `python -m flows.doctor --model` with the"
            " same options shows all of it; --no-self-test runs all the same."
        )
    _log.info("self-test: %s (%.2f s)", _counted(checks), time.monotonic() - started)
    return checks


def _counted(checks: tuple[Check, ...]) -> str:
    """As '5 checks passed, 1 warning'."""
    warnings = sum(check.status == "warning" for check in checks)
    passed = sum(check.status == "passed" for check in checks)
    told = f", {warnings} warning{'s' * (warnings > 1)}" if warnings else ""
    return f"{passed} checks passed{told}"
