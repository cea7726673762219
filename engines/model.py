"""From a path to a classifier's model: found, checked, explained, wrapped, identified."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx
from onnx import ModelProto

from engines.activation import Requested, recognize
from engines.batching import free_batch
from engines.embedding import Embedding, find_embedding, measure_embedding
from engines.errors import ModelError
from engines.external_data import read_model
from engines.graph import GraphInfo, inspect
from engines.labels import Labels, LabelType, find_labels
from engines.locate import locate
from engines.opset_runtime import settle_operators
from engines.preprocess import PreprocessOverrides, PreprocessSpec, resolve
from engines.preprocess.config_file import is_there, read_json
from engines.preprocess.overrides import flag
from engines.preprocess.timm import check_classes
from engines.probe import count_classes
from engines.prune import drop_unused, unzip
from engines.wrap import Activation, columns, wrap

__all__ = ["Model", "ModelRequest", "load_model"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """Which model, and what the user says of it.

    Attributes:
        path: An .onnx file, or a folder that holds one and its configuration.
        sha256: The digest that it must have, see `ModelFiles`; None takes any.
        preprocess: 'auto', the name of a preset, or the path of a configuration file.
        overrides: Flags that win over what a file or preset says of preprocessing.
        labels: A file that names the classes, or 'imagenet-1k'; None looks beside the model.
        label_type: What to call a class that has an identifier and a description of it.
        activation: What turns the model's output into scores; 'auto' finds out.
        output_name: The output to take; None finds it.
        top_k: Labels wanted for an image.
        save_embedding: Give the tensor before the model's last layer as well.
        embedding_name: The tensor to give instead.
        any_size: Leave the size of `images` open, for one engine that serves several resolutions;
            the preprocessing still picks one.
    """

    path: Path
    sha256: str | None = None
    preprocess: str = "auto"
    overrides: PreprocessOverrides = field(default_factory=PreprocessOverrides)
    labels: Path | None = None
    label_type: LabelType = "description"
    activation: Requested = "auto"
    output_name: str | None = None
    top_k: int = 5
    save_embedding: bool = False
    embedding_name: str | None = None
    any_size: bool = False

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise ValueError(f"top_k is {self.top_k}; expected 1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A classifier that any backend can run, in this process or, pickled, in another one.

    Attributes:
        name: Of the folder or file, fit for a path segment.
        model_id: `<name>@<12 hexadecimal digits>`: what the scores depend on, see `load_model`.
        digest: SHA-256 of the ONNX file and its data; see `ModelFiles`.
        files: Name of each file of the model to its SHA-256.
        labels: Name of each class; position is label_id.
        labels_digest: SHA-256 of the names.
        spec: Preprocessing; `spec.host` is the part that the graph does not do.
        activation: What the graph applies to the model's output.
        ends_in_softmax: Whether the model's own last operator promises rows that add up to 1.
        output_name: The model's output that holds the scores.
        top_k: Labels wanted for an image.
        embedding: What the graph gives as `embedding`; None where it does not.
        sources: Field of the preprocessing, 'labels', 'activation', 'output' and 'embedding' (where
            there is one) to where its value came from, in words.
        graph: The wrapped ONNX model, serialised, all weights inside; see `engines.wrap`.
    """

    name: str
    model_id: str
    digest: str
    files: Mapping[str, str]
    labels: tuple[str, ...]
    labels_digest: str
    spec: PreprocessSpec
    activation: Activation
    output_name: str
    top_k: int
    embedding: Embedding | None
    sources: Mapping[str, str]
    graph: bytes = field(repr=False)
    ends_in_softmax: bool = False

    @property
    def classes(self) -> int:
        """Scores of an image."""
        return len(self.labels)

    @property
    def k(self) -> int:
        """Columns of `scores` and `label_ids`: top_k, but at least two where there are two."""
        return columns(self.top_k, self.classes)

    @property
    def input_height(self) -> int:
        """Rows of `images`."""
        return self.spec.host.height

    @property
    def input_width(self) -> int:
        """Columns of `images`."""
        return self.spec.host.width


