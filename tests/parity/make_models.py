"""Make small models of real architectures, and record what their own libraries say of images.

Run by hand, in an environment of its own, from the root of the repository:

    python -m venv /tmp/parity
    /tmp/parity/bin/pip install torch==2.13.0 torchvision timm==1.0.31 transformers==5.23.0 \
        onnx onnxscript onnxruntime
    PYTHONPATH=. /tmp/parity/bin/python tests/parity/make_models.py

Nothing of Nightshift is used. timm's models are exported by timm, torchvision's by PyTorch's
exporter as it is by default, and those of transformers in Optimum's layout, with its names and all
dimensions open. (Optimum's exporter itself wants an older transformers.)

Weights are random. Each class's logits are then brought to one spread over the images, so that the
best five are told apart by more than rounding: the seed is the first for which that is so.

Two things are not what a user of these libraries gets by default, and are said in docs/labels.md
and docs/preprocessing.md. The image processors of transformers run on Pillow (`backend="pil"`),
since its torchvision backend gives other pixels. And what EXIF says is applied before timm and
torchvision see an image, as the pipeline of transformers does, and as Nightshift always does.
"""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import timm
import torch
import torchvision
import transformers
from PIL import Image, ImageOps
from timm.data import CustomDatasetInfo, create_transform, resolve_model_data_config
from timm.data.dataset_info import DatasetInfoLabelMapper
from timm.models.efficientnet import EfficientNet as TimmEfficientNet
from timm.models.efficientnet import decode_arch_def
from timm.utils.onnx import onnx_export
from torchvision import models as tv
from torchvision.models.convnext import CNBlockConfig

from tests.parity.sources import LABELS, write_images

HERE = Path(__file__).parent
CLASSES = len(LABELS)
SPREAD = 1.2
APART = 1e-3
"""Least difference of neighbours among the best six scores; the test's tolerance is a tenth."""

Top = list[tuple[int, str, float]]


@dataclass(frozen=True, kw_only=True)
class Maker:
    """One model: how to make it anew, what its library does with images, and how to write it."""

    build: Callable[[], torch.nn.Module]
    tensors: Callable[[torch.nn.Module, list[Path]], torch.Tensor]
    answer: Callable[[torch.nn.Module, list[Path]], list[Top]]
    write: Callable[[torch.nn.Module, Path], list[str]]


def opened(path: Path) -> Image.Image:
    """As timm's and torchvision's readers open it, but turned as EXIF says."""
    return ImageOps.exif_transpose(Image.open(path)).convert("RGB")


def best(logits: torch.Tensor, name: Callable[[int], str]) -> Top:
    """The best five by softmax."""
    scores, indices = logits.softmax(dim=-1).topk(5)
    pairs = zip(indices.tolist(), scores.tolist(), strict=True)
    return [(index, name(index), score) for index, score in pairs]


# timm: its own transform, its own names of labels, its own exporter and configuration.


def timm_model(
    build: Callable[[], torch.nn.Module],
    data: dict[str, Any],
    labels: list[str] | dict[str, str],
    descriptions: dict[str, str] | None = None,
) -> Maker:
    def config(model: torch.nn.Module) -> dict[str, Any]:
        return resolve_model_data_config(model, args=data)

    def tensors(model: torch.nn.Module, images: list[Path]) -> torch.Tensor:
        transform = create_transform(**config(model), is_training=False)
        return torch.stack([transform(opened(path)) for path in images])

    def answer(model: torch.nn.Module, images: list[Path]) -> list[Top]:
        mapper = DatasetInfoLabelMapper(CustomDatasetInfo(labels, descriptions))
        with torch.no_grad():
            return [best(row, mapper) for row in model(tensors(model, images))]

    def write(model: torch.nn.Module, folder: Path) -> list[str]:
        onnx_export(
            model, str(folder / "model.onnx"), batch_size=2, input_size=data["input_size"], opset=17
        )
        document = {
            "architecture": type(model).__name__.lower(),
            "num_classes": CLASSES,
            "label_names": labels,
            **({"label_descriptions": descriptions} if descriptions else {}),
            "pretrained_cfg": {"tag": "a1_in1k", "num_classes": CLASSES, **config(model)},
        }
        (folder / "config.json").write_text(json.dumps(document, indent=1))
        return []

    return Maker(build=build, tensors=tensors, answer=answer, write=write)


