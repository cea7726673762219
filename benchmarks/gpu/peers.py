"""What PyTorch does with the same JPEGs on the same GPU: ResNet-50, the usual ways and the best.

    python3 -m benchmarks.gpu.peers IMAGES [--json FILE]

For a Python with PyTorch and torchvision; needs nothing of Nightshift. Weights are random, which
changes no speed. "loop" opens, resizes and classifies one image at a time, as tutorials do. The
other end-to-end line is PyTorch at its best without further libraries: a DataLoader whose processes
run torchvision's transforms, and torch.compile over a half-precision channels-last model. Both end
with the five best labels in host memory.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets.folder import default_loader
from torchvision.models import resnet50
from torchvision.transforms import v2

from benchmarks.machine import cores, facts

MODEL_ALONE = "torch.compile, fp16, channels_last: model alone"
PIPELINE = "DataLoader and torch.compile, end to end"
LOOP = "loop, one image at a time, end to end"
TOP_K = 5
WARM_UP_BATCHES = 10


class Photos(Dataset[torch.Tensor]):
    """JPEGs, decoded by Pillow and preprocessed by torchvision as ResNet's authors do."""

    def __init__(self, paths: list[Path]) -> None:
        self._paths = paths
        self._transform = v2.Compose(
            [
                v2.Resize(256),
                v2.CenterCrop(224),
                v2.PILToTensor(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
            ]
        )

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        """float32 [3, 224, 224]."""
        pixels: torch.Tensor = self._transform(default_loader(str(self._paths[index])))
        return pixels


def main() -> None:
    """Measure, and print a table."""
    arguments = parse()
    device = torch.device(arguments.device)
    paths = sorted(arguments.images.rglob("*.jpg"))
    started = time.perf_counter()
    fast = fast_model(device)
    with torch.inference_mode():
        batch = torch.rand(arguments.batch_size, 3, 224, 224).to(device)
        alone(fast, batch, WARM_UP_BATCHES)
        compiled = time.perf_counter() - started
        print(f"compiled in {compiled:.0f} s", file=sys.stderr, flush=True)
        slow = resnet50().eval().to(device)
        loop(slow, paths[:WARM_UP_BATCHES], device)
        measures: dict[str, Callable[[], float]] = {
            MODEL_ALONE: lambda: alone(fast, batch, arguments.batches),
            PIPELINE: lambda: pipeline(fast, paths, device, arguments),
            LOOP: lambda: loop(slow, paths[: arguments.loop_images], device),
        }
        figures: dict[str, list[float]] = {name: [] for name in measures}
        for number in range(arguments.rounds):
            for name, measure in measures.items():
                figures[name].append(measure())
                rate = figures[name][-1]
                print(f"round {number + 1}: {name}: {rate:,.0f}/s", file=sys.stderr, flush=True)
    report = facts(("torch", "torchvision", "triton", "pillow")) | {
        "model": "resnet50",
        "batch_size": arguments.batch_size,
        "compile_seconds": round(compiled, 1),
        "images_per_second": figures,
        "median": {name: statistics.median(values) for name, values in figures.items()},
    }
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print_table(report)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=Path, help="directory of JPEGs")
    parser.add_argument("--json", type=Path, help="where every figure goes")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--batches", type=int, default=200, help="of the model alone")
    parser.add_argument("--count", type=int, default=12_288, help="images of the DataLoader")
    parser.add_argument("--loop-images", type=int, default=500)
    parser.add_argument("--workers", type=int, default=cores(), help="processes of the DataLoader")
    parser.add_argument("--rounds", type=int, default=2)
    return parser.parse_args()


def fast_model(device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    """The compiled network: float32 [batch, 3, 224, 224] to int64 [batch, TOP_K] labels."""
    network = resnet50().eval().to(device, torch.float16, memory_format=torch.channels_last)

    def labels(pixels: torch.Tensor) -> torch.Tensor:
        half = pixels.to(torch.float16, memory_format=torch.channels_last)
        return network(half).float().softmax(1).topk(TOP_K).indices

    compiled: Callable[[torch.Tensor], torch.Tensor] = torch.compile(labels)
    return compiled


def alone(model: Callable[[torch.Tensor], torch.Tensor], batch: torch.Tensor, count: int) -> float:
    """Images a second of the model, its input on the device already."""
    synchronize()
    started = time.perf_counter()
    for _ in range(count):
        model(batch)
    synchronize()
    return count * len(batch) / (time.perf_counter() - started)


def pipeline(
    model: Callable[[torch.Tensor], torch.Tensor],
    paths: list[Path],
    device: torch.device,
    arguments: argparse.Namespace,
) -> float:
    """Images a second from files to labels, in full batches, which are what was compiled.

    The clock starts when every process has delivered its first batch: a long run does not notice
    their start.
    """
    loader = DataLoader(
        Photos(list(islice(cycle(paths), arguments.count))),
        batch_size=arguments.batch_size,
        num_workers=arguments.workers,
        pin_memory=device.type == "cuda",
        prefetch_factor=2,
        drop_last=True,
    )
    labels: list[torch.Tensor] = []
    batches: Iterator[torch.Tensor] = iter(loader)
    for pixels in islice(batches, arguments.workers):
        model(pixels.to(device, non_blocking=True)).cpu()
    started = time.perf_counter()
    for pixels in batches:
        labels.append(model(pixels.to(device, non_blocking=True)).cpu())
    return sum(map(len, labels)) / (time.perf_counter() - started)


def loop(network: torch.nn.Module, paths: list[Path], device: torch.device) -> float:
    """Images a second of a plain loop."""
    photos = Photos(paths)
    started = time.perf_counter()
    for index in range(len(photos)):
        scores = network(photos[index][None].to(device)).softmax(1)
        scores.topk(TOP_K).indices.cpu()
    return len(photos) / (time.perf_counter() - started)


def synchronize() -> None:
    """Wait for the GPU, where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def print_table(report: dict[str, Any]) -> None:
    """A short Markdown table."""
    print(f"ResNet-50, batches of {report['batch_size']}, {report['gpu']}, {report['date']}\n")
    print("| what | images/s |\n| --- | ---: |")
    for name, value in report["median"].items():
        print(f"| {name} | {value:,.0f} |")


if __name__ == "__main__":
    main()
