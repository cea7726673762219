"""The plan of the simulator: a header in JSON, then the ONNX graph."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

__all__ = ["MAGIC", "Plan", "read_plan", "write_plan"]

MAGIC = b"simulated plan\n"

Shapes = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a plan says besides its graph."""

    version: str
    device: str
    compute_capability: tuple[int, ...]
    profiles: list[dict[str, Shapes]]
    layers: list[dict]
    verbosity: str
    profile_sharing: bool
    aux_streams: int
    host_code: bool
    name: str
    network: bytes = b""


def write_plan(plan: Plan) -> bytes:
    """Serialize, with a digest over everything."""
    header = {key: value for key, value in asdict(plan).items() if key != "network"}
    body = json.dumps(header).encode() + b"\n" + plan.network
    return MAGIC + hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def read_plan(data: bytes) -> Plan:
    """Parse; ValueError says what is wrong with the bytes."""
    if not data.startswith(MAGIC):
        raise ValueError("the magic tag does not match")
    digest, _, body = data[len(MAGIC) :].partition(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise ValueError("the checksum does not match")
    header, _, network = body.partition(b"\n")
    fields = json.loads(header)
    fields["profiles"] = [
        {name: tuple(tuple(shape) for shape in shapes) for name, shapes in profile.items()}
        for profile in fields["profiles"]
    ]
    return Plan(**fields, network=network)
