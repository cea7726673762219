"""Bad and odd images through the whole command: every one a row, soon, in little memory.

    python -m benchmarks.reliability.bad_images FOLDER... [--json FILE]

FOLDERs hold whatever files were collected: clones of the test images of image libraries, say.
Each file, whatever it is, becomes an input with an allowed suffix, and files are added that are
made to be trouble. Then two things are measured:

- `classify_dir --direct` over all of them: is every input a row, how does the command end, how much
  memory did its largest decoder take?
- each file alone through one decode process: how long does it take? Where it can be decoded, are
  the pixels, byte for byte, those of decoding without a process around it?
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow.dataset as ds
from cyclopts import App, Parameter

from benchmarks.machine import facts
from benchmarks.reliability.odd_files import write_odd_files
from engines.model import ModelRequest, load_model
from shards.decode import Decoded, Limits, decode_file
from shards.decode_pool import DecodePool
from shards.names import file_names_of
from shards.stored import Stored
from tasks.settings import Settings

ROOT = Path(__file__).parent.parent.parent
MODEL = ROOT / "examples/digits/model"
LOOK_S = 0.05
PACKAGES = ("numpy", "pillow", "pyarrow", "onnxruntime")

app = App(help=__doc__)


@dataclass(slots=True, kw_only=True)
class Corpus:
    """What became of one folder's files.

    Attributes:
        files: How many there were.
        rows: Rows of the table.
        ok: Those with a label.
        kinds: Errors by kind.
        slowest: The longest time of one file, seconds, and its name.
        other_pixels: Files whose pixels, size or error differed without a process around them.
    """

    files: int = 0
    rows: int = 0
    ok: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    slowest: tuple[float, str] = (0.0, "")
    other_pixels: list[str] = field(default_factory=list)


@app.default
def main(
    *folders: Path, json_file: Annotated[Path | None, Parameter(name="--json")] = None
) -> None:
    """Measure, and print a table; exit code 1 if a promise was not kept.

    Args:
        folders: Of files of any kind; each is a line of the table.
        json_file: Where the figures go.
    """
    with tempfile.TemporaryDirectory() as work:
        images = Path(work, "images")
        corpora = {folder.name: Corpus(files=collect(folder, images)) for folder in folders}
        corpora["made here"] = Corpus(files=write_odd_files(images / "made here"))
        run = classify(images, Path(work, "out"))
        read_table(Path(work, "out/predictions"), corpora)
        one_by_one(images, corpora)
    report: dict[str, Any] = {"corpora": {name: asdict(c) for name, c in corpora.items()}} | run
    report |= facts(PACKAGES) | {"broken": broken(run, corpora.values())}
    if json_file is not None:
        json_file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print_table(corpora, run)
    for promise in report["broken"]:
        print(f"BROKEN: {promise}")
    raise SystemExit(1 if report["broken"] else 0)


def collect(folder: Path, images: Path) -> int:
    """Copy every file of a folder under a name with an allowed suffix; returns how many."""
    target = images / folder.name
    target.mkdir(parents=True)
    sources = sorted(p for p in folder.rglob("*") if p.is_file() and ".git" not in p.parts)
    for number, source in enumerate(sources):
        (target / f"{number:05d}-{source.name[-80:]}.jpg").write_bytes(source.read_bytes())
    return len(sources)


def classify(images: Path, out: Path) -> dict[str, Any]:
    """Run the command, and watch its decoders."""
    command = [sys.executable, "-m", "flows.classify_dir", str(images), "--model", str(MODEL)]
    command += ["--output", str(out), "--direct", "--json", "--quiet", "--max-error-rate", "1"]
    started = time.monotonic()
    peaks: dict[int, int] = {}
    ended = threading.Event()
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        watch = threading.Thread(target=watch_decoders, args=(process.pid, peaks, ended))
        watch.start()
        stdout, _ = process.communicate()
        ended.set()
        watch.join()
    return {
        "exit_code": process.returncode,
        "seconds": round(time.monotonic() - started, 1),
        "summary": json.loads(stdout),
        "decoders": len(peaks),
        "peak_decoder_mib": max(peaks.values()) / 2**10,
        "median_decoder_mib": float(np.median(list(peaks.values()))) / 2**10,
    }


def watch_decoders(command: int, peaks: dict[int, int], ended: threading.Event) -> None:
    """Note the most memory, KiB, that each decode worker has had."""
    while not ended.wait(LOOK_S):
        generation = [command]
        for _ in range(3):  # to the device process, the server, its workers
            generation = [child for parent in generation for child in children(parent)]
        for worker in generation:
            with suppress(OSError, StopIteration):
                lines = Path(f"/proc/{worker}/status").read_text().splitlines()
                peak = next(line for line in lines if line.startswith("VmHWM"))
                peaks[worker] = int(peak.split()[1])


def children(process: int) -> list[int]:
    """Ids of the processes that a process has made."""
    found: list[int] = []
    with suppress(OSError):
        for thread in Path(f"/proc/{process}/task").iterdir():
            found += map(int, (thread / "children").read_text().split())
    return found


def read_table(predictions: Path, corpora: dict[str, Corpus]) -> None:
    """Count the rows of each corpus; a file that has two of them is counted once."""
    columns = ["file_name", "error_kind"]
    table = ds.dataset(predictions, partitioning="hive").to_table(columns)
    kinds = dict(zip(*(table[name].to_pylist() for name in columns), strict=True))
    for name, kind in kinds.items():
        corpus = corpora[name.split("/")[0]]
        corpus.rows += 1
        if kind is None:
            corpus.ok += 1
        else:
            corpus.kinds[kind] = corpus.kinds.get(kind, 0) + 1


def one_by_one(images: Path, corpora: dict[str, Corpus]) -> None:
    """Decode each file alone, with and without a process around it."""
    model = load_model(ModelRequest(path=MODEL))
    limits = Limits(max_pixels=Settings.model_fields["max_pixels"].default)
    here = np.zeros((1, model.input_height, model.input_width, 3), np.uint8)
    there = np.zeros_like(here)
    with DecodePool(model.spec.host, limits, workers=1) as pool:
        for name, corpus in corpora.items():
            root = os.fsencode(images / name)
            for file in sorted(os.listdir(root)):
                path = root + b"/" + file
                started = time.monotonic()
                [outcome] = pool.decode([Stored(path, root=root)], there)
                seconds = time.monotonic() - started
                [shown] = file_names_of([file], root)
                corpus.slowest = max(corpus.slowest, (round(seconds, 3), shown))
                # What did not end well there is better not tried here.
                if isinstance(outcome, Decoded) and (
                    outcome != decode_file(path, here[0], model.spec.host, limits)
                    or not np.array_equal(here, there)
                ):
                    corpus.other_pixels.append(shown)


def broken(run: dict[str, Any], corpora: Iterable[Corpus]) -> list[str]:
    """What was promised and is not so."""
    summary = run["summary"]
    files = sum(corpus.files for corpus in corpora)
    promises = {
        f"exit code {run['exit_code']}": run["exit_code"] == 0,
        f"{summary['images']} images of {files} files": summary["images"] == files,
        "not every file has a row": all(corpus.rows == corpus.files for corpus in corpora),
        "other pixels": not any(corpus.other_pixels for corpus in corpora),
        "a decoder crashed": summary["errors_by_kind"].get("decode_crash", 0) == 0,
        "a decoder took more than 1 GiB": run["peak_decoder_mib"] < 1024,
        "a file took 10 s": all(corpus.slowest[0] < 10 for corpus in corpora),
    }
    return [text for text, kept in promises.items() if not kept]


def print_table(corpora: dict[str, Corpus], run: dict[str, Any]) -> None:
    """Markdown."""
    print("| files from | files | rows | ok | errors by kind | slowest, s |")
    print("| --- | ---: | ---: | ---: | --- | ---: |")
    for name, corpus in corpora.items():
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in by_count(corpus.kinds))
        print(
            f"| {name} | {corpus.files:,} | {corpus.rows:,} | {corpus.ok:,} | {kinds} "
            f"| {corpus.slowest[0]:.2f} |"
        )
    print(
        f"\nexit code {run['exit_code']} after {run['seconds']} s; {run['decoders']} decoders, of "
        f"which the largest had {run['peak_decoder_mib']:.0f} MiB"
    )


def by_count(kinds: dict[str, int]) -> list[tuple[str, int]]:
    """The most frequent first."""
    return sorted(kinds.items(), key=lambda item: -item[1])


if __name__ == "__main__":
    app()
