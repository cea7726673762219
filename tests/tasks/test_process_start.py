from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_the_interpreters_own_start_is_in():
    code = (
        "import time; began = time.monotonic(); time.sleep(0.2)\n"
        "from tasks.process_start import seconds_since_start as since\n"
        "print(since(began), since(time.monotonic()))"
    )
    started = time.monotonic()
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=60)
    elapsed = time.monotonic() - started
    began, now = map(float, done.stdout.split())
    assert -0.01 <= began <= now - 0.2
    assert now <= elapsed + 0.01
