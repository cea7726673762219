"""Does the Prefect API answer that runs would report to?"""

from __future__ import annotations

import time
import urllib.request

from engines.check import Check

__all__ = ["prefect_check"]

ANSWER_S = 5.0
"""A server that takes longer makes every task of a run slow."""


def prefect_check() -> Check:
    """Ask the API, if one is configured: PREFECT_API_URL, or Prefect's profile."""
    from prefect.settings import PREFECT_API_URL  # takes a second

    name = "Prefect API"
    expected = f"an answer within {ANSWER_S:g} s, or none configured"
    url = PREFECT_API_URL.value()
    if url is None:
        measured = "none configured: each run starts a temporary server; --direct needs none"
        return Check(name=name, status="passed", measured=measured, expected=expected)
    started = time.monotonic()
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=ANSWER_S):  # noqa: S310 - theirs
            pass
    except (OSError, ValueError) as error:
        return Check(
            name=name,
            status="failed",
            measured=f"{url} does not answer: {getattr(error, 'reason', error)}",
            expected=expected,
            advice="Start it, unset PREFECT_API_URL, or run with --direct",
        )
    seconds = time.monotonic() - started
    measured = f"{url} answers in {1000 * seconds:.0f} ms"
    return Check(name=name, status="passed", measured=measured, expected=expected)
