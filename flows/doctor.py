"""Look at this machine, and at a model: `python -m flows.doctor`.

There is no flow of it: it is for a person, or a script that sets a machine up.
"""

from __future__ import annotations

if __name__ == "__main__":
    from flows.interrupt import kill_at_first

    kill_at_first()

from flows.doctor_command import main

__all__ = ["main"]

if __name__ == "__main__":
    raise SystemExit(main())
