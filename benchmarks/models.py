"""Writes ResNets with random weights as ONNX model folders: the right work for a benchmark.

    python -m benchmarks.models resnet50 OUT --whiten-on IMAGES

Speed does not depend on what finite values the weights have. Labels do, and with them every
comparison of precisions: `whiten_last_layer` makes the last layer tell images apart.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import cyclopts
import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from benchmarks.resnet import BLOCKS, FEATURES, Architecture, build_resnet

__all__ = ["RANDOM_WEIGHTS", "whiten_last_layer", "write_model_folder"]

RANDOM_WEIGHTS = ("--gate-agreement", "0.9")
"""For our commands: without training an image is a close call between some of a thousand classes,
and rounding to fp16 alone flips about one in a hundred."""

Floats = NDArray[np.float32]

# ImageNet's channel statistics and the test-time resizing of ResNet's authors, as in torchvision.
IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)
RESIZE_RATIO = 256 / 224

# A direction weaker than this share of the strongest one would turn rounding errors into labels.
WHITENING_FLOOR = 0.02
WHITENING_BATCH = 16  # images run at once, to bound memory
CENTRE = "fc.centre"  # what is subtracted from the features, float32 [features]


def write_model_folder(
    architecture: Architecture,
    folder: Path,
    *,
    seed: int = 0,
    size: int = 224,
    dynamic_size: bool = False,
    classes: int = 1000,
) -> None:
    """Write model.onnx, config.json and preprocessor_config.json.

    Args:
        architecture: 'resnet18' or 'resnet50'.
        folder: Folder to make; files of these names in it are replaced.
        seed: Decides the weights.
        size: Height and width in pixels that images are cropped to.
        dynamic_size: Leave height and width of the model's input free.
        classes: Number of labels, named class_0000 and so on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = build_resnet(
        architecture, seed=seed, size=None if dynamic_size else size, classes=classes
    )
    onnx.save_model(model, folder / "model.onnx")
    _write_json(folder / "config.json", _model_config(architecture, size, classes))
    _write_json(folder / "preprocessor_config.json", _preprocessor_config(size))


def whiten_last_layer(folder: Path, images: Path, count: int) -> None:
    """Rewrite the last layer of model.onnx so that real images get all kinds of labels.

    The features that random weights give differ little between images, beside what they have in
    common: every image would get the same label. With F, float64 [n, d], the features of n images,
    mu their mean, F - mu = U diag(s) V^T its singular value decomposition, and of that the r
    strongest directions, as many as there are classes but only those with
    s_i >= WHITENING_FLOOR s_1, the new layer is

        logits(f) = R z(f),   z(f) = sqrt(n) diag(1/s) V^T (f - mu).

    On these images z has mean 0 and covariance 1. The rows of R, [classes, r], have length 1, so
    every logit has mean 0 and variance 1. With no more classes than directions, R is a random
    orthogonal matrix and no two logits correlate: were they normal, the best two of 8 would lie
    0.44 apart in the median and less than 0.025 in 3.5 % of images. With more classes the rows are
    random and logits correlate as their rows do, by about 1/sqrt(r): margins shrink with every
    class. A comparison of precisions wants few.

    f - mu is a node of its own. Folded into the bias, both W f and W mu would be many times the
    size of the logits, and in fp16 their rounding errors too.

    Args:
        folder: Model folder from `write_model_folder`.
        images: Folder of images, searched recursively for .jpg files.
        count: Number of images to use, the first in order of their paths.

    Raises:
        ValueError: There are fewer than two images.
    """
    path = folder / "model.onnx"
    model = onnx.load_model(path)
    sources = list(islice(sorted(images.rglob("*.jpg")), count))
    if len(sources) < 2:
        raise ValueError(f"{images} holds {len(sources)} .jpg files; whitening needs at least 2")
    config = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
    features = _features(model, sources, config["crop_size"]["height"])
    (logits,) = model.graph.output
    classes = logits.type.tensor_type.shape.dim[1].dim_value
    _replace_last_layer(model, *_whitening_layer(features, classes))
    onnx.save_model(model, path)


def _whitening_layer(features: Floats, classes: int) -> tuple[Floats, Floats]:
    """Return mu [d] and the weight [classes, d] by the formula of `whiten_last_layer`."""
    centre = features.mean(0, dtype=np.float64)
    _, strengths, directions = np.linalg.svd(features - centre, full_matrices=False)
    kept = min(classes, int(np.count_nonzero(strengths >= WHITENING_FLOOR * strengths[0])))
    whiten = directions[:kept] * (len(features) ** 0.5 / strengths[:kept, None])
    rows = np.random.default_rng(0).standard_normal((classes, kept))
    if classes == kept:
        rows, _ = np.linalg.qr(rows)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return centre.astype(np.float32), (rows @ whiten).astype(np.float32)


