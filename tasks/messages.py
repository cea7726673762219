"""What a device process and its supervisor say to each other: JSON, one message a line."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from engines.check import Check
from shards.shard_ref import ShardRef
from tasks.decision import Decision

__all__ = [
    "Advanced",
    "Failed",
    "Message",
    "Notice",
    "Published",
    "Ready",
    "SetAside",
    "Started",
    "WorkOrder",
    "read_message",
]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WorkOrder(_Frozen):
    """What the supervisor asks of a device process, in the second line of its standard input.

    The first holds the settings (tasks.settings).
    """

    run_id: str
    model_id: str
    shards: list[ShardRef]
    batch_limit: int | None = None
    """Largest batch, where a larger one has run out of memory before."""
    partly: dict[str, str] = {}
    """By shard id, the rows that were listed (hexadecimal; see PlanUpdate.partly); only for
    --overwrite."""
    kept: dict[str, str] = {}
    """Columns that came with the images, and their kinds."""
    decision: Decision | None = None
    """What the first process decided on the precision: it holds for the run."""


class Ready(_Frozen):
    """The classifier is open: inference begins."""

    kind: Literal["ready"] = "ready"
    backend: str
    precision: str
    device: str
    engine_key: str | None
    engine_built: bool | None
    engine_seconds: float | None
    decision: Decision
    self_test: tuple[Check, ...] | None = None
    """What the model was tested for; None where it was not, or by an earlier process."""
    reached: dict[str, float]
    """When the process had got how far, by `time.monotonic`, which all processes share."""


class Started(_Frozen):
    """The first image of a shard was asked for; until it is published, a crash may be its fault."""

    kind: Literal["started"] = "started"
    shard: str


class Advanced(_Frozen):
    """So many images have been through the classifier since this process began."""

    kind: Literal["advanced"] = "advanced"
    done: int
    errors: int


class Published(_Frozen):
    """The shard's file is in the table, put there by this process or by an overlapping run.

    Attributes:
        rows: Images of it that this process computed.
        errors: Those without a label.
    """

    kind: Literal["published"] = "published"
    shard: str
    rows: int
    errors: int


class SetAside(_Frozen):
    """The shard cannot be done, which is no fault of this process: it goes on with the others."""

    kind: Literal["set_aside"] = "set_aside"
    shard: str
    reason: str


class Notice(_Frozen):
    """A log record of the process."""

    kind: Literal["notice"] = "notice"
    level: int
    text: str


class Failed(_Frozen):
    """The process ends because of an error."""

    kind: Literal["failed"] = "failed"
    error: str
    text: str
    exit_code: int
    out_of_memory: bool
    batch_size: int
    transient: bool
    """Whether the same step may succeed a little later, as after a hiccup of a network mount."""
    restart: bool
    """Whether a new process may succeed where this one cannot go on."""


Message = Ready | Started | Advanced | Published | SetAside | Notice | Failed

_MESSAGE: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="kind")])


def read_message(line: bytes) -> Message:
    """Parse one line.

    Raises:
        ValueError: It is no message.
    """
    return _MESSAGE.validate_json(line)
