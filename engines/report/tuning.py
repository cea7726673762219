"""Kernels that were tried and timings that were reused, from the verbose build log.

For each layer, and each combination of memory formats that it could run in, TensorRT times every
kernel that fits, unless the timing cache knows the answer: then the log names the combination and
no kernel, and in 8.6 not the layer either. So it is with changes of format. A constant has nothing
to be timed. Counted like this, six logs of 8.6.1 with a timing cache in use gave exactly the number
of hits that TensorRT says in the end. 8.6 and 10 word it differently:

    =============== Computing costs for [10 names the layer here]
    *************** Autotuning format combination: Half(...) -> Half(...) ***************
    --------------- Timing Runner: conv1 + relu1 (CaskConvolution)
    conv1 + relu1 Set Tactic Name: sm80_xmma_... Tactic: 0x5deb29b7a8e275f7          [8.6]
    Tactic: 0x5deb29b7a8e275f7 Time: 0.0521752                                       [8.6]
    Tactic Name: sm80_xmma_... Tactic: 0x5deb29b7a8e275f7 Time: 0.0521752            [10]
    >>>>>>>>>>>>>>> Chose Runner Type: CaskConvolution Tactic: 0x5deb29b7a8e275f7
    Deleting timing cache: 1758 entries, served 471 hits since creation.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["LayerTuning", "Tuning", "TuningReader"]

SECTION = re.compile(r"=+ Computing (reformatting )?costs(?: for)?\s*(.*)")
COMBINATION = re.compile(r"\*+ Autotuning (format combination|Reformat): ?(.*?) ?\*+")
RUNNER = re.compile(r"-+ Timing Runner: (.+) \(([^()]*)\)")
TIME = re.compile(r"(?:Tactic Name: \S+ )?Tactic: (\S+) [Tt]ime: ([0-9.eE+-]+)")
IMPOSSIBLE = re.compile(
    r".* has no valid tactics for this config, skipping|Skipping \w+: No valid .*"
)
CONSTANT = "->"
"""How a combination begins that reads nothing."""

SERVED = re.compile(r"Deleting timing cache: \d+ entries, served (\d+) hits since creation\.")
CHOSE = re.compile(r">+ Chose Runner Type: (\S+) Tactic: (\S+)")
CACHE = re.compile(r"(Local|Global) timing cache in use")
GENERATED = re.compile(r"Engine generation completed in ([0-9.]+) seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTuning:
    """How the kernel of one layer was found.

    Attributes:
        combinations: Combinations of memory formats that were considered and possible.
        reused: Of these, combinations that nothing was timed for: the timing cache knew the answer,
            from an earlier build or from an equal layer of this one.
        candidates: Kernels timed.
        fastest_ms: Best of them; None where none was timed. At the profile's `opt` sizes.
        slowest_ms: Worst of them.
    """

    combinations: int
    reused: int
    candidates: int
    fastest_ms: float | None
    slowest_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """How the kernels of one engine were found.

    Attributes:
        cache: 'global' where timings of earlier builds could be used, 'local' where only those of
            this build, None where the log does not say.
        hits: Answers of the timing cache by TensorRT's own count, for layers and for changes of
            format; None where the log does not say.
        layers: By the layer's name; without those that 8.6 timed nothing for, and did not name.
        combinations: In all layers.
        reused: In all layers, see `LayerTuning`.
        candidates: In all layers.
        reformats_timed: Kernels timed that only change the memory format.
        reformats_reused: Changes of format that nothing was timed for.
        seconds: How long TensorRT built, by its own account.
    """

    cache: Literal["global", "local"] | None
    hits: int | None
    layers: dict[str, LayerTuning]
    combinations: int
    reused: int
    candidates: int
    reformats_timed: int
    reformats_reused: int
    seconds: float | None


@dataclass(slots=True)
class _Combination:
    """One combination of formats, while its lines are read."""

    layer: str
    section: int
    reformat: bool
    times_ms: list[float] = field(default_factory=list)
    possible: bool = True


@dataclass(slots=True)
class TuningReader:
    """Takes the lines of a build log, in order."""

    done: list[_Combination] = field(default_factory=list)
    open: _Combination | None = None
    layer: str = ""
    sections: int = 0
    cache: Literal["global", "local"] | None = None
    hits: int | None = None
    seconds: float | None = None

    def take(self, line: str) -> None:
        """Understand one line, without its severity, or pass over it."""
        if match := SECTION.fullmatch(line):
            self._close()
            self.layer = match[2]
            self.sections += 1
        elif match := COMBINATION.fullmatch(line):
            self._close()
            reformat = match[1] == "Reformat"
            self.open = _Combination(self.layer, self.sections, reformat)
            self.open.possible = not match[2].lstrip().startswith(CONSTANT)
        elif match := CACHE.match(line):
            self.cache = "global" if match[1] == "Global" else "local"
        elif match := SERVED.match(line):
            self.hits = max(self.hits or 0, int(match[1]))  # a copy of the cache says 0
        elif match := GENERATED.match(line):
            self.seconds = float(match[1])
        elif self.open is not None:
            self._take_of(self.open, line)

    def result(self) -> Tuning:
        """What was read so far."""
        self._close()
        layers = [made for made in self.done if not made.reformat and made.possible]
        reformats = [made for made in self.done if made.reformat and made.possible]
        names = {made.section: made.layer for made in self.done if made.layer}
        by_name: dict[str, list[_Combination]] = {}
        for made in layers:
            by_name.setdefault(names.get(made.section, ""), []).append(made)
        return Tuning(
            cache=self.cache,
            hits=self.hits,
            layers={name: _summed(made) for name, made in by_name.items() if name},
            combinations=len(layers),
            reused=sum(not made.times_ms for made in layers),
            candidates=sum(len(made.times_ms) for made in layers),
            reformats_timed=sum(len(made.times_ms) for made in reformats),
            reformats_reused=sum(not made.times_ms for made in reformats),
            seconds=self.seconds,
        )

    def _take_of(self, made: _Combination, line: str) -> None:
        if match := TIME.fullmatch(line):
            made.times_ms.append(float(match[2]))
            made.possible = True
        elif match := RUNNER.fullmatch(line):
            made.layer = made.layer or match[1]
        elif IMPOSSIBLE.fullmatch(line):
            made.possible = bool(made.times_ms)
        elif CHOSE.fullmatch(line):
            made.possible = True

    def _close(self) -> None:
        if self.open is not None:
            self.done.append(self.open)
        self.open = None


def _summed(combinations: list[_Combination]) -> LayerTuning:
    times_ms = [time_ms for made in combinations for time_ms in made.times_ms]
    return LayerTuning(
        combinations=len(combinations),
        reused=sum(not made.times_ms for made in combinations),
        candidates=len(times_ms),
        fastest_ms=min(times_ms, default=None),
        slowest_ms=max(times_ms, default=None),
    )
