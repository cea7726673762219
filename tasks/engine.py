"""The engine that settings ask for: what it is, where it is kept, and what is said while it waits.

Every command comes through here, so that one finds in the store what another has built.
"""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path
from typing import Protocol

from platformdirs import user_cache_path

from engines.build_report import BuildEvent
from engines.model import Model
from engines.profile import Profile, ShapeRange, parse_batch_size, parse_image_size
from engines.settings import BuilderSettings, EngineSettings
from engines.store import EngineStore
from tasks.errors import SettingsError
from tasks.model_settings import ModelSettings

__all__ = ["BuildLog", "cache_folder", "engine_settings", "engine_store", "memory_limit_bytes"]

SAME_PHASE_S = 30.0
"""A line at least this often: often enough for a person and for the supervisor of a process."""

NEXT_PHASE_S = 1.0
"""And no oftener than this: a build has hundreds of phases, most of them short."""

_log = logging.getLogger(__name__)


def engine_settings(
    settings: ModelSettings,
    model: Model,
    batch_limit: int | None = None,
    *,
    precision: str | None = None,
) -> EngineSettings:
    """What engine these settings ask for.

    Args:
        settings: All of its ingredients but the model.
        model: What it is built from.
        batch_limit: Largest batch, where a larger one ran out of memory before.
        precision: Of the candidate; None takes --precision, and fp16 for auto.

    Raises:
        SettingsError: The resolutions do not hold the one that the preprocessing makes.
    """
    if precision is None:
        precision = "fp16" if settings.precision == "auto" else settings.precision
    return EngineSettings(
        builder=BuilderSettings(
            precision=precision,
            profile=_profile(settings, model, batch_limit),
            workspace_bytes=settings.workspace_bytes,
            optimization_level=settings.builder_optimization_level,
            tf32=settings.tf32,
            max_aux_streams=settings.max_aux_streams,
            version_compatible=settings.version_compatible,
            hardware_compatibility=settings.hardware_compatibility,
        ),
        device=settings.device,
        deadline_s=settings.build_timeout,
        timing_cache=settings.timing_cache,
    )


class HasEngineCache(Protocol):
    """Settings of any command that looks into the engine store."""

    @property
    def engine_cache(self) -> str | None:
        """Folder of the cache; None for the user's."""


def engine_store(settings: HasEngineCache) -> EngineStore:
    """The store below --engine-cache, or below the user's cache directory."""
    return EngineStore(cache_folder(settings))


def cache_folder(settings: HasEngineCache) -> Path:
    """--engine-cache, or the user's cache directory."""
    cache = settings.engine_cache
    return user_cache_path("nightshift") if cache is None else Path(cache)


def memory_limit_bytes(settings: ModelSettings) -> int | None:
    """`device_memory` in bytes."""
    gib = settings.device_memory
    return None if gib is None else math.floor(gib * 2**30)


class BuildLog:
    """Logs what a person wants to hear of a build: its phases, and that it goes on."""

    def __init__(self) -> None:
        self._text = ""
        self._logged_at = -math.inf

    def __call__(self, event: BuildEvent) -> None:
        """Log an event that is said once; of the others, a new phase now and then."""
        now = time.monotonic()
        pause = SAME_PHASE_S if event.text == self._text else NEXT_PHASE_S
        if event.seconds is not None and now - self._logged_at < pause:
            return
        self._text, self._logged_at = event.text, now
        steps = f" ({event.step:,} of {event.steps:,})" if event.steps else ""
        elapsed = f", {event.seconds:.0f} s" if event.seconds is not None else ""
        _log.info("%s%s%s", event.text, steps, elapsed)


def _profile(settings: ModelSettings, model: Model, batch_limit: int | None) -> Profile:
    """Batches and resolutions that the engine serves."""
    height, width = (ShapeRange.fixed(side) for side in (model.input_height, model.input_width))
    if settings.image_size is not None:
        height, width = parse_image_size(str(settings.image_size))
        if model.input_height not in height or model.input_width not in width:
            raise SettingsError(
                f"--image-size {settings.image_size} leaves out {model.input_height}x"
                f"{model.input_width}, which the preprocessing makes: widen it, or choose "
                "--input-size inside it."
            )
    batch = parse_batch_size(str(settings.batch_size))
    if batch_limit is not None:
        batch = ShapeRange(*(min(size, batch_limit) for size in (batch.min, batch.opt, batch.max)))
    return Profile(batch=batch, height=height, width=width)
