from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

import tasks.engine
from engines.build_report import BuildEvent
from tasks.classify import PATIENCE_START_S
from tasks.engine import SAME_PHASE_S, BuildLog, engine_settings, engine_store
from tasks.errors import SettingsError
from tasks.settings import BuildSettings
from tests.models.tiny import Tiny, loaded

MODEL = loaded(Tiny(size=(4, 6)))


def wanted(batch_limit=None, **changes):
    return engine_settings(BuildSettings(model="model", **changes), MODEL, batch_limit)


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass by hand."""
    now = SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr(tasks.engine.time, "monotonic", lambda: now.seconds)
    return now


def going_on(text: str, seconds: float, step: int = 0) -> BuildEvent:
    return BuildEvent(text=text, seconds=seconds, step=step, steps=1200 if step else 0)


def test_what_is_said_once_is_always_logged(clock, caplog):
    log = BuildLog()
    with caplog.at_level(logging.INFO):
        for text in ("built again", "because", "because"):
            log(BuildEvent(text=text))
    assert caplog.messages == ["built again", "because", "because"]


def test_a_build_of_an_hour_is_some_lines_with_the_first_at_once(clock, caplog):
    log = BuildLog()
    with caplog.at_level(logging.INFO):
        log(going_on("Starting", 0))
        for tick in range(5 * 3600):
            clock.seconds += 0.2
            log(going_on("Timing kernels", tick / 5, step=1 + tick // 15))
    assert caplog.messages[0] == "Starting, 0 s"
    assert caplog.messages[1] == "Timing kernels (1 of 1,200), 1 s"
    assert 110 < len(caplog.messages) < 125


def test_a_hundred_phases_in_a_second_are_a_line_or_two(clock, caplog):
    log = BuildLog()
    with caplog.at_level(logging.INFO):
        for number in range(100):
            clock.seconds += 0.01
            log(going_on(f"phase {number}", number / 100))
    assert 1 <= len(caplog.messages) <= 2


def test_a_build_is_heard_of_long_before_the_supervisor_loses_patience():
    assert 10 * SAME_PHASE_S < PATIENCE_START_S


def test_auto_is_fp16_and_one_number_serves_all_smaller_batches():
    builder = wanted(batch_size=8).builder
    assert builder.precision == "fp16"
    assert str(builder.profile.batch) == "1:8:8"
    assert (str(builder.profile.height), str(builder.profile.width)) == ("4", "6")


@pytest.mark.parametrize(
    ("batch_size", "limit", "expected"),
    [("8", 4, "1:4:4"), ("4:8:16", 12, "4:8:12"), ("4:8:16", 2, "2"), ("8", 100, "1:8:8")],
)
def test_where_memory_ran_out_the_engine_is_one_for_smaller_batches(batch_size, limit, expected):
    assert str(wanted(limit, batch_size=batch_size).builder.profile.batch) == expected


def test_how_long_and_where_is_passed_on():
    asked = wanted(build_timeout=7, timing_cache=False, device=3)
    assert (asked.deadline_s, asked.timing_cache, asked.device) == (7, False, 3)


def test_resolutions_must_hold_the_one_that_the_preprocessing_makes():
    with pytest.raises(SettingsError, match="--image-size 5:6:7 leaves out 4x6"):
        wanted(image_size="5:6:7")


def test_engines_lie_where_the_settings_say_or_in_the_cache_of_the_user(tmp_path, monkeypatch):
    engine_store(BuildSettings(model="m", engine_cache=str(tmp_path / "mine")))
    assert (tmp_path / "mine" / "engines").is_dir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    engine_store(BuildSettings(model="m"))
    assert (tmp_path / "cache" / "nightshift" / "engines").is_dir()