def timm_efficientnet() -> torch.nn.Module:
    blocks = [["ds_r1_k3_s1_e1_c8_se0.25"], ["ir_r1_k3_s2_e3_c12_se0.25"], ["ir_r1_k5_s2_e3_c16"]]
    return TimmEfficientNet(
        decode_arch_def(blocks), num_classes=CLASSES, num_features=48, stem_size=8
    )


# torchvision: the transform in its weights, which no file holds, so the preset is named.


def torchvision_model(build: Callable[[], torch.nn.Module], weights: str, labels: str) -> Maker:
    transform = tv.get_weight(weights).transforms()

    def tensors(_model: torch.nn.Module, images: list[Path]) -> torch.Tensor:
        return torch.stack([transform(opened(path)) for path in images])

    def answer(model: torch.nn.Module, images: list[Path]) -> list[Top]:
        with torch.no_grad():
            return [best(row, LABELS.__getitem__) for row in model(tensors(model, images))]

    def write(model: torch.nn.Module, folder: Path) -> list[str]:
        size = transform.crop_size[0]
        torch.onnx.export(
            model,
            (torch.zeros(2, 3, size, size),),
            str(folder / "model.onnx"),
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            verbose=False,
        )
        if labels == "class_to_idx.json":
            document = dict(sorted(zip(LABELS, range(CLASSES), strict=True)))
            (folder / labels).write_text(json.dumps(document))
        else:
            (folder / labels).write_text("".join(f"{name}\n" for name in LABELS), "utf-8")
        return ["--preprocess", weights]

    return Maker(build=build, tensors=tensors, answer=answer, write=write)


def tiny_convnext() -> torch.nn.Module:
    blocks = [CNBlockConfig(8, 12, 1), CNBlockConfig(12, 16, 1), CNBlockConfig(16, None, 1)]
    return tv.ConvNeXt(blocks, num_classes=CLASSES)


# transformers: its pipeline, with the image processor of each class and its defaults.


def huggingface_model(config: Any, processor: dict[str, Any]) -> Maker:
    config.id2label = dict(enumerate(LABELS))
    config.label2id = {name: index for index, name in enumerate(LABELS)}

    def pipeline(model: torch.nn.Module) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "preprocessor_config.json").write_text(json.dumps(processor))
            config.save_pretrained(folder)
            ready = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
        return transformers.pipeline("image-classification", model=model, image_processor=ready)

    def tensors(model: torch.nn.Module, images: list[Path]) -> torch.Tensor:
        loaded = [transformers.image_utils.load_image(str(path)) for path in images]
        ready = pipeline(model).image_processor
        return torch.cat([ready(image, return_tensors="pt")["pixel_values"] for image in loaded])

    def answer(model: torch.nn.Module, images: list[Path]) -> list[Top]:
        rows = [pipeline(model)(str(path), top_k=5) for path in images]
        ids = config.label2id
        return [[(ids[one["label"]], one["label"], one["score"]) for one in row] for row in rows]

    def write(model: torch.nn.Module, folder: Path) -> list[str]:
        axes = dict(enumerate(("batch_size", "num_channels", "height", "width")))
        torch.onnx.export(
            model,
            (tensors(model, write_images(Path(tempfile.mkdtemp())))[:2],),
            str(folder / "model.onnx"),
            input_names=["pixel_values"],
            output_names=["logits"],
            dynamic_axes={"pixel_values": axes, "logits": {0: "batch_size"}},
            opset_version=17,
            dynamo=False,
        )
        model.config.save_pretrained(folder)
        (folder / "preprocessor_config.json").write_text(json.dumps(processor, indent=1))
        return []

    build = partial(transformers.AutoModelForImageClassification.from_config, config)
    return Maker(build=build, tensors=tensors, answer=answer, write=write)


