"""The footer of a finished file: of which images its rows are, and what computed them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from shards.errors import DamagedFileError, OutputError
from shards.place import Place, footer_source

__all__ = [
    "FOOTER_KEY",
    "SCHEMA_VERSION",
    "WORK_SCHEMA",
    "FooterInfo",
    "Provenance",
    "read_footer",
    "reading",
]

# Additions raise the minor number; anything that could break a query raises the major one.
SCHEMA_VERSION = "1.2"

WORK_SCHEMA = "1.0"
"""What work keys hold of it: additions make no finished row stale."""

FOOTER_KEY = b"nightshift"

SEALED_SINCE = (1, 2)
"""The version of the table from which every file has a seal (shards.seal)."""

ADDED_LATER: dict[str, Any] = {
    "requested_precision": None,
    "gate": None,
    "runs": None,
    "rewrite": None,
}
"""Keys of the footer that files of 1.0 lack, the last two also those of 1.1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What computed the rows of one run; the same in every file of it.

    Attributes:
        tool_version: Nightshift's.
        run_id: As in the rows, and the name of the run's record.
        model_id: As in the partition's name.
        model_digest: SHA-256 of the ONNX file and its external data.
        preprocess: The preprocessing spec, every field of it.
        labels_digest: SHA-256 of the labels.
        backend: 'onnxruntime' or 'tensorrt'.
        precision: 'fp32', 'fp16', 'bf16' or 'int8'.
        requested_precision: What was asked for, as 'auto'; None in files of versions before 1.1.
        gate: What the accuracy gate found: `status`, `why`, and `trials`, one for each candidate
            that was compared with fp32; None in files of versions before 1.1.
        device: The processor or GPU by name.
        versions: Library name to version.
        engine_key: Key of the engine in the store; None where nothing is built.
        parameters: The run's other parameters.
    """

    tool_version: str
    run_id: str
    model_id: str
    model_digest: str
    preprocess: Mapping[str, Any]
    labels_digest: str
    backend: str
    precision: str
    device: str
    versions: Mapping[str, str]
    engine_key: str | None
    parameters: Mapping[str, Any]
    requested_precision: str | None = None
    gate: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FooterInfo:
    """The JSON under the key `nightshift` in a finished file's footer.

    Attributes:
        schema_version: Of the table, as '1.2'.
        work_key: Says of which images and model these are the rows.
        rows: Images.
        ok: Images with a label.
        errors: Images without.
        errors_by_kind: Those by error_kind.
        provenance: What computed them, or, where a file has rows of several runs, the latest.
        runs: Rows by the run that computed them; None in files of versions before 1.2.
        rewrite: What the file has in common with the one that it replaced, in rows: `kept`;
            computed because the images `changed`, were `added`, or `overwritten` or errors
            `retried` on demand; `removed` for images that are gone; and the `run_id` that did it.
            None where it replaced none.
    """

    schema_version: str
    work_key: str
    rows: int
    ok: int
    errors: int
    errors_by_kind: Mapping[str, int]
    provenance: Provenance
    runs: Mapping[str, int] | None = None
    rewrite: Mapping[str, Any] | None = None

    @property
    def has_seal(self) -> bool:
        """Whether files of its version are sealed."""
        major, minor = self.schema_version.split(".")[:2]
        return (int(major), int(minor)) >= SEALED_SINCE

    def to_json(self) -> bytes:
        """Return one flat JSON object."""
        flat = asdict(self)
        flat |= flat.pop("provenance")
        return json.dumps(flat, allow_nan=False).encode()

    @classmethod
    def from_json(cls, text: bytes) -> FooterInfo:
        """Read what `to_json` wrote, here or in a later 1.x, whose additions are left out.

        Raises:
            ValueError: It is something else.
        """
        flat = json.loads(text)
        if not isinstance(flat, dict) or not str(flat.get("schema_version")).startswith("1."):
            raise ValueError("schema_version is not 1.x")
        own = {field.name for field in fields(cls)} - {"provenance"}
        shared = {field.name for field in fields(Provenance)}
        flat = ADDED_LATER | flat
        if missing := sorted((own | shared) - flat.keys()):
            raise ValueError(f"{', '.join(missing)} missing")
        return cls(
            **{name: flat[name] for name in own},
            provenance=Provenance(**{name: flat[name] for name in shared}),
        )


def read_footer(path: Place) -> FooterInfo | None:
    """Return what a finished file says of itself; None where there is no file.

    Raises:
        DamagedFileError: It is damaged, or Nightshift did not write it.
        OutputError: It cannot be read.
    """
    try:
        with reading(path), footer_source(path) as source:
            metadata = pq.read_metadata(source)
            footer = FooterInfo.from_json((metadata.metadata or {}).get(FOOTER_KEY, b"null"))
            if footer.rows != metadata.num_rows:
                raise ValueError(f"{metadata.num_rows} rows instead of {footer.rows}")
    except FileNotFoundError:
        return None
    return footer


@contextmanager
def reading(path: Place) -> Iterator[None]:
    """Turn what readers say of a file of the table into an error that says what to do.

    Raises:
        DamagedFileError: Its bytes are not those that were written.
        FileNotFoundError: It is not there.
        OutputError: It cannot be read.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, ValueError, pa.ArrowException) as error:
        if isinstance(error, OSError) and error.errno is not None:  # Parquet's own have none
            raise _unreadable(path, error) from error
        raise DamagedFileError(
            f"{path} is damaged, or not a file of this Nightshift: {str(error).rstrip('.')}. "
            "Move it away and run the same command again: its images are computed again."
        ) from error


def _unreadable(path: Place, error: OSError) -> OutputError:
    return OutputError(
        f"cannot read {path}: {(error.strerror or str(error)).rstrip('.')}. Remove the cause, then "
        "run the same command again: finished shards are kept."
    )
