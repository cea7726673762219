"""What checking a table costs: time and memory of verify, at several sizes.

    python -m benchmarks.reliability.verify_scale [--images 100000 1000000]

Tables are made up, and written by Nightshift's own writers; each check is a process of its own.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import cyclopts

from benchmarks.reliability.synthetic import write_output

__all__ = ["main"]

DEFAULT_SIZES = (100_000, 300_000, 1_000_000)


def main(
    *,
    images: Annotated[tuple[int, ...], cyclopts.Parameter(consume_multiple=True)] = DEFAULT_SIZES,
    shard_size: int = 10_000,
) -> None:
    """Print a table.

    Args:
        images: Rows of each table.
        shard_size: Rows of a file.
    """
    print("| images | MB | quick, s | whole, s | rows/s | memory of whole, MB |")
    print("|---:|---:|---:|---:|---:|---:|")
    for count in images:
        with tempfile.TemporaryDirectory() as folder:
            tree = write_output(Path(folder, "out"), images=count, shard_size=shard_size)
            size = sum(path.stat().st_size for path in tree.root.rglob("*") if path.is_file())
            quick, _ = _checked(tree.root, "--quick")
            whole, memory = _checked(tree.root)
        print(
            f"| {count:,} | {size / 1e6:,.0f} | {quick:.1f} | {whole:.1f} | {count / whole:,.0f} | "
            f"{memory / 1e6:,.0f} |",
            flush=True,
        )


def _checked(root: Path, *options: str) -> tuple[float, int]:
    """Seconds and peak memory, bytes, of a check that finds nothing wrong."""
    command = [sys.executable, "-m", __spec__.name, "--child", str(root), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout.splitlines()[-1])
    return answer["seconds"], answer["peak"]


def child(arguments: list[str]) -> None:
    """Check, and print what it took."""
    from tasks.verify import verify
    from tasks.verify_settings import VerifySettings

    summary = verify(VerifySettings(output=arguments[0], quick="--quick" in arguments))
    assert summary.exit_code == 0, summary.findings
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": summary.seconds, "peak": peak}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2:])
    else:
        cyclopts.run(main)