def processor(kind: str, **fields: Any) -> dict[str, Any]:
    return {"image_processor_type": f"{kind}ImageProcessor", **fields}


SMALL = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
TINY = {**SMALL, "intermediate_size": 48, "image_size": 64, "patch_size": 16}
STAGES = {"hidden_sizes": [8, 12, 16, 24], "depths": [1, 1, 1, 1]}

MODELS: dict[str, Callable[[], Maker]] = {
    "timm-resnet": lambda: timm_model(
        partial(timm.create_model, "test_resnet", num_classes=CLASSES, channels=(8, 12, 16, 24)),
        {"input_size": (3, 96, 96), "crop_pct": 0.95, "interpolation": "bicubic"},
        list(LABELS),
    ),
    "timm-vit": lambda: timm_model(
        partial(
            timm.create_model,
            "test_vit",
            num_classes=CLASSES,
            img_size=(64, 96),
            embed_dim=24,
            depth=2,
        ),
        {"input_size": (3, 64, 96), "crop_pct": 0.9, "crop_mode": "squash"},
        [f"n{index:08}" for index in range(CLASSES)],
        {f"n{index:08}": name for index, name in reversed(list(enumerate(LABELS)))},
    ),
    "timm-convnext": lambda: timm_model(
        partial(
            timm.create_model,
            "test_convnext",
            num_classes=CLASSES,
            dims=(8, 12, 16, 24),
            depths=(1, 1, 1, 1),
        ),
        {"input_size": (3, 96, 96), "crop_pct": 1.0, "crop_mode": "border"},
        {str(index): name for index, name in enumerate(LABELS) if index not in (3, 7)},
    ),
    "timm-efficientnet": lambda: timm_model(
        timm_efficientnet,
        {"input_size": (3, 80, 80), "crop_pct": 0.875, "interpolation": "bilinear"},
        {text: LABELS[int(text)] for text in sorted(str(index) for index in range(CLASSES))},
    ),
    "torchvision-shufflenet": lambda: torchvision_model(
        partial(tv.ShuffleNetV2, [1, 1, 1], [8, 16, 24, 32, 48], num_classes=CLASSES),
        "ShuffleNet_V2_X1_5_Weights.IMAGENET1K_V1",
        "labels.txt",
    ),
    "torchvision-mobilenet": lambda: torchvision_model(
        partial(
            tv.MobileNetV2,
            num_classes=CLASSES,
            width_mult=0.25,
            inverted_residual_setting=[[1, 16, 1, 1], [4, 24, 1, 2], [4, 32, 1, 2]],
        ),
        "MobileNet_V2_Weights.IMAGENET1K_V2",
        "class_to_idx.json",
    ),
    "torchvision-convnext": lambda: torchvision_model(
        tiny_convnext, "ConvNeXt_Tiny_Weights.IMAGENET1K_V1", "labels.txt"
    ),
    "torchvision-vit": lambda: torchvision_model(
        partial(
            tv.VisionTransformer,
            image_size=384,
            patch_size=32,
            num_layers=1,
            num_heads=2,
            hidden_dim=16,
            mlp_dim=32,
            num_classes=CLASSES,
        ),
        "ViT_B_16_Weights.IMAGENET1K_SWAG_E2E_V1",
        "classes.txt",
    ),
    "hf-vit": lambda: huggingface_model(
        transformers.ViTConfig(**TINY), processor("ViT", size={"height": 64, "width": 64})
    ),
    "hf-beit": lambda: huggingface_model(
        transformers.BeitConfig(**TINY), processor("Beit", size=64, do_center_crop=False)
    ),
    "hf-swin": lambda: huggingface_model(
        transformers.SwinConfig(
            image_size=64, embed_dim=12, depths=[1, 1], num_heads=[1, 2], window_size=4
        ),
        processor("ViT", size=64, resample=3, image_mean=[0.485, 0.456, 0.406]),
    ),
    "hf-convnext": lambda: huggingface_model(
        transformers.ConvNextConfig(**STAGES),
        processor("ConvNext", size={"shortest_edge": 96}, crop_pct=0.875),
    ),
    "hf-resnet": lambda: huggingface_model(
        transformers.ResNetConfig(embedding_size=8, layer_type="basic", **STAGES),
        processor("ConvNext", size={"shortest_edge": 96}, crop_pct=0.95, resample=2),
    ),
    "hf-mobilevit": lambda: huggingface_model(
        transformers.MobileViTConfig(
            image_size=64,
            hidden_sizes=[12, 16, 20],
            neck_hidden_sizes=[8, 8, 12, 12, 16, 20, 32],
            num_attention_heads=2,
            mlp_ratio=1.0,
            expand_ratio=2.0,
        ),
        processor("MobileViT", size={"shortest_edge": 72}, crop_size=64),
    ),
    "hf-mobilenet": lambda: huggingface_model(
        transformers.MobileNetV2Config(
            image_size=64,
            depth_multiplier=0.1,
            depth_divisible_by=8,
            finegrained_output=False,
        ),
        processor("MobileNetV2", size={"shortest_edge": 73}, crop_size=64),
    ),
    "hf-poolformer": lambda: huggingface_model(
        transformers.PoolFormerConfig(
            **STAGES, patch_sizes=[7, 3, 3, 3], strides=[4, 2, 2, 2], mlp_ratio=2.0
        ),
        processor("PoolFormer", size={"shortest_edge": 64}, crop_size=64),
    ),
}