def _replace_last_layer(model: onnx.ModelProto, centre: Floats, weight: Floats) -> None:
    """Make the last layer `weight` (features - centre), whether it has a centre yet or not."""
    nodes, weights = model.graph.node, model.graph.initializer
    bias = np.zeros(len(weight), np.float32)
    values = {CENTRE: centre, "fc.weight": weight, "fc.bias": bias}
    kept = [tensor for tensor in weights if tensor.name not in values]
    del weights[:]
    weights.extend(kept)
    weights.extend(numpy_helper.from_array(array, name) for name, array in values.items())
    last = nodes[-1]
    if last.input[0] == FEATURES:
        last.input[0] = "centred"
        centring = helper.make_node("Sub", [FEATURES, CENTRE], ["centred"], "centred")
        nodes.insert(len(nodes) - 1, centring)


def _features(model: onnx.ModelProto, sources: Sequence[Path], size: int) -> Floats:
    """Read what the last layer is given for each image; float32 [images, features]."""
    probed = onnx.ModelProto()
    probed.CopyFrom(model)
    probed.graph.output.append(helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(
        probed.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    batches = []
    for start in range(0, len(sources), WHITENING_BATCH):
        chosen = sources[start : start + WHITENING_BATCH]
        pixels = np.stack([_preprocess(source, size) for source in chosen])
        batches.append(session.run([FEATURES], {"pixel_values": pixels})[0])
    return np.concatenate(batches)


def _preprocess(source: Path, size: int) -> Floats:
    """Do what preprocessor_config.json says; float32 [3, size, size]."""
    with Image.open(source) as image:
        rgb = image.convert("RGB")
    shortest = _shortest_edge(size)
    width, height = (shortest * side // min(rgb.size) for side in rgb.size)
    left, top = (width - size) // 2, (height - size) // 2
    resized = rgb.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(resized.crop((left, top, left + size, top + size)), np.float32)
    mean, std = np.array(IMAGE_MEAN, np.float32), np.array(IMAGE_STD, np.float32)
    normalized: Floats = (pixels / np.float32(255) - mean) / std
    return normalized.transpose(2, 0, 1)


def _shortest_edge(size: int) -> int:
    return round(size * RESIZE_RATIO)


def _model_config(architecture: Architecture, size: int, classes: int) -> dict[str, object]:
    names = [f"class_{index:04d}" for index in range(classes)]
    return {
        "architectures": ["ResNetForImageClassification"],
        "model_type": "resnet",
        "layer_type": "basic" if architecture == "resnet18" else "bottleneck",
        "depths": list(BLOCKS[architecture]),
        "problem_type": "single_label_classification",
        "image_size": size,
        "num_channels": 3,
        "num_labels": classes,
        "id2label": {str(index): name for index, name in enumerate(names)},
        "label2id": {name: index for index, name in enumerate(names)},
    }


def _preprocessor_config(size: int) -> dict[str, object]:
    return {
        "image_processor_type": "BitImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": _shortest_edge(size)},
        "resample": 2,  # bilinear
        "do_center_crop": True,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(IMAGE_MEAN),
        "image_std": list(IMAGE_STD),
    }


def _write_json(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def main(
    architecture: Architecture,
    out: Path,
    /,
    *,
    seed: int = 0,
    size: int = 224,
    dynamic_size: bool = False,
    classes: int = 1000,
    whiten_on: Path | None = None,
    whiten_count: int = 512,
) -> None:
    """Write a ResNet as an ONNX model folder.

    Args:
        architecture: Which ResNet.
        out: Folder to make.
        seed: Decides the weights.
        size: Height and width in pixels.
        dynamic_size: Leave height and width of the model's input free.
        classes: Number of labels.
        whiten_on: Folder of JPEGs that the last layer is fitted to, so that their labels differ.
        whiten_count: Number of images to fit it to.
    """
    write_model_folder(
        architecture, out, seed=seed, size=size, dynamic_size=dynamic_size, classes=classes
    )
    if whiten_on is not None:
        whiten_last_layer(out, whiten_on, whiten_count)


if __name__ == "__main__":
    cyclopts.run(main)
