"""Our own commands, run as a user runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["CommandFailed", "command"]

ROOT = Path(__file__).parent.parent.parent
PLACES = ("path", "output")
"""Keys of what they print that say where files are: nobody else's concern."""


class CommandFailed(Exception):
    """A command ended with another exit code than 0; the text says which, and what it printed."""


def command(module: str, arguments: Sequence[str]) -> dict[str, Any]:
    """Run `python -m MODULE ARGUMENTS --json` and read what it prints; logs go to stderr.

    Raises:
        CommandFailed: It failed.
    """
    line = [sys.executable, "-m", module, *arguments, "--json"]
    done = subprocess.run(line, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise CommandFailed(f"{module} ended with exit code {done.returncode}: {done.stdout}")
    printed: dict[str, Any] = json.loads(done.stdout, object_hook=_without_places)
    return printed


def _without_places(report: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in report.items() if key not in PLACES}
