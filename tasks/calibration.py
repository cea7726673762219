"""The ranges that int8 needs, measured on the user's images: once, and kept for the nights after.

    <cache>/calibrations/<key>.json    ranges, and how many images were looked at for them

The key is a digest of the model, the preprocessing, the method, and the names, sizes and times of
the images that may be taken: nothing is decoded to find out that nothing has changed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.locks import FileLock
from engines.manifest import canonical_json
from engines.model import Model
from engines.ort_session import available_cores
from engines.quantize import Calibration
from engines.quantize.calibrate import MIN_IMAGES, calibrate
from engines.quantize.calibration import CALIBRATION_RECIPE
from engines.quantize.histogram import Method
from engines.store_entry import make_private
from shards.decode import Decoded
from shards.errors import ImageError
from shards.stored import Stored
from tasks.decode_into import DecodeInto
from tasks.errors import SettingsError
from tasks.sample import Candidate, Sample, real_paths

__all__ = ["Calibrated", "Images", "calibrated"]

_log = logging.getLogger(__name__)

FORMAT = 1

DECODED_AT_ONCE = 32
"""Images in memory: 5 MB of 224x224, 38 MB of 640x640."""

TELL_S = 5.0
"""Between two lines of progress."""

WAIT_S = 3600.0
"""For another process that calibrates the same, before doing so beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """Images to calibrate on.

    Attributes:
        directory: As the user gave it, for messages.
        sample: Its `front` is what may be taken, in order.
        wanted: Most images to use.
    """

    directory: str
    sample: Sample
    wanted: int

    @property
    def aim(self) -> int:
        """Good images to use: a quarter is left for the gate, unless too few would remain."""
        return min(self.wanted, max(MIN_IMAGES, self.sample.available * 3 // 4))


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """Ranges, and what they were made from.

    Attributes:
        calibration: The ranges.
        used: Real paths of the images that were looked at for them.
    """

    calibration: Calibration
    used: frozenset[bytes]


def calibrated(
    model: Model, images: Images, fill: DecodeInto, *, method: Method, cache: Path, workers: int
) -> Calibrated:
    """Find the calibration in the cache, or make it.

    Args:
        model: The fp32 model.
        images: What to measure on.
        fill: Decodes an image as the model wants it.
        method: How ranges are chosen.
        cache: The folder that also holds the engines.
        workers: Threads that decode.

    Raises:
        SettingsError: There are fewer than 32 good images.
        CalibrationError: They are not different, or the model's activations are no numbers.
        ModelError: The model has nothing that int8 could serve.
        PlanError: The cache is somebody else's.
    """
    folder = cache / "calibrations"
    make_private(folder)
    front = images.sample.front
    file = folder / f"{_key(model, images, fill, method)}.json"
    kept = _read(file, model)
    if kept is None:
        lock = FileLock.wait(
            file.with_suffix(".lock"),
            timeout_s=WAIT_S,
            on_wait=lambda: _log.info("calibration: waiting for another run that makes the same"),
        )
        with lock or nullcontext():
            kept = _read(file, model)  # another process may have made it meanwhile
            if kept is None:
                kept = _calibrate(model, _Decoding(images, fill, workers), method)
                _write(file, kept)
    calibration, walked = kept
    _log.info("calibration %.12s: %s images", calibration.digest, f"{calibration.images:,}")
    return Calibrated(calibration=calibration, used=real_paths(front[:walked]))


Kept = tuple[Calibration, int]
"""A calibration, and how many candidates were looked at for it, damaged ones included."""


def _calibrate(model: Model, decoding: _Decoding, method: Method) -> Kept:
    told = time.monotonic()

    def progress(done: int) -> None:
        nonlocal told
        if time.monotonic() - told > TELL_S:
            told = time.monotonic()
            _log.info("calibrating: %s of %s images", f"{done:,}", f"{decoding.aim:,}")

    _log.info("calibrating on %s images of %s", f"{decoding.aim:,}", decoding.images.directory)
    calibration = calibrate(
        model.graph,
        decoding.batches(),
        method=method,
        threads=available_cores(),
        progress=progress,
    )
    if decoding.errors:
        _log.warning("calibration passed over damaged images: %s", decoding.complaint())
    return calibration, decoding.walked


@dataclass(slots=True)
class _Decoding:
    """Decodes candidates in their order until enough are good; counts the others."""

    images: Images
    fill: DecodeInto
    workers: int
    walked: int = 0
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def aim(self) -> int:
        return self.images.aim

    def batches(self) -> Iterator[NDArray[np.uint8]]:
        """Yield good images, uint8 [n, height, width, 3].

        Raises:
            SettingsError: There are fewer than 32 of them.
        """
        candidates = self.images.sample.front
        good = 0
        with ThreadPoolExecutor(self.workers, "calibrate") as decoders:
            while good < self.aim and self.walked < len(candidates):
                batch = candidates[self.walked :][: min(DECODED_AT_ONCE, self.aim - good)]
                decoded = self._decode(batch, decoders)
                self.walked += len(batch)
                good += len(decoded)
                if len(decoded):
                    yield decoded
        if good < MIN_IMAGES:
            raise SettingsError(self._too_few(good))

    def complaint(self) -> str:
        """Errors by kind, as '3 truncated, 1 empty'."""
        return ", ".join(f"{count:,} {kind}" for kind, count in self.errors.most_common())

    def _decode(
        self, batch: Sequence[Candidate], decoders: ThreadPoolExecutor
    ) -> NDArray[np.uint8]:
        transform = self.fill.transform
        images = np.empty((len(batch), transform.height, transform.width, 3), np.uint8)
        outcomes = list(
            decoders.map(
                lambda row: self.fill([Stored(batch[row].path)], images[row : row + 1])[0],
                range(len(batch)),
            )
        )
        self.errors.update(str(o.kind) for o in outcomes if isinstance(o, ImageError))
        return images[[isinstance(outcome, Decoded) for outcome in outcomes]]

    def _too_few(self, good: int) -> str:
        damaged = f" ({self.complaint()})" if self.errors else ""
        return (
            f"--calibration-images {self.images.directory}: int8 needs at least {MIN_IMAGES} "
            f"images that can be decoded, and {good} of the {self.images.sample.available} there "
            f"can{damaged}. Give some hundred of the kind that will be classified, or use another "
            "--precision."
        )


def _key(model: Model, images: Images, fill: DecodeInto, method: Method) -> str:
    ingredients = {
        "recipe": CALIBRATION_RECIPE,
        "graph": hashlib.sha256(model.graph).hexdigest(),
        "preprocess": model.spec.digest(),
        "max_pixels": fill.limits.max_pixels,
        "method": method,
        "aim": images.aim,
        "images": [
            [candidate.name.hex(), candidate.size, candidate.mtime_ns]
            for candidate in images.sample.front
        ],
    }
    return hashlib.sha256(canonical_json(ingredients)).hexdigest()


def _read(file: Path, model: Model) -> Kept | None:
    """What the cache holds; None where that is nothing, or nothing that can be used."""
    try:
        content = json.loads(file.read_bytes())
        if content["format"] != FORMAT:
            return None
        calibration = Calibration.from_json(content["calibration"].encode())
        walked = int(content["walked"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    if calibration.graph_digest != hashlib.sha256(model.graph).hexdigest():
        return None
    return calibration, walked


def _write(file: Path, kept: Kept) -> None:
    calibration, walked = kept
    content = {
        "format": FORMAT,
        "walked": walked,
        "calibration": calibration.to_json().decode(),
    }
    staged = file.with_suffix(f".{os.getpid()}")
    try:
        staged.write_text(json.dumps(content))
        staged.replace(file)
    except OSError as error:
        staged.unlink(missing_ok=True)
        _log.warning("the calibration cannot be kept, and is made again next time: %s", error)
