"""Any sequence of nights: one row for each image, whoever was stopped, killed or overtaken."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
)

from shards import locks
from shards.errors import LockedError
from shards.local_tree import LocalTree
from tests.shards import nights
from tests.shards.nights import ROOT, Night, World

MODELS = ("m@1", "other@2")
NUMBERS = st.integers(0, 5)
STEPS = ("fsync", "link", "replace", "unlink")


class Killed(BaseException):
    """Stands for kill -9: nothing is cleaned up after it, as far as files go."""


class Nights(RuleBasedStateMachine):
    """Files come, change, break and go; runs start, stand still, die and go on."""

    runs = Bundle("runs")

    @initialize(count=st.integers(1, 5))
    def begin(self, count):
        self.stack = ExitStack()
        directory = self.stack.enter_context(tempfile.TemporaryDirectory(prefix="nights-"))
        self.tree = LocalTree.create(Path(directory))
        self.world: World = {key(number): 1 for number in range(count)}
        self.time = 1
        self.number = 0
        self.seen: dict[str, set[bytes]] = {model: set() for model in MODELS}
        self.pruning = 0
        self.revisions: dict[tuple[str, str], int] = {}

    @rule(numbers=st.sets(NUMBERS, min_size=1, max_size=3), broken=st.booleans())
    def change(self, numbers, broken):
        """Add images, or change them."""
        self.time += 1
        for number in numbers:
            self.world[key(number)] = -self.time if broken else self.time

    @rule(numbers=st.sets(NUMBERS, max_size=3))
    def remove(self, numbers):
        for number in numbers:
            if len(self.world) > 1:
                self.world.pop(key(number), None)

    @rule(
        target=runs,
        model_id=st.sampled_from(MODELS),
        shard_size=st.integers(1, 4),
        prune=st.sampled_from([None, 1.0]),
        retry_errors=st.booleans(),
        overwrite=st.booleans(),
    )
    def start(self, **options) -> Iterator[str]:
        """A run lists, and then stands still until another rule moves it."""
        self.number += 1
        night = Night(run_id=f"run-{self.number}", **options)
        self.pruning += night.prune is not None
        run = nights.steps(self.tree, night, self.world)
        next(run)
        return run

    @rule(run=runs, count=st.integers(1, 8))
    def go_on(self, run, count):
        """Let a run do some steps; one that has ended stays where it is."""
        for _ in range(count):
            next(run, None)

    @rule(
        run=runs, step=st.integers(1, 12), model_id=st.sampled_from(MODELS), count=st.integers(1, 9)
    )
    def overtake(self, run, step, model_id, count):
        """Stop a run before it changes the file system for the n-th time, and do another one."""
        self.number += 1
        night = Night(run_id=f"run-{self.number}", model_id=model_id)
        overtaken = False

        def others() -> None:
            nonlocal overtaken
            if not overtaken:
                overtaken = True
                with suppress(LockedError):  # by the run that is stopped: this one fails
                    nights.run(self.tree, night, dict(self.world))

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(locks, "PATIENCE_S", 0.0)
            at_step(patched, step, others)
            for _ in range(count):
                next(run, None)

    @rule(run=consumes(runs), step=st.integers(1, 12))
    def kill(self, run, step):
        """Let a run go on, and kill it before it changes the file system for the n-th time."""
        with pytest.MonkeyPatch.context() as patched:
            at_step(patched, step, killed)
            try:
                for _ in run:
                    pass
            except Killed:
                pass

    @precondition(lambda self: len(self.world) > 0)
    @rule(model_id=st.sampled_from(MODELS))
    def whole_night(self, model_id):
        """After a run that nobody disturbs, the table is the world, and old rows nobody pruned."""
        self.number += 1
        night = Night(run_id=f"run-{self.number}", model_id=model_id)
        nights.run(self.tree, night, self.world)
        found = nights.states(self.tree, model_id)
        assert {key: found.get(key) for key in self.world} == self.world
        again = replace(night, run_id=f"run-{self.number}-again")
        assert nights.run(self.tree, again, self.world) == 0
        assert nights.states(self.tree, model_id) == found
        pruned = replace(night, run_id=f"run-{self.number}-pruned", prune=1.0)
        assert nights.run(self.tree, pruned, self.world) == 0
        assert nights.states(self.tree, model_id) == self.world
        self.seen[model_id] = set(self.world)

    @invariant()
    def one_row_each(self):
        for model_id in MODELS:
            found = set(nights.rows(self.tree, model_id))  # fails for two rows of one image
            lost = self.seen[model_id] - found
            assert not lost & set(self.world) or self.pruning, "rows of images that are there"
            self.seen[model_id] = found

    @invariant()
    def no_file_goes_back(self):
        """What a file holds is never replaced by what an older plan said."""
        for model_id in MODELS:
            for shard, revision in nights.revisions(self.tree, model_id).items():
                assert revision >= self.revisions.get((model_id, shard), 0)
                self.revisions[model_id, shard] = revision

    def teardown(self):
        self.stack.close()


def key(number: int) -> bytes:
    return ROOT + b"/%02d.jpg" % number


def killed() -> None:
    raise Killed


def at_step(patched, step: int, happens: Callable[[], None]) -> None:
    """Let something happen before the step-th change of the file system, and each after it."""
    left = step

    def counted(function):
        def call(*arguments, **options):
            nonlocal left
            left -= 1
            if left <= 0:  # once killed, what a `finally` would still do is not done
                happens()
            return function(*arguments, **options)

        return call

    for name in STEPS:
        patched.setattr(os, name, counted(getattr(os, name)))


TestNights = Nights.TestCase
TestNights.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
