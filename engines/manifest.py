"""Every ingredient of an engine in words: the key it is stored under, and why it was rebuilt."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import Field, asdict, dataclass, field, fields
from typing import Any, Self

__all__ = ["Manifest", "canonical_json", "nearest"]

Value = str | int | bool | None

DIGEST = re.compile("[0-9a-f]{64}")
SHOWN_DIGITS = 12
"""Of a digest, in sentences: enough to find what is meant."""


def _keyed(words: str) -> Any:  # noqa: ANN401 - the type that dataclasses.field declares
    """A field that is part of the key; `words` name it where two manifests are compared."""
    return field(metadata={"words": words, "keyed": True})


def _recorded(words: str) -> Any:  # noqa: ANN401 - the type that dataclasses.field declares
    """A field for the reader: an engine built under another value serves as well."""
    return field(metadata={"words": words, "keyed": False})


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What an engine was, or is to be, built from.

    Attributes:
        graph_digest: sha256 of the wrapped ONNX graph: weights, preprocessing, activation, top-k.
        precision: Recipe and its version, as 'fp16/1'.
        calibration_digest: sha256 of the calibration's scales; None where nothing is calibrated.
        batch: Profile, as '1:256:512'.
        height: Profile, pixels.
        width: Profile, pixels.
        workspace_bytes: Limit of the workspace pool; None is TensorRT's own.
        optimization_level: 0 to 5.
        tf32: Whether fp32 layers may use TF32.
        max_aux_streams: None is TensorRT's own choice.
        version_compatible: Whether later versions may load the engine.
        hardware_compatibility: 'none', 'same_compute_capability' or 'ampere_plus'.
        recipe_version: Version of what our builder asks TensorRT for.
        tensorrt_version: Of the library that built it.
        gpu_name: As the driver names it; a MIG slice has a name of its own.
        compute_capability: As '9.0'.
        model: Name by which earlier engines of the same model are found.
        model_id: The model's identity in the output, '<name>@<digest>'.
        gpu_memory_bytes: All memory of the GPU.
        driver_version: Of the GPU driver.
        cuda_version: Of the CUDA runtime.
        onnx_version: Of the library that wrote the graph.
        onnxruntime_version: Of the library whose converter rewrote it.
    """

    graph_digest: str = _keyed("model graph")
    precision: str = _keyed("precision")
    calibration_digest: str | None = _keyed("calibration")
    batch: str = _keyed("batch size")
    height: str = _keyed("image height")
    width: str = _keyed("image width")
    workspace_bytes: int | None = _keyed("workspace limit")
    optimization_level: int = _keyed("builder optimization level")
    tf32: bool = _keyed("TF32")
    max_aux_streams: int | None = _keyed("auxiliary streams")
    version_compatible: bool = _keyed("version compatibility")
    hardware_compatibility: str = _keyed("hardware compatibility")
    recipe_version: int = _keyed("Nightshift's build recipe")
    tensorrt_version: str = _keyed("TensorRT")
    gpu_name: str = _keyed("the GPU")
    compute_capability: str = _keyed("compute capability")
    model: str = _recorded("model name")
    model_id: str = _recorded("model")
    gpu_memory_bytes: int = _recorded("GPU memory")
    driver_version: str = _recorded("driver")
    cuda_version: str = _recorded("CUDA")
    onnx_version: str = _recorded("onnx")
    onnxruntime_version: str = _recorded("onnxruntime")

    @property
    def computes_in(self) -> str:
        """The precision without the version of its recipe."""
        return self.precision.partition("/")[0]

    def key(self) -> str:
        """Return the name of the engine's folder: sha256 (hex) over every keyed field."""
        keyed = {name: getattr(self, name) for name, spec in _specs().items() if _in_key(spec)}
        return hashlib.sha256(canonical_json(keyed)).hexdigest()

    def to_json(self) -> dict[str, Value]:
        """Return the fields as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: object) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ValueError: A field is missing, unknown or of another type.
        """
        specs = _specs()
        if not isinstance(values, Mapping) or values.keys() != specs.keys():
            raise ValueError("the fields are not those of a manifest")
        for name, spec in specs.items():
            allowed = [part.strip() for part in str(spec.type).split("|")]
            if type(values[name]).__name__.replace("NoneType", "None") not in allowed:
                raise ValueError(f"{name} is {values[name]!r}, expected {spec.type}")
        return cls(**values)

    def differences(self, other: Manifest) -> list[str]:
        """Names of the keyed fields in which two manifests differ."""
        return [
            name
            for name, spec in _specs().items()
            if _in_key(spec) and getattr(self, name) != getattr(other, name)
        ]

    def explain(self, earlier: Manifest) -> list[str]:
        """Say why this manifest needs another engine than an earlier one; [] where it does not."""
        return [self._sentence(earlier, name) for name in self.differences(earlier)]

    def _sentence(self, earlier: Manifest, name: str) -> str:
        if name == "graph_digest":
            old, new = _words(earlier.graph_digest), _words(self.graph_digest)
            if earlier.model_id != self.model_id:
                old, new = f"{earlier.model_id} ({old})", f"{self.model_id} ({new})"
        else:
            old, new = _words(getattr(earlier, name)), _words(getattr(self, name))
        return f"built for {_specs()[name].metadata['words']} {old}, this is {new}"


def nearest(manifest: Manifest, earlier: Iterable[Manifest]) -> Manifest | None:
    """The earlier manifest of the same model with the fewest differences; the first of equals."""
    same_model = [other for other in earlier if other.model == manifest.model]
    return min(same_model, key=lambda other: len(manifest.differences(other)), default=None)


def canonical_json(values: object) -> bytes:
    """Serialize so that equal values give equal bytes: sorted keys, no spaces, ASCII."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _specs() -> dict[str, Field[Any]]:
    return {spec.name: spec for spec in fields(Manifest)}


def _in_key(spec: Field[Any]) -> bool:
    return bool(spec.metadata["keyed"])


def _words(value: Value) -> str:
    """A value as a reader expects it."""
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "on" if value else "off"
    text = str(value)
    return text[:SHOWN_DIGITS] if DIGEST.fullmatch(text) else text
