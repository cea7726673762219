"""What the builder says of its graph optimizations, line by line, in the verbose build log.

The lines are the same in 8.4, 8.6 and 10:

    Original: 755 layers
    ConvReluFusion: Fusing conv1 with relu1
    Running: QConvScaleFusion on conv1
    Removing bn1 + relu1
    QuantizeDoubleInputNodes: fusing (q1_dq and w1_dq) into conv1
    Eliminating q3 which duplicates (Q) q2
    Eliminating concatenation concat1
    After final dead-layer removal: 153 layers

They are words for people, which NVIDIA may change: what is not understood is left out, and a node
without a word remains a node that nothing is said of.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

__all__ = ["Removal", "StepReader", "Steps", "parts_of", "said"]

SEVERITY = re.compile(r"(?:\[[^\]]*\] ?)+")
"""'[VERBOSE] ' of our build.log; '[11/01/2024-10:32:48] [V] [TRT] ' of trtexec's."""

LAYERS_LEFT = re.compile(r"(Original|After [a-zA-Z -]+): (\d+) layers")
RUNNING = re.compile(r"Running: (\S+) on (.+)")
FUSING = re.compile(r"(\w+): Fusing (.+) with (.+)")
ABSORBING = re.compile(r"(\w+): fusing \(?(.+?)\)? into (.+)")
DUPLICATE = re.compile(r"Eliminating (.+) which duplicates \(\w+\) (.+)")
RETARGETED = re.compile(r"Eliminating (slice|concatenation) (\S+)")
REMOVING = re.compile(r"Removing (.+)")

IN_PLACE = {
    "slice": "its readers read from the whole tensor",
    "concatenation": "its inputs are written side by side at once",
}


def said(line: str) -> str:
    """A line of a build log without its time and severity."""
    return SEVERITY.sub("", line, count=1).strip() if line.startswith("[") else line.strip()


def parts_of(name: str) -> list[str]:
    """Names of the layers that were fused into one of this name.

    'a + b' is one after the other, 'a || b' side by side, 'PWN(a, b)' element by element.
    """
    while match := re.search(r"PWN\(((?:[^()]|\([^()]*\))*)\)", name):
        inner = " + ".join(re.split(r", ", match[1]))
        name = name[: match.start()] + inner + name[match.end() :]
    return [part.strip() for part in re.split(r" \+ | \|\| ", name) if part.strip()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """Why a layer is not in the engine.

    Attributes:
        into: The layer that does its work now; None where nothing is left to do.
        why: In words, the optimization's own name in them.
    """

    into: str | None
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """The graph optimizations of one build.

    Attributes:
        layers_left: Layers after each step that changed their number, TensorRT's words for it.
        fusions: Name of an optimization to how often it fused something.
        removals: By the name of what is gone.
    """

    layers_left: tuple[tuple[str, int], ...]
    fusions: dict[str, int]
    removals: dict[str, Removal]


@dataclass(slots=True)
class StepReader:
    """Takes the lines of a build log, in order."""

    layers_left: list[tuple[str, int]] = field(default_factory=list)
    fusions: dict[str, int] = field(default_factory=dict)
    removals: dict[str, Removal] = field(default_factory=dict)
    running: tuple[str, str] = ("", "")

    def take(self, line: str) -> None:
        """Understand one line, without its severity (`said`), or pass over it."""
        if match := RUNNING.fullmatch(line):
            self.running = (match[1], match[2])
        elif match := FUSING.fullmatch(line):
            self._count(match[1])
        elif match := ABSORBING.fullmatch(line):
            self._count(match[1])
            for name in match[2].split(" and "):
                self._gone(name, Removal(into=match[3], why=f"part of it now ({match[1]})"))
        elif match := DUPLICATE.fullmatch(line):
            self._gone(match[1], Removal(into=None, why=f"the same as {match[2]}"))
        elif match := RETARGETED.match(line):
            self._gone(match[2], Removal(into=None, why=IN_PLACE[match[1]]))
        elif match := REMOVING.fullmatch(line):
            self._removed(match[1])
        elif match := LAYERS_LEFT.fullmatch(line):
            self._left(match[1], int(match[2]))

    def result(self) -> Steps:
        """What was read so far."""
        return Steps(
            layers_left=tuple(self.layers_left),
            fusions=dict(sorted(self.fusions.items(), key=lambda item: -item[1])),
            removals=dict(self.removals),
        )

    def _left(self, step: str, layers: int) -> None:
        if not self.layers_left or self.layers_left[-1][1] != layers:
            self.layers_left.append((step, layers))

    def _count(self, optimization: str) -> None:
        self.fusions[optimization] = self.fusions.get(optimization, 0) + 1

    def _removed(self, name: str) -> None:
        """'Removing X' belongs to the optimization that runs on X, or on what takes X in."""
        optimization, subject = self.running
        into = None if subject in ("", name) else subject
        why = f"{'part of it now' if into else 'removed'} ({optimization or 'no reason given'})"
        self._gone(name, Removal(into=into, why=why))

    def _gone(self, name: str, removal: Removal) -> None:
        """The first reason counts: what is removed later was made superfluous by it."""
        for part in parts_of(name):
            self.removals.setdefault(part, removal)
