"""Which precision serves, and why: what the log, the summary, run.json and every footer say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from engines.verdict import Verdict

__all__ = ["Decision", "GateStatus", "gate_lines"]

GateStatus = Literal["passed", "reference", "off", "no images"]
"""Of the precision that serves: it was compared with fp32 and passed; it is fp32; nobody asked for
a comparison; or no image could be compared."""

IN_WORDS: dict[GateStatus, str] = {
    "passed": "passed",
    "reference": "not needed for fp32",
    "off": "off (--gate-images 0): nothing was compared with fp32",
    "no images": "nothing was compared with fp32, for want of images",
}


class Decision(BaseModel):
    """The precision that serves a run.

    Attributes:
        requested: What --precision asked for.
        precision: What serves.
        gate: What the accuracy gate says of it.
        why: Why it is another than was asked for, or which one auto chose; '' where there is
            nothing to say.
        trials: What was found of each candidate that was compared: `Verdict.summary`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    requested: str
    precision: str
    gate: GateStatus
    why: str = ""
    trials: tuple[dict[str, Any], ...] = ()

    @classmethod
    def of(
        cls,
        requested: str,
        precision: str,
        *,
        gate: GateStatus,
        why: str,
        verdicts: Iterable[Verdict],
    ) -> Decision:
        """The decision that follows from these verdicts."""
        trials = tuple(verdict.summary() for verdict in verdicts)
        return cls(requested=requested, precision=precision, gate=gate, why=why, trials=trials)

    def record(self) -> dict[str, Any]:
        """For run.json: everything."""
        return {"status": self.gate, "why": self.why, "trials": list(self.trials)}

    def footer(self) -> dict[str, Any]:
        """For the footer of a file: without the list of flips, which run.json has."""
        trials = [
            {name: value for name, value in trial.items() if name != "worst_flips"}
            for trial in self.trials
        ]
        return {**self.record(), "trials": trials}


def gate_lines(precision: str, gate: Mapping[str, Any] | None) -> list[str]:
    """What a person reads of the gate, from `record` or `footer`; [] for a plain fp32 run.

    Args:
        precision: What served.
        gate: As recorded; None in files of versions that had no gate.
    """
    if gate is None or (gate["status"] == "reference" and not gate["why"]):
        return []
    lines = [f"Precision: {gate['why']}"] if gate["why"] else []
    served = [trial for trial in gate["trials"] if trial["precision"] == precision]
    if gate["status"] == "passed" and served:
        trial = served[-1]
        return [*lines, f"Accuracy gate: {trial['line']}.", *(f"  {n}" for n in trial["notes"])]
    return [*lines, f"Accuracy gate: {IN_WORDS[gate['status']]}."]
