from __future__ import annotations

import errno

import pytest

from flows import retry
from flows.retry import delays, retried
from tasks.transient import may_pass


class Said(Exception):
    def __init__(self, transient: bool, exit_code: int = 1) -> None:
        super().__init__("said")
        self.transient = transient
        self.exit_code = exit_code


def caused_by(error: BaseException) -> Exception:
    wrapped = RuntimeError("the shard failed")
    wrapped.__cause__ = error
    return wrapped


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.EIO, "i/o"), True),
        (OSError(errno.ESTALE, "stale"), True),
        (ConnectionResetError(errno.ECONNRESET, "reset"), True),
        (TimeoutError(errno.ETIMEDOUT, "late"), True),
        (OSError(errno.ENOSPC, "full"), False),
        (FileNotFoundError(errno.ENOENT, "gone"), False),
        (PermissionError(errno.EACCES, "no"), False),
        (OSError("no number"), False),
        (ValueError("wrong"), False),
        (None, False),
        (caused_by(OSError(errno.EIO, "i/o")), True),
        (caused_by(ValueError("wrong")), False),
        (Said(transient=True), True),
        (Said(transient=False), False),
        (Said(transient=True, exit_code=2), False),
        (caused_by(Said(transient=True, exit_code=4)), False),
    ],
)
def test_only_what_may_pass_is_tried_again(error, expected):
    assert may_pass(error) is expected


def test_delays_double_up_to_a_minute():
    assert delays(8) == [1, 2, 4, 8, 16, 32, 60, 60]


def test_a_step_is_called_until_it_succeeds(monkeypatch):
    slept: list[float] = []
    monkeypatch.setattr(retry.time, "sleep", slept.append)
    outcomes = [OSError(errno.EIO, "i/o"), OSError(errno.EIO, "i/o"), "done"]

    def step(word: str) -> str:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome + word

    assert retried(2, step, "!") == "done!"
    assert slept == [1, 2]


def test_the_last_error_is_raised_as_it_is(monkeypatch):
    monkeypatch.setattr(retry.time, "sleep", lambda _seconds: None)
    calls = []

    def step() -> None:
        calls.append(1)
        raise OSError(errno.EIO, "i/o")

    with pytest.raises(OSError, match="i/o"):
        retried(3, step)
    assert len(calls) == 4
