"""Preprocessing of torchvision's pretrained classifiers, by the names of their weights.

Source: `weights.transforms()` of every classification weight in torchvision 0.29.2, which
tests/golden/make_preprocess_golden.py lists and tests hold this table against. No file on disk
says any of it: the name that was passed to torchvision is all that a user has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

__all__ = ["WEIGHTS", "WeightsTransform", "default_weights"]

Interpolation = Literal["bilinear", "bicubic"]
Statistics = Literal["imagenet", "half", "vgg_features"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsTransform:
    """The arguments of torchvision's `ImageClassification`.

    Attributes:
        resize: The shortest edge after the resize.
        crop: Both sides of the centre crop.
        interpolation: Filter of the resize, antialiased.
        statistics: Which mean and standard deviation normalise.
    """

    resize: int
    crop: int
    interpolation: Interpolation
    statistics: Statistics = "imagenet"


# resize, crop and filter, then `<model>:<version>` of IMAGENET1K_<version>. Versions made by a
# quantising backend belong to <model>_QuantizedWeights, all others to <model>_Weights.
_TABLE = """
256 224 bilinear AlexNet:V1 DenseNet121:V1 DenseNet161:V1 DenseNet169:V1 DenseNet201:V1
256 224 bilinear GoogLeNet:V1,FBGEMM_V1 MNASNet0_5:V1 MNASNet1_0:V1
256 224 bilinear MobileNet_V2:V1,QNNPACK_V1 MobileNet_V3_Large:V1,QNNPACK_V1 MobileNet_V3_Small:V1
256 224 bilinear RegNet_X_400MF:V1 RegNet_X_800MF:V1 RegNet_X_1_6GF:V1 RegNet_X_3_2GF:V1
256 224 bilinear RegNet_X_8GF:V1 RegNet_X_16GF:V1 RegNet_X_32GF:V1
256 224 bilinear RegNet_Y_400MF:V1 RegNet_Y_800MF:V1 RegNet_Y_1_6GF:V1 RegNet_Y_3_2GF:V1
256 224 bilinear RegNet_Y_8GF:V1 RegNet_Y_16GF:V1 RegNet_Y_32GF:V1
256 224 bilinear ResNet18:V1,FBGEMM_V1 ResNet34:V1 ResNet50:V1,FBGEMM_V1 ResNet101:V1 ResNet152:V1
256 224 bilinear ResNeXt50_32X4D:V1 ResNeXt101_32X8D:V1,FBGEMM_V1
256 224 bilinear ShuffleNet_V2_X0_5:V1,FBGEMM_V1 ShuffleNet_V2_X1_0:V1,FBGEMM_V1
256 224 bilinear SqueezeNet1_0:V1 SqueezeNet1_1:V1 VGG11:V1 VGG13:V1 VGG16:V1 VGG19:V1
256 224 bilinear VGG11_BN:V1 VGG13_BN:V1 VGG16_BN:V1 VGG19_BN:V1
256 224 bilinear ViT_B_16:V1 ViT_B_32:V1 ViT_L_32:V1 Wide_ResNet50_2:V1 Wide_ResNet101_2:V1
232 224 bilinear ConvNeXt_Base:V1 ConvNeXt_Large:V1 MNASNet0_75:V1 MNASNet1_3:V1
232 224 bilinear MobileNet_V2:V2 MobileNet_V3_Large:V2
232 224 bilinear RegNet_X_400MF:V2 RegNet_X_800MF:V2 RegNet_X_1_6GF:V2 RegNet_X_3_2GF:V2
232 224 bilinear RegNet_X_8GF:V2 RegNet_X_16GF:V2 RegNet_X_32GF:V2
232 224 bilinear RegNet_Y_400MF:V2 RegNet_Y_800MF:V2 RegNet_Y_1_6GF:V2 RegNet_Y_3_2GF:V2
232 224 bilinear RegNet_Y_8GF:V2 RegNet_Y_16GF:V2 RegNet_Y_32GF:V2
232 224 bilinear ResNet50:V2,FBGEMM_V2 ResNet101:V2 ResNet152:V2 ResNeXt50_32X4D:V2
232 224 bilinear ResNeXt101_32X8D:V2,FBGEMM_V2 ResNeXt101_64X4D:V1,FBGEMM_V1
232 224 bilinear ShuffleNet_V2_X1_5:V1,FBGEMM_V1 ShuffleNet_V2_X2_0:V1,FBGEMM_V1
232 224 bilinear Wide_ResNet50_2:V2 Wide_ResNet101_2:V2
236 224 bilinear ConvNeXt_Tiny:V1
230 224 bilinear ConvNeXt_Small:V1
242 224 bilinear ViT_L_16:V1
342 299 bilinear Inception_V3:V1,FBGEMM_V1
256 224 bicubic EfficientNet_B0:V1
256 240 bicubic EfficientNet_B1:V1
255 240 bilinear EfficientNet_B1:V2
288 288 bicubic EfficientNet_B2:V1
320 300 bicubic EfficientNet_B3:V1
384 380 bicubic EfficientNet_B4:V1
456 456 bicubic EfficientNet_B5:V1
528 528 bicubic EfficientNet_B6:V1
600 600 bicubic EfficientNet_B7:V1
384 384 bilinear EfficientNet_V2_S:V1
480 480 bilinear EfficientNet_V2_M:V1
232 224 bicubic Swin_T:V1
246 224 bicubic Swin_S:V1
238 224 bicubic Swin_B:V1
260 256 bicubic Swin_V2_T:V1 Swin_V2_S:V1
272 256 bicubic Swin_V2_B:V1
224 224 bicubic MaxVit_T:V1 ViT_B_16:SWAG_LINEAR_V1 ViT_L_16:SWAG_LINEAR_V1
224 224 bicubic ViT_H_14:SWAG_LINEAR_V1 RegNet_Y_16GF:SWAG_LINEAR_V1
224 224 bicubic RegNet_Y_32GF:SWAG_LINEAR_V1 RegNet_Y_128GF:SWAG_LINEAR_V1
384 384 bicubic ViT_B_16:SWAG_E2E_V1 RegNet_Y_16GF:SWAG_E2E_V1
384 384 bicubic RegNet_Y_32GF:SWAG_E2E_V1 RegNet_Y_128GF:SWAG_E2E_V1
512 512 bicubic ViT_L_16:SWAG_E2E_V1
518 518 bicubic ViT_H_14:SWAG_E2E_V1
"""

_QUANTIZERS = ("FBGEMM", "QNNPACK")


def _name(model: str, version: str) -> str:
    enum = "QuantizedWeights" if version.startswith(_QUANTIZERS) else "Weights"
    return f"{model}_{enum}.IMAGENET1K_{version}"


def _read_table() -> dict[str, WeightsTransform]:
    weights: dict[str, WeightsTransform] = {}
    for line in _TABLE.strip().splitlines():
        resize, crop, interpolation, *models = line.split()
        transform = WeightsTransform(
            resize=int(resize), crop=int(crop), interpolation=cast(Interpolation, interpolation)
        )
        for model, versions in (entry.split(":") for entry in models):
            weights |= {_name(model, version): transform for version in versions.split(",")}
    return weights


WEIGHTS: dict[str, WeightsTransform] = {
    **_read_table(),
    # Two that normalise otherwise: Google's own, and VGG's before classifiers were normalised.
    "EfficientNet_V2_L_Weights.IMAGENET1K_V1": WeightsTransform(
        resize=480, crop=480, interpolation="bicubic", statistics="half"
    ),
    "VGG16_Weights.IMAGENET1K_FEATURES": WeightsTransform(
        resize=256, crop=224, interpolation="bilinear", statistics="vgg_features"
    ),
}
"""Name, as in `ResNet50_Weights.IMAGENET1K_V2`, to its transform."""


def default_weights(enum: str) -> str | None:
    """The weights that `<enum>.DEFAULT` stands for, as `ResNet50_Weights`; None where unknown.

    torchvision makes the newest of its own recipes the default, never SWAG's or VGG's features.
    """
    versions = ("V2", "V1", "FBGEMM_V2", "FBGEMM_V1", "QNNPACK_V1", "SWAG_E2E_V1")
    names = (f"{enum}.IMAGENET1K_{version}" for version in versions)
    return next((name for name in names if name in WEIGHTS), None)
