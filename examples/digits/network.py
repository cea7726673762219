"""The small convolutional network of the example, its training and its ONNX model folder."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

__all__ = ["CLASS_NAMES", "accuracy", "train", "write_model_folder"]

CLASS_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
INPUT_SIDE = 32  # pixels

EPOCHS = 12
BATCH_SIZE = 64
PEAK_LEARNING_RATE = 4e-3
WEIGHT_DECAY = 0.02


def build_network() -> nn.Sequential:
    """Build four convolutions and a linear layer: 83,000 parameters, 3.7 million multiply-adds.

    Returns:
        float32 [batch, 3, 32, 32] to float32 [batch, 10] logits.
    """
    layers: list[nn.Module] = []
    for channels_in, channels_out in ((3, 16), (16, 32), (32, 64), (64, 96)):
        layers += [
            nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]
    side = INPUT_SIDE // 16  # four poolings
    layers += [nn.Flatten(), nn.Dropout(0.25), nn.Linear(96 * side * side, len(CLASS_NAMES))]
    return nn.Sequential(*layers)


def normalize(images: torch.Tensor) -> torch.Tensor:
    """Do what preprocessor_config.json tells every user of the model to do.

    Args:
        images: uint8 [batch, 32, 32, 3].

    Returns:
        float32 [batch, 3, 32, 32], -1 to 1.
    """
    return (images.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5


def train(images: torch.Tensor, labels: torch.Tensor, *, seed: int) -> nn.Sequential:
    """Train from scratch, in one thread, so that equal inputs give equal bits.

    Args:
        images: uint8 [count, 32, 32, 3].
        labels: int64 [count].
        seed: Decides the first weights, the order of the images and the dropout.

    Returns:
        The network in evaluation mode.
    """
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(seed)
    network = build_network()
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, PEAK_LEARNING_RATE, epochs=EPOCHS, steps_per_epoch=len(images) // BATCH_SIZE
    )
    for epoch in range(EPOCHS):
        total = torch.zeros(())
        for chosen in _batches(len(images)):
            loss = nn.functional.cross_entropy(network(normalize(images[chosen])), labels[chosen])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += loss.detach()
        print(f"epoch {epoch + 1}/{EPOCHS}: loss {total.item() / (len(images) // BATCH_SIZE):.4f}")
    return network.eval()


def _batches(count: int) -> Iterator[torch.Tensor]:
    """Yield the whole batches of one shuffled pass; the rest waits for the next pass' shuffle."""
    order = torch.randperm(count)
    for start in range(0, count - BATCH_SIZE + 1, BATCH_SIZE):
        yield order[start : start + BATCH_SIZE]


@torch.no_grad()
def accuracy(network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of images (uint8 [count, 32, 32, 3]) whose best logit is their label's."""
    return float((network(normalize(images)).argmax(1) == labels).float().mean())


def write_model_folder(network: nn.Module, folder: Path) -> None:
    """Write model.onnx and the two configs that Hugging Face's tools write beside a model."""
    folder.mkdir(parents=True, exist_ok=True)
    _export(network, folder / "model.onnx")
    _write_json(folder / "config.json", _model_config())
    _write_json(folder / "preprocessor_config.json", _preprocessor_config())


def _export(network: nn.Module, path: Path) -> None:
    """Export one self-contained file of opset 17, with the batch norms folded and a free batch.

    By the older of PyTorch's two exporters: the newer one starts at opset 18, which TensorRT 8.6
    reads only in part, keeps weights in a second file, and needs one more package.
    """
    example = torch.zeros(1, 3, INPUT_SIDE, INPUT_SIDE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            network,
            (example,),
            path,
            dynamo=False,
            opset_version=17,
            input_names=["pixel_values"],
            output_names=["logits"],
            dynamic_axes={"pixel_values": {0: "batch"}, "logits": {0: "batch"}},
        )


def _model_config() -> dict[str, object]:
    return {
        "architectures": ["DigitsForImageClassification"],
        "model_type": "digits",
        "problem_type": "single_label_classification",
        "image_size": INPUT_SIDE,
        "num_channels": 3,
        "num_labels": len(CLASS_NAMES),
        "id2label": {str(index): name for index, name in enumerate(CLASS_NAMES)},
        "label2id": {name: index for index, name in enumerate(CLASS_NAMES)},
    }


def _preprocessor_config() -> dict[str, object]:
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"height": INPUT_SIDE, "width": INPUT_SIDE},
        "resample": 2,  # bilinear
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }


def _write_json(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
