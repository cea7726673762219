from __future__ import annotations

import io
import logging

import pytest
from rich.console import Console

from flows import console
from flows.console import log_to_stderr, progress_bar, progress_lines
from tasks.progress import Progress


def moment(done: int, errors: int = 0) -> Progress:
    return Progress(done=done, total=90_000, errors=errors, images_per_second=20.0)


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    return now


def test_lines_come_every_ten_seconds(clock, caplog):
    caplog.set_level(logging.INFO)
    show = progress_lines()

    for done in range(0, 31_000, 1_000):
        show(moment(done))
        clock[0] += 1

    assert caplog.messages == [
        "10,000 of 90,000 images  20 images/s  1:06:40 left",
        "20,000 of 90,000 images  20 images/s  0:58:20 left",
        "30,000 of 90,000 images  20 images/s  0:50:00 left",
    ]


def test_lines_tell_errors_and_no_time_that_nobody_knows(clock, caplog):
    caplog.set_level(logging.INFO)
    show = progress_lines()
    show(moment(0))
    clock[0] += 11

    show(Progress(done=1_000, total=90_000, errors=1_000, images_per_second=0.0))

    assert caplog.messages == ["1,000 of 90,000 images  0 images/s  1,000 without a label"]


def test_our_loggers_go_to_stderr_and_are_as_before_afterwards(capsys):
    ours = logging.getLogger("tasks")
    before = ours.level, ours.propagate, list(ours.handlers)

    with log_to_stderr("info"):
        logging.getLogger("tasks.plan").info("planned %d [images]", 3)
        logging.getLogger("tasks.plan").debug("in detail")
        logging.getLogger("shards").warning("odd")
        logging.getLogger("a.library").error("something")

    lines = [line[9:] for line in capsys.readouterr().err.splitlines()]
    assert lines == ["planned 3 [images]", "warning: odd"]
    assert (ours.level, ours.propagate, list(ours.handlers)) == before


def test_a_bar_shows_how_far_and_how_fast_and_goes_away():
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=100)

    with progress_bar(terminal) as show:
        show(moment(45_000, errors=2))
        terminal.print("a log line")

    drawn = screen.getvalue()
    assert "45000/90000" in drawn
    assert "20 images/s  0:37:30 left  2 without a label" in drawn
    assert "a log line" in drawn
    assert drawn.endswith(("\x1b[?25h", "\x1b[2K"))
