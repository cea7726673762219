"""Train a ResNet-18 on the composed digits; write it as an ONNX folder with its configuration."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
import torchvision
from torch import nn

from benchmarks.clutter.images import CONTRAST, SIDE, Composer, compose_many

__all__ = ["main"]

SEED = 20_261_122
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
INPUT = 224
BATCH = 256


def load(composer: Composer, count: int, processes: int, device: str) -> list[torch.Tensor]:
    """Return images uint8 [count, 3, 256, 256] and digits int64 [count], on the device."""
    images = torch.empty((count, 3, SIDE, SIDE), dtype=torch.uint8, device=device)
    answers = torch.empty(count, dtype=torch.int64, device=device)
    first = 0
    for chunk, labels in compose_many(composer, count, processes):
        last = first + len(chunk)
        images[first:last] = torch.from_numpy(chunk.transpose(0, 3, 1, 2).copy()).to(device)
        answers[first:last] = torch.from_numpy(labels).to(device)
        first = last
    return [images, answers]


def normalise(images: torch.Tensor, top: int, left: int) -> torch.Tensor:
    """Cut out 224x224 and normalise as ImageNet's models do."""
    mean, std = (torch.tensor(t, device=images.device).view(3, 1, 1) for t in (MEAN, STD))
    part = images[:, :, top : top + INPUT, left : left + INPUT].float()
    return ((part / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


def train(data: list[torch.Tensor], epochs: int) -> nn.Module:
    """Train from random weights: SGD with one cycle, label smoothing, random cuts and contrast."""
    images, answers = data
    device = images.device
    model = torchvision.models.resnet18(num_classes=10).to(
        device, memory_format=torch.channels_last
    )
    optimiser = torch.optim.SGD(
        model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True
    )
    steps = epochs * (len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.2, total_steps=steps)
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.1)
    generator = torch.Generator().manual_seed(SEED)
    for epoch in range(epochs):
        order = torch.randperm(len(images), generator=generator)
        for step in range(len(images) // BATCH):
            chosen = order[step * BATCH : (step + 1) * BATCH].to(device)
            top, left = torch.randint(0, SIDE - INPUT + 1, (2,), generator=generator).tolist()
            with torch.autocast(device.type, dtype=torch.bfloat16):
                loss = loss_of(model(normalise(images[chosen], top, left)), answers[chosen])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
        print(f"epoch {epoch + 1} of {epochs}: loss {loss.item():.3f}", flush=True)
    return model.eval()


def accuracy(model: nn.Module, data: list[torch.Tensor]) -> float:
    """Share of images whose digit the model names, in fp32."""
    images, answers = data
    middle = (SIDE - INPUT) // 2
    right = 0
    with torch.no_grad():
        for first in range(0, len(images), BATCH):
            part = slice(first, first + BATCH)
            logits = model(normalise(images[part], middle, middle))
            right += int((logits.argmax(1) == answers[part]).sum())
    return right / len(images)


def export(model: nn.Module, folder: Path) -> None:
    """Write model.onnx with a free batch, and a timm-style config.json that says how to feed it."""
    folder.mkdir(parents=True, exist_ok=True)
    cpu = model.to("cpu", memory_format=torch.contiguous_format)
    torch.onnx.export(
        cpu,
        (torch.zeros(1, 3, INPUT, INPUT),),
        str(folder / "model.onnx"),
        input_names=["input"],
        output_names=["logits"],
        dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}},
        opset_version=17,
        dynamo=False,
    )
    pretrained = {
        "input_size": [3, INPUT, INPUT],
        "interpolation": "bilinear",
        "crop_pct": INPUT / SIDE,
        "crop_mode": "center",
        "mean": MEAN,
        "std": STD,
        "num_classes": 10,
        "label_names": [str(digit) for digit in range(10)],
    }
    config = {"architecture": "resnet18", "num_classes": 10, "pretrained_cfg": pretrained}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def main() -> None:
    """Train, evaluate, export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=60_000)
    parser.add_argument("--held-out", type=int, default=4_000)
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--processes", type=int, default=16)
    parser.add_argument("--contrast", type=float, nargs=2, default=CONTRAST)
    parser.add_argument("--device", default="cuda")
    arguments = parser.parse_args()
    torch.manual_seed(SEED)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
    started = time.monotonic()
    contrast = (arguments.contrast[0], arguments.contrast[1])
    training, held_out = (
        load(
            Composer(arguments.sources, split, contrast),
            count,
            arguments.processes,
            arguments.device,
        )
        for split, count in (("train", arguments.images), ("held_out", arguments.held_out))
    )
    print(f"composed in {time.monotonic() - started:.0f} s", flush=True)
    model = train(training, arguments.epochs)
    print(f"trained after {time.monotonic() - started:.0f} s")
    result = {
        "held_out_top1": accuracy(model, held_out),
        "training_top1": accuracy(model, [part[:4000] for part in training]),
        "contrast": contrast,
        "seed": SEED,
        "images": arguments.images,
        "epochs": arguments.epochs,
        "torch": torch.__version__,
    }
    export(model, arguments.folder)
    (arguments.folder / "training.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
