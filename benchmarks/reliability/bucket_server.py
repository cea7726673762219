"""An object server in a process of its own, with a bucket that can be looked into and disturbed.

    python -m benchmarks.reliability.bucket_server

Takes commands, a line of JSON each, from its standard input, and answers with a line of JSON; ends
when its input does. `BucketServer` is the other end.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.reliability.example_runs import ROOT
from benchmarks.reliability.interrupter import Interrupter, Interruption

__all__ = ["BUCKET_URI", "BucketServer", "bucket_server"]

BUCKET_URI = "s3://bucket"
ACCOUNT = "123456789012"

_Answer = str | int | list[list[str]] | None


@dataclass(frozen=True)
class BucketServer:
    """A server that runs.

    Attributes:
        environment: What its clients need to know.
    """

    environment: dict[str, str]
    _process: subprocess.Popen[str]

    def arm(self, what: Interruption, number: int, pid: int) -> None:
        """Let something happen to a run's request; see Interrupter."""
        self._do("arm", what=what, number=number, pid=pid)

    def disarm(self) -> str:
        """Stop waiting for a request; returns the one that came, or an empty string."""
        return str(self._do("disarm"))

    def wait_until_stopped(self, seconds: float) -> bool:
        """Wait for a run to be stopped, no longer than that."""
        return bool(self._do("wait", seconds=seconds))

    def woken(self) -> None:
        """Tell that the run was woken: its request goes on."""
        self._do("woken")

    def copy(self, source: str, target: str) -> None:
        """Copy whatever has a prefix of the bucket to another one."""
        self._do("copy", source=source, target=target)

    def dump(self, prefix: str, folder: Path) -> None:
        """Write an output with such a prefix to a folder, without any request."""
        self._do("dump", prefix=prefix, folder=str(folder))

    def remove(self, prefix: str) -> None:
        """Remove whatever has a prefix."""
        self._do("remove", prefix=prefix)

    def versions(self, prefix: str) -> list[list[str]]:
        """Key, ETag and time of whatever has a prefix."""
        found = self._do("versions", prefix=prefix)
        assert isinstance(found, list)
        return found

    def requests(self) -> int:
        """How many were answered so far."""
        found = self._do("requests")
        assert isinstance(found, int)
        return found

    def _do(self, name: str, **arguments: object) -> _Answer:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"name": name, **arguments}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the object server has ended; see what it wrote above")
        answer: _Answer = json.loads(line)
        return answer


@contextmanager
def bucket_server() -> Iterator[BucketServer]:
    """Start one; its environment is that of this process and its children for the block."""
    command = [sys.executable, "-m", "benchmarks.reliability.bucket_server"]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        environment: dict[str, str] = json.loads(process.stdout.readline())
        before = dict(os.environ)
        os.environ.update(environment)
        try:
            yield BucketServer(environment, process)
        finally:
            os.environ.clear()
            os.environ.update(before)
            process.stdin.close()


class _Commands:
    """What the process does when it is told to."""

    def __init__(self, interrupter: Interrupter) -> None:
        from moto.backends import get_backend

        self._interrupter = interrupter
        self._moto: Any = get_backend("s3")[ACCOUNT]["aws"]

    def arm(self, what: Interruption, number: int, pid: int) -> None:
        self._interrupter.arm(what, number, pid)

    def disarm(self) -> str:
        self._interrupter.disarm()
        return self._interrupter.reached

    def wait(self, seconds: float) -> bool:
        return self._interrupter.stopped.wait(seconds)

    def woken(self) -> None:
        self._interrupter.woken.set()

    def copy(self, source: str, target: str) -> None:
        for key in self._below(source):
            self._moto.copy_object(key, "bucket", target + key.name.removeprefix(source))

    def dump(self, prefix: str, folder: str) -> None:
        Path(folder, "predictions").mkdir(parents=True, exist_ok=True)  # as LocalTree makes it
        for key in self._below(prefix):
            path = Path(folder, key.name.removeprefix(prefix).lstrip("/"))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(key.value)

    def remove(self, prefix: str) -> None:
        for key in self._below(prefix):
            self._moto.delete_object("bucket", key.name)

    def versions(self, prefix: str) -> list[list[str]]:
        return [[key.name, key.etag, str(key.last_modified)] for key in self._below(prefix)]

    def requests(self) -> int:
        return len(self._interrupter.server.seen)

    def _below(self, prefix: str) -> list[Any]:
        keys = self._moto.buckets["bucket"].keys
        return [keys[name] for name in sorted(keys) if name.startswith(prefix)]


def _serve() -> None:
    from tests.simulators.object_server import ObjectServer, object_server

    made: list[Interrupter] = []

    def around(server: ObjectServer) -> Interrupter:
        made.append(Interrupter(server))
        return made[0]

    with object_server(around=around) as server:
        commands = _Commands(made[0])
        print(json.dumps(server.environment), flush=True)
        for line in sys.stdin:
            command = json.loads(line)
            print(json.dumps(getattr(commands, command.pop("name"))(**command)), flush=True)


if __name__ == "__main__":
    _serve()
