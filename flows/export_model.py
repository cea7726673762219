"""Export a classifier of PyTorch's to an ONNX folder: `python -m flows.export_model`.

There is no flow of it: a model is exported once, by a person, on a machine that has PyTorch.
"""

from __future__ import annotations

if __name__ == "__main__":
    from flows.interrupt import kill_at_first

    kill_at_first()

from flows.export_command import main

__all__ = ["main"]

if __name__ == "__main__":
    raise SystemExit(main())
