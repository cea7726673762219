"""What a person sees on stderr: short log lines, and progress as a bar or as lines."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from flows.report import abandon

if TYPE_CHECKING:
    from tasks.progress import Progress

__all__ = ["LOGGERS", "Terminal", "log_to_stderr", "progress_bar", "progress_lines"]

LOGGERS = ("flows", "tasks", "engines", "shards")
"""Our loggers; libraries keep to themselves what a person cannot act on."""

LINE_INTERVAL_S = 10.0
"""Often enough to see that a nightly run is alive, rare enough to read its log."""

STYLES = {logging.WARNING: ("warning: ", "yellow"), logging.ERROR: ("error: ", "bold red")}

logger = logging.getLogger(__name__)


class Terminal(Console):
    """A console whose reader may go away: Rich would end the program, in the middle of a run."""

    def on_broken_pipe(self) -> None:
        """Write no more."""
        self.quiet = True
        abandon(self.file)


class ConsoleHandler(logging.Handler):
    """Writes records above the progress bar, as one line each."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; what cannot be written is dropped."""
        label, style = STYLES.get(record.levelno, ("", ""))
        line = Text()
        line.append(time.strftime("%H:%M:%S ", time.localtime(record.created)), style="dim")
        line.append(label, style=style).append(record.getMessage())
        with contextlib.suppress(OSError):
            self._console.print(line, soft_wrap=True)


@contextlib.contextmanager
def log_to_stderr(level: str) -> Iterator[Console]:
    """Send our loggers, and only them, to stderr.

    Args:
        level: 'debug', 'info', 'warning' or 'error'.

    Yields:
        The console, for a progress bar that log lines do not tear.
    """
    console = Terminal(file=sys.stderr, highlight=False)
    handler = ConsoleHandler(console)
    ours = [logging.getLogger(name) for name in LOGGERS]
    for log in ours:
        log.addHandler(handler)
        log.setLevel(level.upper())
        log.propagate = False
    try:
        yield console
    finally:
        for log in ours:
            log.removeHandler(handler)
            log.setLevel(logging.NOTSET)
            log.propagate = True


@contextlib.contextmanager
def progress_bar(console: Console) -> Iterator[Callable[[Progress], None]]:
    """Show a bar while the caller reports; it is gone afterwards."""
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn
    from rich.progress import Progress as Bar

    columns: list[str | ProgressColumn] = [
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("images  {task.fields[rate]}"),
    ]
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None, rate="", visible=False)

        def show(progress: Progress) -> None:
            bar.update(
                task,
                completed=progress.done,
                total=progress.total,
                visible=True,
                rate=_rate(progress),
            )

        yield show


def progress_lines() -> Callable[[Progress], None]:
    """Log a line every ten seconds while the caller reports."""
    due = float("inf")

    def show(progress: Progress) -> None:
        nonlocal due
        due = min(due, time.monotonic() + LINE_INTERVAL_S)
        if time.monotonic() >= due:
            due = time.monotonic() + LINE_INTERVAL_S
            logger.info(
                "%s of %s images  %s", f"{progress.done:,}", f"{progress.total:,}", _rate(progress)
            )

    return show


def _rate(progress: Progress) -> str:
    """Speed, time left and errors, as far as they are known."""
    parts = [f"{progress.images_per_second:,.0f} images/s"]
    if progress.images_per_second > 0:
        left = round((progress.total - progress.done) / progress.images_per_second)
        parts.append(f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02} left")
    if progress.errors:
        parts.append(f"{progress.errors:,} without a label")
    return "  ".join(parts)
