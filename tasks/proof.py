"""The images that a precision is decided on; drawn, listed and decoded once they are needed."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cached_property
from pathlib import Path

from engines.errors import ModelError
from engines.model import Model
from engines.quantize.histogram import Method
from shards.plan import PlanLog
from shards.shard_ref import ShardRef
from tasks.calibration import Calibrated, Images, calibrated
from tasks.decode_into import DecodeInto
from tasks.engine import cache_folder
from tasks.gate import Gate, GateImages
from tasks.job import Job
from tasks.sample import Candidate, Sample, draw, in_directory, in_shards
from tasks.settings import BuildSettings, Settings
from tasks.version import tool_version

__all__ = ["Proof", "proof_for_build", "proof_for_run"]

CALIBRATION_IMAGES = 512
"""Most images to calibrate on: more do not move the ranges of networks that were tried, and each
costs as much as some inferences."""


class Proof:
    """Calibration and gate of one model, on images of the user."""

    def __init__(
        self,
        model: Model,
        fill: DecodeInto,
        *,
        cache: Path,
        extensions: Collection[str],
        precision: str,
        calibration_images: str | None,
        method: Method,
        gate_images: int,
        gate_from: Callable[[], Iterable[Candidate]] | None,
        gate_available: int | None = None,
    ) -> None:
        """Look at nothing yet.

        Args:
            model: The fp32 model.
            fill: Decodes an image as the model wants it.
            cache: Where calibrations are kept.
            extensions: Suffixes of images.
            precision: What was asked for: only for auto and int8 is anything calibrated.
            calibration_images: Directory to calibrate on; None where nothing is.
            method: How ranges are chosen.
            gate_images: Images that the gate is to compare; 0 switches it off.
            gate_from: Lists the images that the gate may take; None takes what calibration left.
            gate_available: How many those are, where that is known without listing them.
        """
        self.calibrates = calibration_images is not None and precision in ("auto", "int8")
        self.wanted = gate_images
        self._model = model
        self._fill = fill
        self._cache = cache
        self._extensions = extensions
        self._directory = calibration_images
        self._method: Method = method
        self._gate_from = gate_from
        self._gate_available = gate_available

    @property
    def available(self) -> int:
        """Images that the gate could take, if it had to."""
        if self._gate_available is not None:
            return self._gate_available
        return 0 if self._gate_sample is None else self._gate_sample.available

    @cached_property
    def calibrated(self) -> Calibrated:
        """The ranges for int8.

        Raises:
            SettingsError: The directory holds fewer than 32 good images.
            SourceError, NoImagesError: It cannot be read, or holds none.
            EngineError: As `tasks.calibration.calibrated`.
        """
        assert self._directory is not None  # refused before: see tasks.prepare
        sample = draw(self._calibration_candidates(), front=CALIBRATION_IMAGES, back=0)
        return calibrated(
            self._model,
            Images(directory=self._directory, sample=sample, wanted=CALIBRATION_IMAGES),
            self._fill,
            method=self._method,
            cache=self._cache,
            workers=self._fill.workers,
        )

    @cached_property
    def gate(self) -> Gate | None:
        """The gate; None where there is no image for it."""
        sample = self._gate_sample
        if sample is None or not sample.back:
            return None
        images = GateImages(
            candidates=sample.back,
            wanted=self.wanted,
            available=self.available,
            calibrated=self._calibrated_on,
        )
        return Gate(self._model, images, self._fill, workers=self._fill.workers)

    @property
    def _calibrated_on(self) -> frozenset[bytes]:
        """Images that the gate passes over; none where the model has nothing to calibrate.

        That is said when int8 is tried, and is no reason against fp16.
        """
        try:
            return self.calibrated.used if self.calibrates else frozenset()
        except ModelError:
            return frozenset()

    @cached_property
    def _gate_sample(self) -> Sample | None:
        candidates = self._gate_from
        if candidates is None and self._directory is not None:
            candidates = self._calibration_candidates
        return None if candidates is None else draw(candidates(), front=0, back=self.wanted)

    def _calibration_candidates(self) -> Iterable[Candidate]:
        assert self._directory is not None
        return in_directory(os.fsencode(self._directory), extensions=self._extensions)


def proof_for_run(job: Job, shards: Sequence[ShardRef], fill: DecodeInto) -> Proof:
    """For classify_dir: the gate takes images that the run is to classify."""
    settings = job.settings
    return Proof(
        job.model,
        fill,
        cache=cache_folder(settings),
        extensions=settings.extensions,
        precision=settings.precision,
        calibration_images=settings.calibration_images,
        method=settings.calibration_method,
        gate_images=settings.gate_images,
        gate_from=lambda: in_shards(
            PlanLog(job.tree, tool_version=tool_version()), shards, settings.image_column
        ),
        gate_available=sum(shard.rows for shard in shards),
    )


def proof_for_build(settings: BuildSettings, model: Model, fill: DecodeInto) -> Proof:
    """For build_engine: the gate takes images from --gate-from, or what calibration left."""
    extensions = Settings.model_fields["extensions"].default
    directory = settings.gate_from
    return Proof(
        model,
        fill,
        cache=cache_folder(settings),
        extensions=extensions,
        precision=settings.precision,
        calibration_images=settings.calibration_images,
        method=settings.calibration_method,
        gate_images=settings.gate_images,
        gate_from=None
        if directory is None
        else lambda: in_directory(os.fsencode(directory), extensions=extensions),
    )
