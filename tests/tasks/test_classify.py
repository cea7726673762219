"""The supervisor against processes that follow a script."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

import tasks.classify
from shards.errors import DamagedFileError
from shards.local_tree import LocalTree
from shards.plan import ShardRef
from tasks.classify import classify
from tasks.decision import Decision
from tasks.device_process import StalledError
from tasks.errors import WorkFailedError
from tasks.job import Plan
from tasks.messages import Advanced, Failed, Notice, Published, Ready, SetAside, Started
from tasks.settings import Settings

READY = Ready(
    backend="onnxruntime",
    precision="fp32",
    device="a cpu",
    engine_key=None,
    engine_built=None,
    engine_seconds=None,
    decision=Decision(requested="auto", precision="fp32", gate="reference"),
    reached={"libraries": 1.0, "classifier": 2.0},
)
SETTINGS = Settings(images="images", model="model", output="out")


def shard(number: int) -> ShardRef:
    return ShardRef(1, number, 10, "digest")


def crash(reason: str = "was killed by signal 9"):
    return ("death", reason)


def does(number: int, errors: int = 0):
    ref = shard(number)
    return [Started(shard=ref.id), Published(shard=ref.id, rows=ref.rows, errors=errors)]


class Scripts:
    """Stands for DeviceProcess: the n-th process follows the n-th script."""

    def __init__(self, *scripts):
        self.scripts = list(scripts)
        self.orders = []
        self.backends = []

    def __call__(self, settings):
        self.backends.append(settings.backend)
        assert settings.model_copy(update={"backend": "auto"}) == SETTINGS
        return _Process(self.scripts.pop(0), self.orders)

    @property
    def ordered(self):
        return [[ref.ordinal for ref in order.shards] for order in self.orders]


class _Process:
    def __init__(self, script, orders):
        self.script = [READY, *script]
        self.orders = orders
        self.death = "ended with exit code 0"

    def send(self, order):
        self.orders.append(order)

    def next_message(self, timeout_s):
        step = self.script.pop(0) if self.script else None
        if isinstance(step, Exception):
            raise step
        if isinstance(step, tuple):
            self.death = step[1]
            return None
        return step

    def cause_of_death(self):
        return self.death

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        return None


class Files:
    """Stands for Upkeep: no shard has a file, or those of some are damaged."""

    def __init__(self, damaged=()):
        self.damaged = damaged

    def footers(self, shards):
        for shard in shards:
            yield (
                shard,
                DamagedFileError("a file is damaged") if shard.ordinal in self.damaged else None,
            )


def run(monkeypatch, scripts, count=3, report=lambda progress: None, unreadable=(), damaged=()):
    monkeypatch.setattr(tasks.classify, "DeviceProcess", scripts)
    job = SimpleNamespace(
        settings=SETTINGS,
        run_id="run",
        model=SimpleNamespace(model_id="m@0123456789ab"),
        tree=LocalTree(Path("/nowhere")),
        upkeep=lambda partly: Files(damaged),
    )
    todo = {shard(number): 10 for number in range(count)}
    plan = Plan(todo=todo, done={}, unreadable=dict(unreadable), ignored={}, changed=0, seconds=0.0)
    return classify(job, plan, report)


def test_one_process_does_all_shards(monkeypatch):
    scripts = Scripts([*does(0), *does(1), *does(2)])
    assert run(monkeypatch, scripts).ready == READY
    assert scripts.ordered == [[0, 1, 2]]


def test_no_process_is_started_for_nothing(monkeypatch):
    outcome = run(monkeypatch, Scripts(), count=0)
    assert outcome.ready is None


@pytest.mark.parametrize("end", [crash(), StalledError("no progress for 300 s")])
def test_open_shards_of_a_dead_process_are_done_again_one_by_one(monkeypatch, end, caplog):
    open_shards = [Started(shard=shard(1).id), Started(shard=shard(2).id)]
    scripts = Scripts([*does(0), *open_shards, end], does(1), does(2), does(3))
    with caplog.at_level(logging.WARNING):
        run(monkeypatch, scripts, count=4)
    assert scripts.ordered == [[0, 1, 2, 3], [1], [2], [3]]
    assert [order.decision for order in scripts.orders] == [None, *[READY.decision] * 3]
    assert "starting another" in caplog.text


def test_a_shard_that_fails_twice_is_set_aside_and_the_others_are_finished(monkeypatch, caplog):
    opened = Started(shard=shard(1).id)
    scripts = Scripts([*does(0), opened, crash()], [opened, crash()], does(2))
    outcome = run(monkeypatch, scripts)
    assert scripts.ordered == [[0, 1, 2], [1], [2]]
    assert outcome.failed == {"p000001-00001": "was killed by signal 9"}
    assert "shard p000001-00001 could not be done: was killed by signal 9" in caplog.text


def test_a_shard_that_a_process_sets_aside_is_not_tried_again(monkeypatch, caplog):
    set_aside = [Started(shard=shard(1).id), SetAside(shard=shard(1).id, reason="is damaged")]
    scripts = Scripts([*does(0), *set_aside, Started(shard=shard(2).id), crash()], does(2))
    outcome = run(monkeypatch, scripts)
    assert scripts.ordered == [[0, 1, 2], [2]]
    assert outcome.failed == {"p000001-00001": "is damaged"}
    assert "shard p000001-00001 could not be done: is damaged" in caplog.text


def test_a_process_that_sets_all_aside_has_done_its_work(monkeypatch):
    set_aside = [Started(shard=shard(0).id), SetAside(shard=shard(0).id, reason="is damaged")]
    outcome = run(monkeypatch, Scripts(set_aside), count=1)
    assert outcome.failed == {"p000001-00000": "is damaged"}


def test_shards_of_damaged_files_are_named_and_the_others_are_done(monkeypatch):
    scripts = Scripts(does(0))
    outcome = run(monkeypatch, scripts, count=1, unreadable={shard(7): "is damaged"})
    assert scripts.ordered == [[0]]
    assert outcome.failed == {"p000001-00007": "is damaged"}


def test_a_file_that_is_found_damaged_before_a_device_is_started_is_set_aside(monkeypatch):
    scripts = Scripts(does(0))
    outcome = run(monkeypatch, scripts, count=2, damaged=[1])
    assert scripts.ordered == [[0]]
    assert outcome.failed == {"p000001-00001": "a file is damaged"}


def test_a_process_that_dies_before_its_first_image_is_tried_once_more(monkeypatch):
    run(monkeypatch, Scripts([crash()], [*does(0)]), count=1)
    with pytest.raises(WorkFailedError, match="before its first image: was killed by signal 11"):
        run(monkeypatch, Scripts([crash()], [crash("was killed by signal 11")]), count=1)


def failed(**changes):
    values = {
        "error": "InferenceError",
        "text": "the model is broken",
        "exit_code": 1,
        "out_of_memory": False,
        "batch_size": 64,
        "transient": False,
        "restart": False,
    }
    return Failed(**(values | changes))


def test_an_error_that_a_new_process_would_meet_again_ends_the_run(monkeypatch):
    scripts = Scripts([Started(shard=shard(0).id), failed(text="no such model", exit_code=2)])
    with pytest.raises(WorkFailedError, match="no such model") as caught:
        run(monkeypatch, scripts)
    assert caught.value.exit_code == 2


def test_an_error_that_only_poisons_the_process_is_tried_in_a_new_one(monkeypatch):
    scripts = Scripts([Started(shard=shard(0).id), failed(restart=True)], does(0), does(1))
    run(monkeypatch, scripts, count=2)
    assert scripts.ordered == [[0, 1], [0], [1]]


def test_out_of_memory_halves_the_batch_until_it_fits(monkeypatch, caplog):
    full = failed(out_of_memory=True, restart=True)
    scripts = Scripts(
        [*does(0), Started(shard=shard(1).id), full],
        [Started(shard=shard(1).id), full.model_copy(update={"batch_size": 32})],
        does(1),
    )
    with caplog.at_level(logging.WARNING):
        run(monkeypatch, scripts, count=2)
    assert [order.batch_limit for order in scripts.orders] == [None, 32, 16]
    assert scripts.ordered == [[0, 1], [1], [1]]
    assert "batches of 64: going on with 32" in caplog.text


def test_out_of_memory_with_one_image_is_a_failure(monkeypatch):
    one = failed(out_of_memory=True, restart=True, batch_size=1)
    opened = Started(shard=shard(0).id)
    outcome = run(monkeypatch, Scripts([opened, one], [opened, one]), count=1)
    assert outcome.failed == {"p000001-00000": "the model is broken"}


def test_progress_never_counts_an_image_twice(monkeypatch):
    seen = []
    scripts = Scripts(
        [
            Started(shard=shard(0).id),
            Advanced(done=10, errors=1),
            Published(shard=shard(0).id, rows=10, errors=1),
            Started(shard=shard(1).id),
            Advanced(done=17, errors=2),
            crash(),
        ],
        [
            Started(shard=shard(1).id),
            Advanced(done=10, errors=3),
            Published(shard=shard(1).id, rows=10, errors=3),
        ],
    )
    run(monkeypatch, scripts, count=2, report=seen.append)
    assert (seen[-1].done, seen[-1].total, seen[-1].errors) == (20, 20, 4)


def test_what_the_process_logs_is_logged(monkeypatch, caplog):
    scripts = Scripts([Notice(level=logging.WARNING, text="100% odd"), *does(0)])
    with caplog.at_level(logging.INFO):
        run(monkeypatch, scripts, count=1)
    assert ("tasks.classify", logging.WARNING, "100% odd") in caplog.record_tuples


def test_a_process_that_dies_when_all_is_done_costs_nothing(monkeypatch, caplog):
    ends = [[*does(0), Started(shard=shard(1).id), crash()], [*does(1), crash()]]
    with caplog.at_level(logging.WARNING):
        run(monkeypatch, Scripts(*ends, [*does(2), crash()]), count=3)
    assert "had done all, but its end failed: was killed by signal 9" in caplog.text


def test_what_auto_chose_first_holds_for_every_process(monkeypatch):
    scripts = Scripts([Started(shard=shard(0).id), crash()], does(0), does(1))
    run(monkeypatch, scripts, count=2)
    assert scripts.backends == ["auto", "onnxruntime", "onnxruntime"]


@pytest.mark.parametrize("transient", [True, False])
def test_an_error_says_whether_it_may_pass(monkeypatch, transient):
    scripts = Scripts([Started(shard=shard(0).id), failed(transient=transient)])
    with pytest.raises(WorkFailedError) as caught:
        run(monkeypatch, scripts, count=1)
    assert caught.value.transient is transient
