"""Which engines of the store are meant, and which of them are to be compared."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from engines.locate import locate
from engines.store import EngineStore
from engines.store_entry import Entry
from tasks.errors import SettingsError

__all__ = ["choose", "comparable"]

WIDEST_FIRST = ("fp32", "bf16", "fp16", "int8")

LISTED = 8
"""Engines that an error names: enough to see what is there."""


def choose(store: EngineStore, model: str, precision: str) -> Entry:
    """The newest engine of a model, or the one of a key.

    Args:
        store: Where to look.
        model: File or folder of a model, its name or model_id, or the beginning of a key.
        precision: 'fp16' and so on, or 'auto' for any.

    Raises:
        SettingsError: There is none, or several keys begin like that.
        ModelError: A folder was given that holds no model, or several.
    """
    entries = store.entries()
    by_key = _by_key(entries, model)
    if len(by_key) > 1:
        keys = ", ".join(entry.manifest.key()[:12] for entry in by_key[:LISTED])
        raise SettingsError(f"{len(by_key)} engines have keys that begin with {model}: {keys}")
    found = by_key or _by_model(entries, model)
    wanted = [entry for entry in found if precision in ("auto", entry.manifest.computes_in)]
    if not wanted:
        which = f"engine of {model}" if precision == "auto" else f"{precision} engine of {model}"
        raise SettingsError(
            f"the store holds no {which}; it has {_listed(found or entries)}. Build one with "
            "python -m flows.build_engine, with the same --engine-cache."
        )
    return wanted[0]


def comparable(store: EngineStore, chosen: Entry) -> list[Entry]:
    """The chosen engine and the newest of each other precision, fp32 first.

    Only of the same model, GPU and TensorRT; of the same batch and image sizes where there are
    such, since throughput depends on them.
    """
    mine = chosen.manifest
    others = [
        entry
        for entry in store.entries()
        if entry.manifest.model_id == mine.model_id
        and entry.manifest.gpu_name == mine.gpu_name
        and entry.manifest.tensorrt_version == mine.tensorrt_version
    ]
    others.sort(key=lambda entry: _sizes(entry) != _sizes(chosen))  # stable: newest first
    by_precision = {mine.computes_in: chosen}
    for entry in others:
        by_precision.setdefault(entry.manifest.computes_in, entry)
    return [by_precision[name] for name in WIDEST_FIRST if name in by_precision]


def _by_key(entries: Iterable[Entry], text: str) -> list[Entry]:
    if not re.fullmatch(r"[0-9a-f]{6,64}", text):
        return []
    return [entry for entry in entries if entry.manifest.key().startswith(text)]


def _by_model(entries: Sequence[Entry], text: str) -> list[Entry]:
    name = locate(Path(text)).name if Path(text).exists() else text
    return [entry for entry in entries if name in (entry.manifest.model, entry.manifest.model_id)]


def _sizes(entry: Entry) -> tuple[str, str, str]:
    manifest = entry.manifest
    return manifest.batch, manifest.height, manifest.width


def _listed(entries: Sequence[Entry]) -> str:
    if not entries:
        return "no engine at all"
    named = [
        f"{entry.manifest.model} {entry.manifest.computes_in} ({entry.manifest.key()[:12]})"
        for entry in entries[:LISTED]
    ]
    more = f" and {len(entries) - LISTED} more" if len(entries) > LISTED else ""
    return ", ".join(named) + more
