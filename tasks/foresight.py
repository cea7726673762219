"""Whether a run is likely to have work, guessed before anything slow is imported.

A device process takes a second to start, so it starts before the images are listed. For a job that
is finished it would start in vain, and take the listing's processor time. What the guess gets wrong
costs time and nothing else: planning starts the process as soon as it has found work.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

__all__ = ["expects_work"]

AGAIN = ("--overwrite", "--retry-errors")
"""Options that make work of finished rows."""


def expects_work(words: Sequence[str]) -> bool:
    """Guess from the words of a command line, not understood yet, whether there is work.

    There is none where the last record of the output is that of a run that was done, with this
    model, and neither the plans nor anything that the words name has changed since. In doubt there
    is work.
    """
    output = _output(words)
    if output is None or any(word.startswith(AGAIN) for word in words):
        return True
    try:
        since, record = _last_record(output / "runs")
        parameters = record["parameters"]
        return (
            record["status"] not in ("done", "too_many_errors")
            or parameters["model"] not in words
            or any(changed > since for changed in _changes(words, output))
        )
    except (OSError, ValueError, LookupError, TypeError):
        return True


def _output(words: Sequence[str]) -> Path | None:
    """What a command line says of --output; None for nothing."""
    for number, word in enumerate(words):
        if word in ("--output", "-o"):
            return Path(words[number + 1]) if number + 1 < len(words) else None
        if word.startswith(("--output=", "-o=")):
            return Path(word.partition("=")[2])
    return None


def _last_record(runs: Path) -> tuple[int, dict[str, Any]]:
    """Read the record that was written last, and when, in nanoseconds since the epoch."""
    with os.scandir(runs) as entries:
        last = max(entries, key=lambda entry: entry.stat().st_mtime_ns)
    path = Path(last.path, "run.json")
    record: dict[str, Any] = json.loads(path.read_bytes())
    return path.stat().st_mtime_ns, record


def _changes(words: Sequence[str], output: Path) -> Iterator[int]:
    """Yield when the plans, and what else the words name, changed last."""
    yield (output / "state" / "plans").stat().st_mtime_ns
    for word in words:
        if Path(word) == output:
            continue
        try:
            yield Path(word).stat().st_mtime_ns
        except (OSError, ValueError):
            continue  # no file, as most options
