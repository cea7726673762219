"""Many images: every one has a row, memory stays flat, listing and planning take seconds.

    python -m benchmarks.cpu.scale [--count 100000] [--json FILE]

The images are copies of the example's, under names of their own.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import pyarrow.dataset as ds
from cyclopts import App, Parameter

from engines.onnx_runtime import processor_name

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "examples/digits"
FILES_PER_DIRECTORY = 5000
SAMPLE_INTERVAL_S = 0.2
app = App(help=__doc__)


@app.default
def main(
    *, count: int = 100_000, json_file: Annotated[Path | None, Parameter(name="--json")] = None
) -> None:
    """Measure, and print a table.

    Args:
        count: Images.
        json_file: Where the figures go.
    """
    with tempfile.TemporaryDirectory() as folder:
        images, out = Path(folder, "images"), Path(folder, "out")
        copy_images(images, count)
        first, samples = classify(images, out)
        again, _ = classify(images, out)
        table = ds.dataset(out / "predictions", partitioning="hive")
        rows = table.count_rows()
        names = table.to_table(["file_name"])["file_name"].unique()
    assert rows == len(names) == count, (rows, len(names))
    report = summarize(count, first, again, samples)
    if json_file is not None:
        json_file.write_text(json.dumps(report, indent=2) + "\n")
    print(f"{count:,} images, {report['date']}\n\n| what | figure |\n| --- | ---: |")
    for name, value in report.items():
        if name not in ("date", "processor", "samples"):
            print(f"| {name.replace('_', ' ')} | {value:,} |")


def copy_images(root: Path, count: int) -> None:
    """Copies of the example's images, under numbered names, in directories of 5,000."""
    sources = sorted(path for path in (EXAMPLE / "images").rglob("*") if path.is_file())
    for number in range(count):
        directory = root / f"{number // FILES_PER_DIRECTORY:03d}"
        if number % FILES_PER_DIRECTORY == 0:
            directory.mkdir(parents=True)
        source = sources[number % len(sources)]
        shutil.copyfile(source, directory / f"{number:07d}{source.suffix}")


def classify(images: Path, out: Path) -> tuple[dict[str, float], list[tuple[int, int]]]:
    """Run the command; returns its summary, and (rows published, bytes resident) over time.

    Resident is the sum over the command and its device process.
    """
    command = [sys.executable, "-m", "flows.classify_dir", str(images), "--direct", "--json"]
    command += ["--model", str(EXAMPLE / "model"), "--output", str(out), "--quiet"]
    samples = []
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            published = len(list(out.glob("predictions/*/*.parquet"))) * 10_000
            samples.append((published, resident(process.pid)))
            time.sleep(SAMPLE_INTERVAL_S)
        assert process.stdout is not None
        assert process.returncode == 0
        return json.loads(process.stdout.read()), samples


def resident(pid: int) -> int:
    """Bytes of a process and its children."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return 0
    own = next((line for line in status.splitlines() if line.startswith("VmRSS")), "x 0 kB")
    return int(own.split()[1]) * 1024 + sum(resident(int(child)) for child in children)


def summarize(
    count: int,
    first: dict[str, float],
    again: dict[str, float],
    samples: list[tuple[int, int]],
) -> dict[str, object]:
    """The figures; memory before and after the first tenth of the images."""
    later = [size for published, size in samples if count // 10 <= published < count]
    mib = 1 << 20
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": processor_name(),
        "images": count,
        "seconds": first["seconds"],
        "listing_and_planning_seconds": first["planning_seconds"],
        "images_per_second": first["images_per_second"],
        "second_run_rows_written": again["rows_written"],
        "second_run_seconds": again["seconds"],
        "resident_mib_after_first_tenth": round(later[0] / mib, 1),
        "resident_mib_at_end": round(later[-1] / mib, 1),
        "resident_mib_most_after_first_tenth": round(max(later) / mib, 1),
        "samples": [[published, round(size / mib, 1)] for published, size in samples[::5]],
    }


if __name__ == "__main__":
    app()
