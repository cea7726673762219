"""Show what TensorRT made of a model: `python -m flows.inspect_engine`.

There is no flow of it: it shows files, and changes nothing.
"""

from __future__ import annotations

if __name__ == "__main__":
    from flows.interrupt import kill_at_first

    kill_at_first()

from flows.inspect_command import main

__all__ = ["main"]

if __name__ == "__main__":
    raise SystemExit(main())
