"""The page beside an engine: made when the engine is built and when it is inspected."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path

from engines.errors import PlanError
from engines.measure import Throughput
from engines.report.assembled import EngineReport, read_report
from engines.report.measured import throughput_json
from engines.store import EngineStore
from engines.store_entry import REPORT_FILE, THROUGHPUT_FILE, read_entry, write_beside
from tasks.engine_choice import comparable
from tasks.engine_comparison import ComparedEngine, compare, remarks
from tasks.engine_page import render_page

__all__ = ["ShownEngine", "keep_findings", "write_report"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownEngine:
    """An engine and its page.

    Attributes:
        report: The engine.
        compared: It and the engines of other precisions, fp32 first.
        remarks: What should not be overlooked.
        page: HTML.
        kept: Where the page lies; None where it could not be written.
    """

    report: EngineReport
    compared: tuple[ComparedEngine, ...]
    remarks: tuple[str, ...]
    page: str
    kept: Path | None


def keep_findings(store: EngineStore, key: str, throughput: Throughput | None) -> Path | None:
    """Put an engine's throughput and its page beside it; what fails costs a warning only.

    Returns:
        Where the page lies; None where it could not be made or written.
    """
    try:
        if throughput is not None:
            content = json.dumps(throughput_json(throughput), indent=1).encode() + b"\n"
            write_beside(store.folder(key), THROUGHPUT_FILE, content)
        return write_report(store, key).kept
    except (OSError, PlanError) as error:
        _log.warning("There is no report on the engine: %s", error)
        return None


def write_report(store: EngineStore, key: str) -> ShownEngine:
    """Read an engine and those to compare it with, and put its page beside it.

    Raises:
        FileNotFoundError: There is no such engine.
        PlanError: Its manifest is damaged.
    """
    folder = store.folder(key)
    entries = comparable(store, read_entry(folder))
    reports = [read_report(store.folder(entry.manifest.key())) for entry in entries]
    report = next(report for report in reports if report.key == key)
    compared = compare(reports)
    said = tuple(remarks(compared))
    page = render_page(report, compared, said)
    return ShownEngine(
        report=report, compared=compared, remarks=said, page=page, kept=_keep(folder, page)
    )


def _keep(folder: Path, page: str) -> Path | None:
    """Put the page beside the engine, where that is possible: it can be made again at any time."""
    try:
        write_beside(folder, REPORT_FILE, page.encode())
    except (OSError, PlanError) as error:
        _log.warning("The page is not kept beside the engine: %s", error)
        return None
    return folder / REPORT_FILE
