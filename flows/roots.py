"""NIGHTSHIFT_ALLOWED_ROOTS: where parameters may point to, said by whoever runs the worker."""

from __future__ import annotations

import os
import re

from tasks.allowed_roots import AllowedRoots

__all__ = ["VARIABLE", "allowed_roots"]

VARIABLE = "NIGHTSHIFT_ALLOWED_ROOTS"

# The colon of s3:// separates nothing.
_BETWEEN = re.compile(re.escape(os.pathsep) + "(?!//)")


def allowed_roots() -> AllowedRoots | None:
    """The roots that this process's environment names; None where it does not limit them.

    Raises:
        SettingsError: It is set and names none, or something else than roots: nothing is allowed
            by mistake.
    """
    text = os.environ.get(VARIABLE)
    return None if text is None else AllowedRoots.of(filter(None, _BETWEEN.split(text)))
