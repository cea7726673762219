"""Is everything here that a run needs, and is the model fed rightly?"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from engines.check import Check, Status, worst
from engines.device import DeviceInfo
from engines.runtimes import Runtimes, look_at_runtimes
from tasks.doctor_settings import DoctorSettings
from tasks.engine import cache_folder
from tasks.machine import Machine, look_at_machine, machine_checks
from tasks.model_doctor import Examined, examine
from tasks.places import cache_check, output_check
from tasks.prefect_api import prefect_check
from tasks.version import tool_version

__all__ = ["Diagnosis", "diagnose"]

WIDTH = 100
"""Columns of the text, as of the code."""

SHOWN: dict[Status, str] = {
    "passed": "ok",
    "skipped": "-",
    "warning": "warning",
    "failed": "FAILED",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What was found; the one JSON object that `--json` prints.

    Attributes:
        status: 'ok', 'warnings' or 'failed'.
        exit_code: 0, also with warnings; 1 where a check failed; 2 where the model or the settings
            cannot be used.
        version: Of Nightshift.
        checks: Of this machine.
        machine: Its facts.
        runtimes: What can run models on it.
        model: What was found of the model; None where none was given, or it cannot be used.
        error: Why the model cannot be used; '' where it can.
    """

    status: Literal["ok", "warnings", "failed"]
    exit_code: int
    version: str
    checks: tuple[Check, ...]
    machine: Machine
    runtimes: Runtimes
    model: Examined | None
    error: str

    def lines(self) -> list[str]:
        """The same for a person."""
        found = self.model
        lines = [f"Nightshift {self.version} on this machine", *_table(self.checks)]
        if found is not None:
            width = max(len(setting.value) for setting in found.settings)
            lines += ["", f"Model {found.model_id}, and who says so"]
            lines += [f"  {s.name:<14}{s.value:<{width}}  {s.source}" for s in found.settings]
            where = f"{found.backend} in {found.precision} on {found.device}"
            lines += ["", f"Tested with {where}", *_table(found.checks)]
        if self.error:
            lines += ["", *_rows(SHOWN["failed"], "model", [self.error], len("model"))]
        return [*lines, "", self._verdict()]

    def _verdict(self) -> str:
        """The last line."""
        checks = [*self.checks, *(self.model.checks if self.model else ())]
        failed = sum(check.status == "failed" for check in checks) + bool(self.error)
        warnings = sum(check.status == "warning" for check in checks)
        if failed:
            return f"{failed} failed, {_some(warnings, 'warning')}."
        return f"{_some(warnings, 'warning')}." if warnings else "All is well."


def diagnose(settings: DoctorSettings) -> Diagnosis:
    """Look at this machine, and at a model if one is given."""
    machine, runtimes = look_at_machine(), look_at_runtimes(settings.device)
    output = settings.output
    checks = (
        *machine_checks(machine),
        *_runtime_checks(runtimes),
        cache_check(cache_folder(settings)),
        *([] if output is None else [output_check(output)]),
        prefect_check(),
    )
    found: Examined | None = None
    code, error = 0, ""
    if settings.model is not None:
        try:
            found = examine(settings)
        except Exception as problem:
            if not hasattr(problem, "exit_code"):
                raise
            code, error = min(problem.exit_code, 2), str(problem)
    status = "failed" if code else worst((*checks, *(found.checks if found else ())))
    return Diagnosis(
        status="failed" if status == "failed" else "warnings" if status == "warning" else "ok",
        exit_code=code or int(status == "failed"),
        version=tool_version(),
        checks=checks,
        machine=machine,
        runtimes=runtimes,
        model=found,
        error=error,
    )


def _runtime_checks(found: Runtimes) -> Iterator[Check]:
    yield Check(
        name="onnxruntime",
        status="passed",
        measured=f"{found.onnxruntime}, on the CPU",
        expected="installed",
    )
    yield _gpu_check(found)
    yield _tensorrt_check(found)


def _gpu_check(found: Runtimes) -> Check:
    name, expected = "GPU", "an NVIDIA GPU that CUDA can use"
    if found.gpu is not None:
        return Check(
            name=name, status="passed", measured=_gpu_in_words(found.gpu), expected=expected
        )
    if found.gpu_error:
        return Check(name=name, status="warning", measured=found.gpu_error, expected=expected)
    return Check(
        name=name, status="skipped", measured="none: models run on the CPU", expected=expected
    )


def _gpu_in_words(gpu: DeviceInfo) -> str:
    return (
        f"{gpu.name}, {gpu.free_bytes / 2**30:,.1f} of {gpu.total_bytes / 2**30:,.1f} GiB free, "
        f"compute capability {gpu.compute_capability}; CUDA {gpu.runtime_version}, "
        f"driver for {gpu.driver_version}"
    )


def _tensorrt_check(found: Runtimes) -> Check:
    name, expected = "TensorRT", "8.6 or newer, where there is a GPU"
    if found.tensorrt is not None:
        return Check(name=name, status="passed", measured=found.tensorrt, expected=expected)
    if found.gpu is None:
        return Check(
            name=name, status="skipped", measured="not asked without a GPU", expected=expected
        )
    return Check(
        name=name,
        status="warning",
        measured=found.tensorrt_error or "not installed: the GPU stays idle",
        expected=expected,
        advice="" if found.tensorrt_error else "pip install 'nightshift[gpu]', or the container",
    )


def _table(checks: Sequence[Check]) -> list[str]:
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        texts = [check.measured, *([f"→ {check.advice}"] if check.advice else [])]
        lines += _rows(SHOWN[check.status], check.name, texts, width)
    return lines


def _rows(status: str, name: str, texts: Sequence[str], width: int) -> list[str]:
    """One check: its texts below each other, each wrapped below its own beginning."""
    start = f"  {status:<9}{name:<{width}}  "
    lines: list[str] = []
    for text in texts:
        lines += textwrap.wrap(
            text,
            WIDTH,
            initial_indent=" " * len(start) if lines else start,
            subsequent_indent=" " * (len(start) + 2 * text.startswith("→")),
            break_long_words=False,
            break_on_hyphens=False,
        )
    return lines


def _some(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"
