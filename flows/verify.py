"""Check an output: `python -m flows.verify`.

There is no flow of it: it reads files, and changes nothing.
"""

from __future__ import annotations

if __name__ == "__main__":
    from flows.interrupt import kill_at_first

    kill_at_first()

from flows.verify_command import main

__all__ = ["main"]

if __name__ == "__main__":
    raise SystemExit(main())
