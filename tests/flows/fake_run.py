"""The command with steps that take as long as a test wants, and need no model.

    python fake_run.py IMAGES -m MODEL -o OUT ...

What the steps do is in FAKE, JSON: {"seconds": how long classify works, "raises": step to error,
"exit_code": the summary's}. A file OUT/<step> says that a step was begun.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

import tasks
from tasks.progress import Progress

FAKE = json.loads(os.environ.get("FAKE", "{}"))


class RefusedError(Exception):
    exit_code = 2


class EmptyError(Exception):
    exit_code = 4


ERRORS = {
    "refused": lambda: RefusedError("no such model: resnet"),
    "empty": lambda: EmptyError("no image found in photos"),
    "unexpected": lambda: ZeroDivisionError("what nobody thought of"),
    "transient": lambda: OSError(5, "Input/output error"),
}


@dataclass(frozen=True)
class Summary:
    run_id: str
    status: str
    images: int
    exit_code: int

    def lines(self) -> list[str]:
        return [f"{self.images} images", f"status {self.status}"]


def begin(step: str, settings) -> None:
    mark = Path(settings.output) / step
    mark.parent.mkdir(parents=True, exist_ok=True)
    with mark.open("a") as file:
        file.write(f"{os.getpid()}\n")
    tries = len(mark.read_text().splitlines())
    error = FAKE.get("raises", {}).get(step)
    if error and tries <= FAKE.get("times", 99):
        raise ERRORS[error]()


def prepare(settings, run_id=None, allowed=None):
    begin("prepare", settings)
    tree = SimpleNamespace(root=Path(settings.output))
    return SimpleNamespace(settings=settings, run_id="fake", tree=tree)


def plan(job, found_work=None):
    begin("plan", job.settings)
    logging.getLogger("tasks.plan").info("planned")
    if FAKE.get("prints"):
        print("a library prints")  # noqa: T201
    return SimpleNamespace(images=100)


def classify(job, plan, report, standby=None):
    begin("classify", job.settings)
    seconds = FAKE.get("seconds", 0)
    for done in range(1, 101):
        time.sleep(seconds / 100)
        report(Progress(done=done, total=100, errors=0, images_per_second=10.0))
    return SimpleNamespace()


def finish(job, plan, outcome):
    begin("finish", job.settings)
    code = FAKE.get("exit_code", 0)
    return Summary(
        run_id="fake", status="done" if code == 0 else "failed", images=100, exit_code=code
    )


class Standby:
    def __init__(self, *, start=True):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    is_started = False

    def start(self):
        pass

    def load(self, settings):
        pass


def module(name: str, **contents: object) -> None:
    fake = ModuleType(f"tasks.{name}")
    fake.__dict__.update(contents)
    sys.modules[f"tasks.{name}"] = fake
    setattr(tasks, name, fake)


module("prepare", prepare=prepare)
module("plan", plan=plan)
module("classify", classify=classify)
module("device_process", Standby=Standby)
module("finish", finish=finish, Summary=Summary)
module("job", Job=object, Plan=object, Outcome=object)

if __name__ == "__main__":
    from flows.classify_command import main

    code = main()
    if "modules" in FAKE:
        Path(FAKE["modules"]).write_text("\n".join(sys.modules))
    raise SystemExit(code)
