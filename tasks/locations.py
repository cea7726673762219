"""Which parameters name files, and which files a request may name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from tasks.allowed_roots import AllowedRoots
from tasks.errors import SettingsError
from tasks.inspect_settings import InspectSettings
from tasks.parameters import Parameters

__all__ = ["LOCATIONS", "check_locations", "check_place", "locations"]

LOCATIONS: dict[str, frozenset[str]] = {
    "images": frozenset({"file", "s3", "gs"}),
    "root": frozenset({"file", "s3", "gs"}),
    "output": frozenset({"s3", "gs"}),
    **dict.fromkeys(
        (
            *("model", "preprocess", "labels", "calibration_images", "gate_from", "engine_cache"),
            *("config", "html", "source", "checkpoint", "target"),
        ),
        frozenset(),
    ),
}
"""Parameters of all commands that name files or directories, and schemes that they may have."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_USER = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^/]*@")
"""What stands before it may be a secret."""

_ONE_SLASH = re.compile(r"(s3|gs):/(?!/)", re.IGNORECASE)
"""A slip that would make a directory of that name."""

_MEANT = {"s3a": "s3", "s3n": "s3", "gcs": "gs"}
"""What other tools call a scheme, and what it is called here."""


def check_locations(settings: Parameters, allowed: AllowedRoots | None) -> None:
    """See that a request names only what it may.

    Args:
        settings: What was asked for.
        allowed: Where files may lie; None for anywhere.

    Raises:
        SettingsError: It names a web address, a chain of file systems, or a place elsewhere.
    """
    for name, text in locations(settings):
        check_place(name, text, allowed)


def check_place(name: str, text: str, allowed: AllowedRoots | None) -> None:
    """See that a parameter names what it may; raises as `check_locations` does."""
    shown = _USER.sub(r"\1***@", text)
    called = f"{name} (--{name.replace('_', '-')}): {shown!r} given"
    scheme = _SCHEME.match(text)
    known = sorted(f"{scheme}://" for scheme in LOCATIONS[name])
    wanted = " or ".join(["expected a local path", *known])
    if "::" in text and "://" in text:
        raise SettingsError(f"{called}, {wanted}: file systems are not chained")
    if _ONE_SLASH.match(text):
        raise SettingsError(f"{called}, {wanted}: a URI has two slashes after its colon")
    if scheme and (meant := _MEANT.get(scheme[1].lower())) in LOCATIONS[name]:
        raise SettingsError(f"{called}, {wanted}: write it with {meant}://")
    if scheme and scheme[1].lower() not in LOCATIONS[name]:
        raise SettingsError(
            f"{called}, {wanted}: whoever names an address would choose what this machine asks for"
        )
    if _USER.match(text):
        raise SettingsError(
            f"{called}, {wanted}, without a user or password: parameters are recorded. Who we are "
            "at a store is for the environment to say: AWS_ACCESS_KEY_ID, AWS_PROFILE and so on."
        )
    if allowed is not None and not allowed.cover(text):
        raise SettingsError(
            f"{called}, which does not lie in an allowed root once links are followed. Allowed "
            f"here: {allowed} (NIGHTSHIFT_ALLOWED_ROOTS)."
        )


def locations(settings: Parameters) -> Iterator[tuple[str, str]]:
    """Yield name and value of each parameter that names a file."""
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if name in LOCATIONS and value is not None:
            for text in [value] if isinstance(value, str) else value:
                if (place := _place(settings, name, text)) is not None:
                    yield name, place


def _place(settings: Parameters, name: str, text: str) -> str | None:
    """The file that a value names; None where it is a name of something else."""
    if name == "images":
        return None if text == "-" else text
    if name == "preprocess":
        # Takes a tenth of a second to import.
        from engines.preprocess.presets import is_preset

        return None if text == "auto" or is_preset(text) else text
    if name == "labels":
        from engines.labels.imagenet import IMAGENET_1K

        return None if text == IMAGENET_1K else text
    if name == "source":
        library, _, model = text.partition(":")
        return model if library == "hf" and os.path.lexists(model) else None
    if name == "model" and isinstance(settings, InspectSettings):
        return text if "/" in text or os.path.lexists(text) else None  # else an engine's name
    return text
