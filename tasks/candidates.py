"""Which precision serves: candidates are compared with fp32, and the fastest that passes is taken.

- An explicit --precision is the one candidate; where it fails, the next wider one is tried.
- auto is fp16 on a GPU and fp32 on a CPU; int8 competes where there are images to calibrate on.
- fp32 is the reference and needs no comparison.

A verdict is kept beside its engine and is not decided again: see `engines.verdict`. So overlapping
runs and the nights after serve the same precision, without opening an engine that has failed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from engines.errors import EngineBuildError, ModelError, PlanError
from engines.locks import FileLock
from engines.measure import images_per_second
from engines.verdict import Evidence, Thresholds, Verdict, judge, read, write
from tasks.backends import Backend
from tasks.decision import Decision, GateStatus
from tasks.model_settings import ModelSettings
from tasks.proof import Proof

__all__ = ["Candidates"]

_log = logging.getLogger(__name__)

REFERENCE = "fp32"

SPEED_S = 1.0
"""How long each candidate is timed where several passed: differences that matter are tens of
percent."""

LOCK_FILE = "gate.lock"

GATE_WAIT_S = 1800.0
"""For another process that gates the same engine, before doing so beside it."""


class Candidates:
    """The candidates of one run, in this process."""

    def __init__(self, settings: ModelSettings, backend: Backend, proof: Proof) -> None:
        """Open nothing yet.

        Args:
            settings: precision, gate_agreement.
            backend: Opens the model in each precision.
            proof: The images to decide on.
        """
        self._requested: str = settings.precision
        self._agreement = settings.gate_agreement
        self._backend = backend
        self._proof = proof
        self._verdicts: dict[str, Verdict] = {}
        self._refused: dict[str, str] = {}

    def decide(self) -> Decision:
        """Find the precision that serves; builds, compares and measures what is not known yet.

        Raises:
            SettingsError: There are too few images to calibrate on.
            EngineError: An engine cannot be built, loaded or run.
        """
        self._verdicts.clear()
        self._refused.clear()
        contenders = self._contenders()
        passed = [precision for precision in contenders if self._may_serve(precision)]
        speeds = self._speeds(passed) if len(passed) > 1 else {}
        passed = [precision for precision in passed if precision not in self._refused]
        if len(passed) > 1:
            precision, why = self._fastest(speeds)
        elif passed:
            precision, why = passed[0], ""
        else:
            precision, why = self._wider(contenders[-1]), ""
        why = self._why(precision) or why
        if why:
            _log.log(logging.WARNING if self._refused else logging.INFO, "precision: %s", why)
        return Decision.of(
            self._requested,
            precision,
            gate=self._status(precision),
            why=why,
            verdicts=self._verdicts.values(),
        )

    def confirm(self, decision: Decision) -> Decision:
        """Hold a precision that was decided on against an engine for smaller batches.

        It is another engine: other kernels, which nobody has compared yet. What was decided stays,
        unless this one fails.

        Args:
            decision: Of this run, on larger batches.

        Raises:
            EngineError: As `decide`.
        """
        if decision.gate != "passed":
            return decision
        self._verdicts.clear()
        self._refused.clear()
        precision = decision.precision
        if not self._may_serve(precision):
            precision = self._wider(precision)
            _log.warning("precision: %s", self._why(precision))
        return Decision.of(
            self._requested,
            precision,
            gate=self._status(precision),
            why=self._why(precision) or decision.why,
            verdicts=self._verdicts.values(),
        )

    def stands(self, decision: Decision) -> bool:
        """Whether the verdict is on the engine that was opened to serve.

        One that was damaged, or did not load, was built anew when it was opened: no build is like
        the other, and the verdict went with its engine.
        """
        return (
            decision.gate != "passed" or read(self._backend.folder(decision.precision)) is not None
        )

    def _contenders(self) -> tuple[str, ...]:
        """What competes, the narrowest first."""
        if self._requested != "auto":
            return (self._requested,)
        usual = self._backend.usual
        if self._proof.calibrates:
            _log.info("precision auto: int8 or %s, whichever is faster here and may serve", usual)
            return ("int8", usual)
        if usual != REFERENCE:
            _log.info(
                "precision auto: %s on a GPU; --precision fp32 computes as the model was exported",
                usual,
            )
        return (usual,)

    def _wider(self, precision: str) -> str:
        """The first of the wider precisions that may serve; fp32 always may."""
        while (precision := self._backend.wider[precision]) != REFERENCE:
            if self._may_serve(precision):
                break
        return precision

    def _may_serve(self, precision: str) -> bool:
        """Whether nothing speaks against it."""
        if precision != REFERENCE and self._failed_before(precision):
            return False
        if precision == REFERENCE or not self._proof.wanted:
            return True
        try:
            verdict = self._verdict(precision)
        except (ModelError, EngineBuildError) as error:
            self._refuse(precision, error)
            return False
        if verdict is None:
            # Building ahead without images is no mistake: a run compares before the engine serves.
            level = logging.WARNING if self._proof.available else logging.INFO
            _log.log(level, "gate: %s is not compared with fp32, for want of images", precision)
            return True
        self._verdicts[precision] = verdict
        if not verdict.passed:
            self._refused[precision] = (
                f"{precision} failed the accuracy gate: {'; '.join(verdict.reasons)}"
            )
        return verdict.passed

    def _failed_before(self, precision: str) -> bool:
        """Whether auto passes over int8 because its engine could not be built of late."""
        if not self._is_optional(precision):
            return False
        try:
            why = self._backend.failed_build(precision)
        except ModelError as error:
            self._refuse(precision, error)
            return True
        if why is not None:
            self._refused[precision] = (
                f"the {precision} engine could not be built, and is tried again a week later, or "
                f"at once with --precision {precision}, or by build_engine with --rebuild: {why}"
            )
        return why is not None

    def _is_optional(self, precision: str) -> bool:
        """Whether nobody asked for it by name, and auto has something else to serve."""
        return self._requested == "auto" and precision == "int8"

    def _refuse(self, precision: str, error: ModelError | EngineBuildError) -> None:
        """Let a wider precision serve instead, and say why.

        Raises:
            EngineBuildError: The error, but for an int8 engine that only auto asked for.
        """
        if isinstance(error, ModelError):
            self._refused[precision] = f"the model cannot compute in {precision}: {error}"
        elif self._is_optional(precision):
            self._refused[precision] = f"the {precision} engine cannot be built: {error}"
        else:
            raise error

    def _verdict(self, precision: str) -> Verdict | None:
        """The verdict that is kept, or a new one; None where no image can be compared."""
        folder = self._backend.folder(precision)
        kept = self._kept(folder, precision)
        gate = None if self._suffices(kept) else self._proof.gate
        if gate is None:
            return _told_before(kept)
        with self._backend.open(precision, logits=True).classifier as classifier, _turn(folder):
            kept = self._kept(folder, precision)
            if self._suffices(kept):  # an overlapping run has decided meanwhile
                return _told_before(kept)
            evidence = gate.evidence(classifier)
            if evidence is None:
                return _told_before(kept)
            if kept is not None:
                evidence = kept.evidence.renewed(evidence)
            verdict = self._judged(precision, evidence)
            _keep(folder, verdict)
        _log.log(logging.INFO if verdict.passed else logging.WARNING, "gate: %s", verdict.line())
        for note in verdict.notes:
            _log.warning("gate: %s", note)
        return verdict

    def _kept(self, folder: Path, precision: str) -> Verdict | None:
        """The verdict beside the engine, held against this run's thresholds."""
        kept = read(folder)
        if kept is None or kept.precision != precision:
            return None
        return self._judged(precision, kept.evidence)

    def _suffices(self, kept: Verdict | None) -> bool:
        proof = self._proof
        return kept is not None and kept.evidence.suffices(proof.wanted, proof.available)

    def _judged(self, precision: str, evidence: Evidence) -> Verdict:
        return judge(precision, evidence, Thresholds.of(precision, self._agreement))

    def _fastest(self, speeds: Mapping[str, float]) -> tuple[str, str]:
        """The fastest of several, and a sentence with the figures."""
        best = max(speeds, key=lambda precision: speeds[precision])
        others = ", ".join(
            f"{speed:,.0f} with {precision}"
            for precision, speed in speeds.items()
            if precision != best
        )
        why = f"auto took {best}: {speeds[best]:,.0f} images/s, {others} ({self._backend.place})"
        return best, why

    def _speeds(self, passed: list[str]) -> dict[str, float]:
        """Images per second of each: those kept with the narrowest one's verdict, or measured."""
        verdict = self._verdicts.get(passed[0])
        if verdict is None:
            return self._measured(passed)
        if (known := self._known(verdict, passed)) is not None:
            return known
        folder = self._backend.folder(passed[0])
        with _turn(folder):  # two that measure at once measure each other
            verdict = self._kept(folder, passed[0]) or verdict
            if (known := self._known(verdict, passed)) is None:
                known = self._measured(passed)
                evidence = replace(verdict.evidence, speeds=known, measured_on=self._backend.place)
                verdict = replace(verdict, evidence=evidence)
                _keep(folder, verdict)
        self._verdicts[passed[0]] = verdict
        return known

    def _known(self, verdict: Verdict, passed: list[str]) -> dict[str, float] | None:
        """The speeds that were measured here before, if they are of all."""
        kept = verdict.evidence
        if kept.measured_on != self._backend.place or not set(passed) <= set(kept.speeds):
            return None
        return {precision: kept.speeds[precision] for precision in passed}

    def _measured(self, passed: list[str]) -> dict[str, float]:
        """Speeds of those that can be opened; what was not compared has not been until now."""
        speeds = {}
        for precision in passed:
            _log.info("measuring %s", precision)
            try:
                with self._backend.open(precision).classifier as classifier:
                    speeds[precision] = images_per_second(classifier, SPEED_S)
            except (ModelError, EngineBuildError) as error:
                self._refuse(precision, error)
        return speeds

    def _why(self, precision: str) -> str:
        """Why it is not what was asked for; '' where nothing was refused."""
        if not self._refused:
            return ""
        asked = "auto took" if self._requested == "auto" else f"{self._requested} was asked for,"
        verb = "" if self._requested == "auto" else " serves"
        return f"{asked} {precision}{verb}: {'; '.join(self._refused.values())}"

    def _status(self, precision: str) -> GateStatus:
        if precision == REFERENCE:
            return "reference"
        if not self._proof.wanted:
            return "off"
        return "passed" if precision in self._verdicts else "no images"


@contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """One process after the other, where the file system can do that."""
    try:
        lock = FileLock.wait(
            folder / LOCK_FILE,
            timeout_s=GATE_WAIT_S,
            on_wait=lambda: _log.info("gate: waiting for another run that compares the same"),
        )
    except OSError:
        lock = None  # evicted, or read-only: two may decide the same
    try:
        yield
    finally:
        if lock is not None:
            lock.close()


def _told_before(kept: Verdict | None) -> Verdict | None:
    """Say what an earlier or an overlapping run has found."""
    if kept is not None:
        for text in (kept.line(), *kept.notes):
            _log.info("gate, decided before: %s", text)
    return kept


def _keep(folder: Path, verdict: Verdict) -> None:
    try:
        write(folder, verdict)
    except (OSError, PlanError) as error:
        _log.warning("the verdict on %s cannot be kept: %s", verdict.precision, error)
