"""How long a second start takes until the first results of the GPU are in host memory.

    python -m benchmarks.gpu.first_result MODEL --engines CACHE [--precision fp16] [--json FILE]

Builds the engine if the store lacks it, then starts a fresh process several times. Time runs from
the start of that process as the kernel has it, to 10 ms: the interpreter's own start and all
imports are in. The model's files are read before, so they come from the page cache.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

ROOT = Path(__file__).parent.parent.parent
STAGES = (
    "interpreter and imports",
    "model",
    "engine from the store",
    "engine open",
    "first results",
)

app = App(help=__doc__)


@app.default
def main(
    model: Path,
    *,
    engines: Path,
    precision: str = "fp16",
    batch_size: int = 256,
    starts: int = 5,
    json_file: Annotated[Path | None, Parameter(name="--json")] = None,
) -> None:
    """Measure, and print a table.

    Args:
        model: A model folder.
        engines: Folder of the engine store.
        precision: fp32 or fp16.
        batch_size: Images in a batch.
        starts: Processes that are started, one after the other.
        json_file: Where the figures of every start go.
    """
    command = [sys.executable, "-m", "benchmarks.gpu.first_result", "once", str(model)]
    command += [
        "--engines",
        str(engines),
        "--precision",
        precision,
        "--batch-size",
        str(batch_size),
    ]

    def start() -> dict[str, Any]:
        done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
        printed: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return printed

    device = start()["device"]  # builds the engine, and warms the page cache
    seconds = [start()["seconds"] for _ in range(starts)]
    report = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device,
        "model": model.name,
        "precision": precision,
        "batch_size": batch_size,
        "seconds": seconds,
        "median": {name: statistics.median(one[name] for one in seconds) for name in seconds[0]},
    }
    if json_file is not None:
        json_file.write_text(json.dumps(report, indent=2) + "\n")
    print_table(report)


@app.command
def once(model: Path, *, engines: Path, precision: str, batch_size: int) -> None:
    """Go from nothing to the first results, and print the seconds since the process started."""
    from benchmarks.gpu.engines import stored_engine
    from engines.model import ModelRequest, load_model

    seconds = [since_process_start()]
    loaded = load_model(ModelRequest(path=model))
    seconds.append(since_process_start())
    with stored_engine(loaded, engines, precision=precision, batch_size=batch_size) as subject:
        seconds.append(since_process_start())
        with subject.open() as classifier:
            seconds.append(since_process_start())
            classifier.submit(classifier.acquire(), batch_size)
            classifier.collect()
            seconds.append(since_process_start())
            device = classifier.info.device
    print(json.dumps({"device": device, "seconds": dict(zip(STAGES, seconds, strict=True))}))


def since_process_start() -> float:
    """Seconds since the kernel started this process (proc_pid_stat(5), field 22)."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started


def print_table(report: dict[str, object]) -> None:
    """A short Markdown table."""
    median = report["median"]
    assert isinstance(median, dict)
    print(
        f"{report['model']}, {report['precision']}, batches of {report['batch_size']}, "
        f"{report['device']}, {report['date']}\n"
    )
    print("| reached | seconds since process start |")
    print("| --- | ---: |")
    for name, value in median.items():
        print(f"| {name} | {value:.2f} |")


if __name__ == "__main__":
    app()
