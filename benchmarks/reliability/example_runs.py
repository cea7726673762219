"""Runs of the command over copies of the example's images, for scripts that disturb them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["EXAMPLE", "ROOT", "command", "copy_images", "start"]

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "examples/digits"


def copy_images(folder: Path, count: int) -> list[Path]:
    """Write copies of the example's images, under names of their own; returns them in order."""
    folder.mkdir(parents=True)
    sources = sorted(path for path in (EXAMPLE / "images").rglob("*") if path.is_file())
    paths = []
    for number in range(count):
        source = sources[number % len(sources)]
        paths.append(folder / f"{number:06d}{source.suffix}")
        shutil.copyfile(source, paths[-1])
    return paths


def command(images: Path, out: Path, *options: str) -> list[str]:
    """Return the command that classifies images with the example's model."""
    arguments = ["--direct", "--quiet", "--json", "--model", str(EXAMPLE / "model")]
    module = [sys.executable, "-m", "flows.classify_dir", str(images)]
    return [*module, *arguments, "--output", str(out), *options]


def start(command: list[str]) -> subprocess.Popen[str]:
    """Start a process in the clone's root; its output is kept for `communicate`."""
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