def load_model(request: ModelRequest) -> Model:
    """Read a model and everything that says how to use it.

    `model_id` is the same wherever and whenever the ONNX file and its data, the preprocessing
    (input size included), the names of the classes, the output and the activation are. It does not
    depend on top_k, the embedding, backend or precision.

    Raises:
        ModelError: There is no such model; it is damaged, unsafe or not an image classifier; or
            its preprocessing or labels are missing, ambiguous or contradict it.
    """
    where = locate(request.path)
    files = read_model(where.file, request.sha256)
    settle_operators(files.proto)
    keys = unzip(files.proto.graph)
    info = inspect(files.proto, output_name=request.output_name)
    metadata_props = {entry.key: entry.value for entry in files.proto.metadata_props}
    resolved = resolve(
        request.path,
        preprocess=request.preprocess,
        overrides=request.overrides,
        graph_size=(info.height, info.width),
        metadata_props=metadata_props,
    )
    spec = resolved.spec
    if request.any_size:
        _check_takes_any_size(info, request.path)
    classes = info.classes or count_classes(files.proto, info, spec.host.height, spec.host.width)
    config = _config(request, where.folder, classes)
    labels = _labels(request, where.folder, config, metadata_props, keys, info, classes)
    recognized = recognize(
        request.activation, files.proto, info, spec, config=config, classes=classes
    )
    activation = recognized.activation
    sources = {
        **_applied(resolved.sources, info, request.overrides),
        "activation": recognized.source,
        "labels": labels.source,
        "output": "--output-name" if request.output_name else "the graph",
    }
    embedding, said = _wrap(files.proto, info, spec, request, classes, activation)
    sources |= said
    return Model(
        name=where.name,
        model_id=f"{where.name}@{_identity(files.digest, spec, labels, activation, info)[:12]}",
        digest=files.digest,
        files=files.files,
        labels=labels.names,
        labels_digest=labels.digest,
        spec=spec,
        activation=activation,
        output_name=info.output_name,
        top_k=request.top_k,
        embedding=embedding,
        sources=sources,
        graph=_checked(files.proto, request.path),
        ends_in_softmax=recognized.ends_in_softmax,
    )


def _config(request: ModelRequest, folder: Path, classes: int) -> Mapping[str, object]:
    """The content of config.json; empty where there is none."""
    file = folder / "config.json"
    config = read_json(file) if is_there(file) else {}
    if request.labels is None and request.preprocess == "auto":
        check_classes(config, classes)
    return config


def _labels(
    request: ModelRequest,
    folder: Path,
    config: Mapping[str, object],
    metadata_props: Mapping[str, str],
    keys: Mapping[str, Sequence[str]],
    info: GraphInfo,
    classes: int,
) -> Labels:
    return find_labels(
        folder,
        config,
        classes=classes,
        file=request.labels,
        label_type=request.label_type,
        keys=keys.get(info.output_name, ()),
        metadata_props=metadata_props,
        preprocess=request.preprocess,
        output_name=info.output_name,
    )


def _wrap(
    proto: ModelProto,
    info: GraphInfo,
    spec: PreprocessSpec,
    request: ModelRequest,
    classes: int,
    activation: Activation,
) -> tuple[Embedding | None, dict[str, str]]:
    """Wrap the model in place, for any batch; returns its embedding and what is to be said."""
    tensor = None
    if request.save_embedding:
        tensor = find_embedding(proto, info.output_name, request.embedding_name)
    wrap(
        proto,
        info,
        spec,
        classes=classes,
        activation=activation,
        top_k=request.top_k,
        any_size=request.any_size,
        embedding=tensor,
    )
    drop_unused(proto.graph)
    size = spec.host.height, spec.host.width
    sources = {"batch": free_batch(proto, info, *size, any_size=request.any_size)}
    if tensor is None:
        return None, sources
    named = request.embedding_name is not None
    sources["embedding"] = "--embedding-name" if named else "the input of the last layer"
    return measure_embedding(proto, tensor, batch=None, height=size[0], width=size[1]), sources


def _check_takes_any_size(info: GraphInfo, path: Path) -> None:
    if (info.height, info.width) != (None, None):
        raise ModelError(
            f"--image-size: the graph of {path} takes images of {info.height}x{info.width}"
            " only; export it with dynamic height and width, or leave --image-size out"
        )


def _applied(
    sources: Mapping[str, str], info: GraphInfo, flags: PreprocessOverrides
) -> Mapping[str, str]:
    """The sources, where all is applied: a model of uint8 normalises, whatever its files say.

    Raises:
        ModelError: The user says something else, which cannot be done.
    """
    if info.dtype != "uint8":
        return sources
    asked = [name for name in flags.given if name in ("mean", "std")]
    asked += ["pixel_range"] * (flags.pixel_range not in (None, "0-255"))
    if asked:
        raise ModelError(
            f"{', '.join(map(flag, asked))}: the model's graph takes uint8 pixels of 0 to 255 and"
            " normalises by itself. Leave it out; --pixel-range 0-255 is what holds"
        )
    normalisation = ("mean", "std", "pixel_range")
    return {**sources, **dict.fromkeys(normalisation, "not applied: the graph takes uint8")}


def _identity(
    digest: str, spec: PreprocessSpec, labels: Labels, activation: Activation, info: GraphInfo
) -> str:
    ingredients = {
        "onnx": digest,
        "preprocess": spec.digest(),
        "labels": labels.digest,
        "activation": activation,
        "output": info.output_name,
    }
    return hashlib.sha256(json.dumps(ingredients, sort_keys=True).encode()).hexdigest()


def _checked(wrapped: ModelProto, path: Path) -> bytes:
    """The wrapped graph, serialised and valid."""
    graph: bytes = wrapped.SerializeToString()
    try:
        onnx.checker.check_model(graph)
    except onnx.checker.ValidationError as error:
        raise ModelError(f"{path} is not a valid ONNX model: {error}") from error
    return graph
