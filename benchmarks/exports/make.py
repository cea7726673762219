"""Export real architectures for a batch of one, by both of PyTorch's exporters.

Run in an environment of its own, from the clone's root:

    python -m venv /tmp/exports
    /tmp/exports/bin/pip install torch==2.13.0 torchvision timm==1.0.31 onnxscript
    PYTHONPATH=. /tmp/exports/bin/python -m benchmarks.exports.make OUT

Weights are random, and none is zero: timm and torchvision start last layers, layer scales and
tokens at zero, where all images score alike and a wrong graph shows nothing. Depth and width are
cut where the architecture allows.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import timm
import torch
from torch import nn
from torchvision import models as tv
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformerBlockV2

__all__ = ["MODELS", "export"]

CLASSES = 10
LEGACY_OPSET = 17

_SWIN = {"embed_dim": 24, "num_heads": [2, 4], "depths": [2, 2], "num_classes": CLASSES}
_WINDOWS = {
    "img_size": 64,
    "window_size": 4,
    "embed_dim": 24,
    "depths": (2, 2),
    "num_heads": (2, 4),
}
_TOKENS = {"img_size": 64, "depth": 2}
_NARROW = {**_TOKENS, "embed_dim": 48, "num_heads": 3}


def _timm(name: str, **options: object) -> Callable[[], nn.Module]:
    return partial(timm.create_model, name, num_classes=CLASSES, **options)


MODELS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "torchvision resnet18": (partial(tv.resnet18, num_classes=CLASSES), 64),
    "torchvision vit": (
        partial(tv.VisionTransformer, 64, 16, 2, 2, 32, 64, num_classes=CLASSES),
        64,
    ),
    "torchvision swin": (
        partial(tv.SwinTransformer, patch_size=[4, 4], window_size=[4, 4], **_SWIN),
        64,
    ),
    "torchvision swin v2": (
        partial(
            tv.SwinTransformer,
            patch_size=[4, 4],
            window_size=[4, 4],
            block=SwinTransformerBlockV2,
            downsample_layer=PatchMergingV2,
            **_SWIN,
        ),
        64,
    ),
    "torchvision maxvit": (
        partial(tv.MaxVit, (64, 64), 16, 4, [16, 32], [1, 1], 16, 0.0, num_classes=CLASSES),
        64,
    ),
    "torchvision convnext": (
        partial(
            tv.ConvNeXt,
            [CNBlockConfig(16, 32, 2), CNBlockConfig(32, None, 1)],
            num_classes=CLASSES,
        ),
        64,
    ),
    "torchvision efficientnet_b0": (partial(tv.efficientnet_b0, num_classes=CLASSES), 64),
    "torchvision mobilenet_v2": (partial(tv.mobilenet_v2, num_classes=CLASSES), 64),
    "torchvision mobilenet_v3": (partial(tv.mobilenet_v3_small, num_classes=CLASSES), 64),
    "torchvision densenet": (partial(tv.DenseNet, 8, (2, 2), 16, num_classes=CLASSES), 64),
    "torchvision googlenet": (
        partial(tv.googlenet, num_classes=CLASSES, init_weights=False),
        64,
    ),
    "torchvision shufflenet_v2": (partial(tv.shufflenet_v2_x0_5, num_classes=CLASSES), 64),
    "torchvision regnet_y": (partial(tv.regnet_y_400mf, num_classes=CLASSES), 64),
    "timm resnet10t": (_timm("resnet10t"), 64),
    "timm vit": (_timm("vit_tiny_patch16_224", **_TOKENS), 64),
    "timm deit, distilled": (_timm("deit_tiny_distilled_patch16_224", **_TOKENS), 64),
    "timm swin": (_timm("swin_tiny_patch4_window7_224", **_WINDOWS), 64),
    "timm swin v2": (_timm("swinv2_tiny_window8_256", **_WINDOWS), 64),
    "timm convnext": (_timm("convnext_atto"), 64),
    "timm efficientnet_lite0": (_timm("efficientnet_lite0"), 64),
    "timm mobilenetv3": (_timm("mobilenetv3_small_050"), 64),
    "timm mobilenetv4, hybrid": (_timm("mobilenetv4_hybrid_medium"), 64),
    "timm maxvit": (_timm("maxvit_pico_rw_256", img_size=64), 64),
    "timm coatnet": (_timm("coatnet_pico_rw_224", img_size=64), 64),
    "timm beit": (_timm("beit_base_patch16_224", **_NARROW), 64),
    "timm eva02": (_timm("eva02_tiny_patch14_224", img_size=56, depth=2), 56),
    "timm cait": (_timm("cait_xxs24_224", **_TOKENS), 64),
    "timm levit": (_timm("levit_128s", img_size=64), 64),
    "timm mobilevit": (_timm("mobilevit_xxs"), 64),
    "timm mobilevit v2": (_timm("mobilevitv2_050"), 64),
    "timm efficientformer v2": (_timm("efficientformerv2_s0", img_size=64), 64),
    "timm poolformer": (_timm("poolformer_s12"), 64),
    "timm pvt v2": (_timm("pvt_v2_b0"), 64),
    "timm xcit": (_timm("xcit_nano_12_p16_224"), 64),
    "timm mixer": (_timm("mixer_s32_224", img_size=64), 64),
    "timm twins": (_timm("twins_svt_small"), 64),
    "timm crossvit": (_timm("crossvit_tiny_240"), 240),
    "timm davit": (_timm("davit_tiny"), 64),
    "timm edgenext": (_timm("edgenext_xx_small"), 64),
    "timm fastvit": (_timm("fastvit_t8"), 64),
    "timm tiny_vit": (_timm("tiny_vit_5m_224"), 224),
    "timm hrnet": (_timm("hrnet_w18_small"), 64),
    "timm focalnet": (_timm("focalnet_tiny_srf"), 64),
    "timm hiera": (_timm("hiera_tiny_224"), 224),
    "timm mvit v2": (_timm("mvitv2_tiny", img_size=64), 64),
    "timm gcvit": (_timm("gcvit_xxtiny"), 224),
    "timm vit, siglip": (_timm("vit_base_patch16_siglip_224", **_NARROW), 64),
    "timm vit, clip": (_timm("vit_base_patch16_clip_224", **_NARROW), 64),
    "timm volo": (_timm("volo_d1_224"), 224),
}
"""Name to what makes the model, and the side of its images."""


def export(name: str, path: Path, *, dynamo: bool) -> None:
    """Write a model as `torch.onnx.export` does by default, but in one file."""
    make, side = MODELS[name]
    torch.manual_seed(0)
    model = make().eval()
    with torch.no_grad():
        for tensor in model.parameters():
            spread = tensor[0].numel() ** -0.5 if tensor.ndim > 1 else 0.1
            tensor.add_(torch.randn_like(tensor) * spread)
    options = {} if dynamo else {"opset_version": LEGACY_OPSET}
    images = (torch.randn(1, 3, side, side),)
    torch.onnx.export(model, images, path, dynamo=dynamo, external_data=False, **options)


def main(folder: Path) -> None:
    """Export every model twice; one that PyTorch cannot export is said, and left out."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    for name in MODELS:
        for exporter in ("older", "newer"):
            try:
                export(name, folder / f"{name}, {exporter}.onnx", dynamo=exporter == "newer")
            except Exception as error:  # of any kind: exporters raise what they meet
                print(f"{name}, {exporter}: {type(error).__name__}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