def separated(maker: Maker, images: list[Path]) -> torch.nn.Module:
    """A model with random weights that tells its best classes apart on all of the images."""
    for seed in itertools.count():
        torch.manual_seed(seed)
        model = maker.build().eval()
        tensors = maker.tensors(model, images)
        calibrated(model, tensors)
        logits = raw_logits(model, tensors)
        scores = logits.softmax(dim=-1).sort(descending=True).values[:, :6]
        if (scores[:, :-1] - scores[:, 1:]).min() > APART:
            return model
    raise AssertionError


def calibrated(model: torch.nn.Module, tensors: torch.Tensor) -> None:
    """Give batch norms the images' statistics, and each class's logits mean 0 and one spread."""
    norms = [one for one in model.modules() if isinstance(one, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
        norm.train()
    raw_logits(model, tensors)
    model.eval()
    head = [one for one in model.modules() if isinstance(one, torch.nn.Linear)][-1]
    torch.nn.init.normal_(head.weight, std=1.0)
    logits = raw_logits(model, tensors)
    factor = SPREAD / logits.std(dim=0)
    with torch.no_grad():
        head.weight.mul_(factor[:, None])
        head.bias.copy_((head.bias - logits.mean(dim=0)) * factor)


def raw_logits(model: torch.nn.Module, tensors: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        output = model(tensors)
    return output if isinstance(output, torch.Tensor) else output.logits


def forget_origins(file: Path) -> None:
    """Remove where the sources of PyTorch lay, which its exporter notes at every operator."""
    model = onnx.load(file)
    model.doc_string = ""
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        value.doc_string = ""
        del value.metadata_props[:]
    del model.graph.value_info[:], model.metadata_props[:], model.graph.metadata_props[:]
    file.with_suffix(".onnx.data").unlink(missing_ok=True)
    onnx.save(model, file)


def main() -> None:
    warnings.simplefilter("ignore")
    recorded: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        images = write_images(Path(temporary))
        for name, make in MODELS.items():
            maker = make()
            model = separated(maker, images)
            folder = HERE / "models" / name
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            options = maker.write(model, folder)
            forget_origins(folder / "model.onnx")
            top5 = maker.answer(model, images)
            names = [path.name for path in images]
            recorded[name] = {"options": options, "top5": dict(zip(names, top5, strict=True))}
            size = sum(file.stat().st_size for file in folder.iterdir())
            print(f"{name:24} {size:>9,} bytes", flush=True)  # noqa: T201
    versions = {one.__name__: one.__version__ for one in (torch, torchvision, timm, transformers)}
    document = {"versions": versions, "models": recorded}
    (HERE / "expected.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
