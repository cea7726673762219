"""A model looked at closely: what its files say, how it behaves, and whether it is fed rightly."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from engines.check import Check
from engines.labels import is_placeholder
from engines.model import Model, load_model
from engines.ort_session import available_cores
from engines.preprocess import HostTransform
from engines.self_test import self_test
from engines.suitability import USUAL_IMAGES, check_suitability
from shards.decode import Limits, decode_file
from shards.errors import ImageError
from tasks.backends import backend_of
from tasks.doctor_settings import DoctorSettings
from tasks.errors import SettingsError
from tasks.explain import Explained, explained
from tasks.prepare import model_request
from tasks.sample import Candidate, draw, in_directory, targets
from tasks.settings import Settings

__all__ = ["Examined", "examine"]

_log = logging.getLogger(__name__)

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """What was found.

    Attributes:
        model_id: As tables name it.
        settings: What was decided on preprocessing, labels and scores.
        backend: What tested it.
        precision: What it computed in.
        device: Where.
        checks: Of its behaviour, and of its preprocessing where there were images.
    """

    model_id: str
    settings: tuple[Explained, ...]
    backend: str
    precision: str
    device: str
    checks: tuple[Check, ...]


def examine(settings: DoctorSettings) -> Examined:
    """Load a model as classify_dir would, test it, and look at the user's images if any are given.

    Raises:
        ModelError: It cannot be loaded.
        SettingsError: The settings do not fit together.
        SourceError, NoImagesError: The images cannot be listed, or there are none.
        EngineError: It cannot be opened or run.
    """
    model = load_model(model_request(settings))
    images, targets_ = _images(settings, model)
    backend = backend_of(settings, model, _no_calibration, None)
    precision = backend.usual if settings.precision == "auto" else settings.precision
    with backend.open(precision, logits=True).classifier as classifier:
        info = classifier.info
        checks = (_label_check(model), *self_test(classifier, model, images))
    if settings.images is not None:
        _log.info("Running %d images on the CPU, normalised in several ways", len(images))
        checks = (*checks, *check_suitability(model, images, targets_))
    return Examined(
        model_id=model.model_id,
        settings=explained(model),
        backend=info.backend,
        precision=info.precision,
        device=info.device,
        checks=checks,
    )


def _label_check(model: Model) -> Check:
    """Whether the labels say more than the number of a class."""
    nameless = is_placeholder(model.labels)
    shown = ", ".join([*model.labels[:2], *(["..."] if model.classes > 2 else [])])
    return Check(
        name="labels",
        status="warning" if nameless else "passed",
        measured=f"{'no names but' if nameless else 'named'} {shown}",
        expected="a name for each class",
        advice="Name them with --labels FILE, or put labels.txt beside the model"
        if nameless
        else "",
    )


def _images(settings: DoctorSettings, model: Model) -> tuple[Pixels, Sequence[int | None]]:
    """Images of the user's as the model gets them, and the labels that their folders name."""
    host = model.spec.host
    if settings.images is None:
        return np.zeros((0, host.height, host.width, 3), np.uint8), ()
    usual = Settings.model_fields
    extensions = usual["extensions"].default
    listed = in_directory(os.fsencode(settings.images), extensions=extensions)
    candidates = draw(listed, front=USUAL_IMAGES, back=0).front
    pixels, good = _decode(candidates, host, Limits(max_pixels=usual["max_pixels"].default))
    ids = {label: index for index, label in enumerate(model.labels)}
    return pixels[:USUAL_IMAGES], targets(good[:USUAL_IMAGES], ids)


def _decode(
    candidates: Sequence[Candidate], host: HostTransform, limits: Limits
) -> tuple[Pixels, list[Candidate]]:
    """Those that can be decoded."""
    pixels = np.empty((len(candidates), host.height, host.width, 3), np.uint8)

    def decode(row: int) -> bool:
        try:
            decode_file(candidates[row].path, pixels[row], host, limits)
        except ImageError:
            return False
        return True

    with ThreadPoolExecutor(available_cores(), "decode") as decoders:
        good = list(decoders.map(decode, range(len(candidates))))
    if not all(good):
        _log.warning("%d of %d images cannot be decoded", good.count(False), len(good))
    return pixels[good], [c for c, kept in zip(candidates, good, strict=True) if kept]


def _no_calibration() -> NoReturn:
    raise SettingsError(
        "--precision int8: the doctor calibrates nothing. `python -m flows.build_engine` with "
        "--calibration-images does, and compares the result with fp32; test the model here in "
        "another --precision."
    )
