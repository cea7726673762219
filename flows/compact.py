"""Write the table in few large files: `python -m flows.compact`.

There is no flow of it: it is one step, and what it leaves is there whole or not at all.
"""

from __future__ import annotations

if __name__ == "__main__":
    from flows.interrupt import kill_at_first

    kill_at_first()

from flows.compact_command import main

__all__ = ["main"]

if __name__ == "__main__":
    raise SystemExit(main())
