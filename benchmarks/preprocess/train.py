"""Train eight models of 32x32 images, each with another preprocessing, and write them as ONNX.

    python -m benchmarks.preprocess.train FOLDER

Six read digits, where colour says nothing, and two tell six colours apart, where it says all. Takes
five minutes on two cores; needs PyTorch and scikit-learn (`pip install nightshift[export]`).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.preprocess.kinds import PREPROCESSING
from benchmarks.preprocess.networks import Rescaling, ResNet, VisionTransformer

__all__ = ["main"]

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]

SEED = 5
BATCH = 64
HELD_OUT = 360
DRAWINGS = 5

COLOURS = np.array(
    [(200, 60, 60), (60, 60, 200), (60, 170, 60), (200, 170, 50), (150, 60, 180), (60, 180, 190)],
    np.float32,
)


def main() -> None:
    """Train and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # so that two runs on one machine give the same models
    digits, colours = data()
    np.savez_compressed(
        folder / "images.npz",
        digits=digits[2],
        digits_labels=digits[3],
        colours=colours[2],
        colours_labels=colours[3],
    )
    for task, kind, preprocessing, epochs, rate in (
        ("digits", "resnet", "imagenet", 4, 4e-3),
        ("digits", "resnet", "caffe", 4, 4e-3),
        ("digits", "resnet", "unit", 4, 4e-3),
        ("digits", "rescaling", "raw", 4, 4e-3),
        ("digits", "vit", "signed", 6, 2e-3),
        ("digits", "vit", "imagenet", 6, 2e-3),
        ("colours", "resnet", "imagenet", 2, 4e-3),
        ("colours", "resnet", "caffe", 2, 4e-3),
    ):
        images, labels, held_out, answers = digits if task == "digits" else colours
        network = build(kind, classes=int(labels.max()) + 1)
        train(network, images, labels, preprocessing, epochs=epochs, rate=rate)
        with torch.no_grad():
            found = network(prepared(held_out, preprocessing)).argmax(1).numpy()
        name = f"{task}-{kind}-{preprocessing}"
        export(network, folder / f"{name}.onnx")
        (folder / f"{name}.json").write_text(
            json.dumps({"task": task, "preprocessing": preprocessing})
        )
        print(f"{name}: {(found == answers).mean():.3f} of {len(answers)} held-out images")


def data() -> tuple[tuple[Images, Labels, Images, Labels], ...]:
    """Images and labels to train on, and held-out ones: of digits, and of colours."""
    from sklearn.datasets import load_digits

    # The example is made of scripts, not of a package.
    path = Path(__file__).parents[2] / "examples/digits/render.py"
    described = importlib.util.spec_from_file_location("render", path)
    assert described is not None
    assert described.loader is not None
    render = importlib.util.module_from_spec(described)
    sys.modules["render"] = render  # where its dataclass looks itself up
    described.loader.exec_module(render)
    digits = load_digits()
    strokes, labels = digits.images.astype(np.uint8), digits.target.astype(np.int64)
    order = np.random.default_rng(SEED).permutation(len(labels))

    def draw(indices: Labels, times: int, tag: int) -> tuple[Images, Labels]:
        images = [
            render.draw(strokes[i], np.random.default_rng((tag, int(i), k))).pixels()
            for i in indices
            for k in range(times)
        ]
        return np.stack(images), labels[indices].repeat(times)

    seen, held_out = draw(order[HELD_OUT:], DRAWINGS, 11), draw(order[:HELD_OUT], 1, 12)
    return (*seen, *held_out), (*coloured(seen[0], 1), *coloured(held_out[0], 2))


def coloured(digits: Images, seed: int) -> tuple[Images, Labels]:
    """The same drawings in one of six colours, which is their label."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, len(COLOURS), len(digits))
    shades = COLOURS[labels][:, None, None, :] * rng.uniform(0.7, 1.1, (len(digits), 1, 1, 1))
    shades = shades + rng.normal(0, 12, (len(digits), 1, 1, 3))
    light = 0.35 + 0.65 * digits.astype(np.float32).mean(axis=-1, keepdims=True) / 255
    noise = rng.normal(0, 6, digits.shape)
    return np.clip(shades * light + noise, 0, 255).astype(np.uint8), labels


def build(kind: str, *, classes: int) -> nn.Module:
    """A network with the same first weights every time."""
    torch.manual_seed(7)
    if kind == "vit":
        return VisionTransformer(classes)
    return Rescaling(ResNet(classes)) if kind == "rescaling" else ResNet(classes)


def train(
    network: nn.Module,
    images: Images,
    labels: Labels,
    preprocessing: str,
    *,
    epochs: int,
    rate: float,
) -> None:
    """Train in place, and leave in evaluation mode."""
    torch.manual_seed(3)
    steps = len(images) // BATCH
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rate, epochs=epochs, steps_per_epoch=steps
    )
    answers = torch.from_numpy(labels)
    for _ in range(epochs):
        order = torch.randperm(len(images))
        for step in range(steps):
            chosen = order[step * BATCH : (step + 1) * BATCH]
            scores = network(prepared(images[chosen.numpy()], preprocessing))
            optimizer.zero_grad()
            nn.functional.cross_entropy(scores, answers[chosen]).backward()
            optimizer.step()
            schedule.step()
    network.eval()


def prepared(images: Images, preprocessing: str) -> torch.Tensor:
    """float32 [count, 3, 32, 32] as `PreprocessSpec` describes it."""
    fields = PREPROCESSING[preprocessing]
    values = torch.from_numpy(images).float()
    if fields.get("channel_order") == "bgr":
        values = values.flip(-1)
    values = values * fields["scale"] + fields.get("offset", 0.0)
    values = values - torch.tensor(fields.get("mean", (0.0, 0.0, 0.0)))
    return (values / torch.tensor(fields.get("std", (1.0, 1.0, 1.0)))).permute(0, 3, 1, 2)


def export(network: nn.Module, path: Path) -> None:
    """Write one file with a free batch."""
    axes = {"x": {0: "batch"}, "logits": {0: "batch"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the older exporter needs no further package
        torch.onnx.export(
            network,
            (torch.zeros(2, 3, 32, 32),),
            path,
            dynamo=False,
            opset_version=17,
            input_names=["x"],
            output_names=["logits"],
            dynamic_axes=axes,
        )


if __name__ == "__main__":
    main()
