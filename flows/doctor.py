"""Look at this machine, and at a model: `python -m flows.doctor`.

There is no flow of it: it is for a person, or a script that sets a machine up.
"""

from __future__ import annotations

from flows.doctor_command import main

__all__ = ["main"]

if __name__ == "__main__":
    raise SystemExit(main())
