"""int8 beside fp32 on this CPU: throughput, agreement, and what calibration costs.

    python -m benchmarks.cpu.int8 IMAGES --model MODEL [--method entropy] [--json FILE]

Ranges come from the first images, labels are compared on others. Both precisions are timed in turn,
with all cores, on the same full batch; ratios are taken round by round. Processor time is given as
well: it depends less on what else the machine does.
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from cyclopts import App, Parameter
from numpy.typing import NDArray

from benchmarks.machine import cores, facts
from engines.model import Model, ModelRequest, load_model
from engines.ort_session import Session
from engines.precision import apply_precision
from engines.quantize.calibrate import calibrate
from engines.quantize.histogram import Method
from engines.wrap import IMAGES, LOGITS, SCORES
from shards.decode import Decoded, Limits
from shards.stored import Stored
from tasks.decode_into import DecodeInto

app = App(help=__doc__)

PACKAGES = ("numpy", "onnx", "onnxruntime")
WARM_UP = 2
SECONDS = 3.0


@app.default
def main(
    images: Path,
    *,
    model: Path,
    method: Method = "entropy",
    calibration_images: int = 256,
    gate_images: int = 512,
    batch_size: int = 16,
    rounds: int = 5,
    json_file: Annotated[Path | None, Parameter(name="--json")] = None,
) -> None:
    """Measure, and print a table.

    Args:
        images: A directory of images, searched for with what lies below.
        model: A model folder.
        method: How ranges are chosen.
        calibration_images: Images to measure ranges on.
        gate_images: Other images, whose labels are compared.
        batch_size: Images inferred at once.
        rounds: How often both precisions are timed, in turn.
        json_file: Where every figure goes.
    """
    loaded = load_model(ModelRequest(path=model))
    paths = [os.fsencode(path) for path in images.rglob("*") if path.is_file()]
    paths.sort(key=lambda path: hashlib.sha256(path).digest())  # not one class after the other
    wanted = paths[: calibration_images + gate_images]
    pixels = decoded(loaded, wanted)
    first, others = pixels[:calibration_images], pixels[calibration_images:]
    started = time.perf_counter()
    ranges = calibrate(loaded.graph, [first], method=method, threads=cores())
    calibration_s = time.perf_counter() - started
    int8 = apply_precision(loaded.graph, "int8", calibration=ranges, target="onnxruntime")
    sessions = {
        "fp32": Session(loaded.graph, threads=cores()),
        "int8": Session(int8, threads=cores()),
    }
    batch = np.resize(first, (batch_size, *first.shape[1:]))
    rates: dict[str, list[float]] = {name: [] for name in sessions}
    processor: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(rounds):
        for name, session in sessions.items():
            rate, milliseconds = timed(session, batch)
            rates[name].append(rate)
            processor[name].append(milliseconds)
            print(f"{name}: {rate:,.1f}/s, {milliseconds:.1f} ms", file=sys.stderr)
    ratios = [b / a for a, b in zip(rates["fp32"], rates["int8"], strict=True)]
    exact, rounded = (logits(session, others, batch_size) for session in sessions.values())
    calibration_rate = len(first) / calibration_s
    report = {
        **facts(PACKAGES),
        "model": loaded.model_id,
        "method": method,
        "images_per_second": rates,
        "processor_ms_per_image": processor,
        "int8_of_fp32": statistics.median(ratios),
        "int8_of_fp32_by_processor_time": statistics.median(
            a / b for a, b in zip(processor["fp32"], processor["int8"], strict=True)
        ),
        "calibration_images_per_second": calibration_rate,
        "calibration_of_inference": statistics.median(rates["fp32"]) / calibration_rate,
        "compared": len(others),
        **agreement(exact, rounded),
    }
    if json_file is not None:
        json_file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print_table(report)


def decoded(model: Model, paths: Sequence[bytes]) -> NDArray[np.uint8]:
    """Good images as the model gets them, uint8 [n, height, width, 3]."""
    pixels = np.zeros((len(paths), model.input_height, model.input_width, 3), np.uint8)
    with DecodeInto(model.spec.host, Limits()) as fill:
        outcomes = fill([Stored(path) for path in paths], pixels)
    return pixels[[isinstance(outcome, Decoded) for outcome in outcomes]]


def timed(session: Session, batch: NDArray[np.uint8]) -> tuple[float, float]:
    """Images a second and processor milliseconds an image, of full batches for about SECONDS."""
    for _ in range(WARM_UP):
        session.run([SCORES], {IMAGES: batch})
    count, started, used = 0, time.perf_counter(), time.process_time()
    while (elapsed := time.perf_counter() - started) < SECONDS:
        session.run([SCORES], {IMAGES: batch})
        count += len(batch)
    return count / elapsed, 1000 * (time.process_time() - used) / count


def logits(session: Session, images: NDArray[np.uint8], batch_size: int) -> NDArray[np.float32]:
    """Float32 [images, classes]."""
    starts = range(0, len(images), batch_size)
    batches = (images[start : start + batch_size] for start in starts)
    return np.concatenate([session.run([LOGITS], {IMAGES: batch})[0] for batch in batches])


def agreement(exact: NDArray[np.float32], rounded: NDArray[np.float32]) -> dict[str, float]:
    """Share of images with the same label, and how far logits are off."""
    error = np.abs(rounded - exact)
    return {
        "agreement": float((exact.argmax(axis=1) == rounded.argmax(axis=1)).mean()),
        "worst_logit_error": float(error.max()),
        "median_logit_error": float(np.median(error)),
        "logit_deviation": float(exact.std(axis=0).mean()),
    }


def print_table(report: dict[str, object]) -> None:
    """A short Markdown table."""
    rates = report["images_per_second"]
    assert isinstance(rates, dict)
    print(f"{report['model']}, {report['processor']}, {report['cores']} cores, {report['date']}\n")
    print("| what | figure |\n| --- | ---: |")
    for name, values in rates.items():
        print(f"| {name}, images/s | {statistics.median(values):,.1f} |")
    print(f"| int8, times fp32 | {report['int8_of_fp32']:.2f} |")
    print(f"| by processor time | {report['int8_of_fp32_by_processor_time']:.2f} |")
    print(f"| same label, of {report['compared']} images | {report['agreement']:.2%} |")
    print(f"| worst logit error | {report['worst_logit_error']:.3f} |")
    print(f"| median logit error | {report['median_logit_error']:.4f} |")
    print(f"| a logit's standard deviation | {report['logit_deviation']:.3f} |")
    print(f"| calibration ({report['method']}), images/s | ", end="")
    print(f"{report['calibration_images_per_second']:,.1f} |")


if __name__ == "__main__":
    app()
