"""Record what timm, torchvision, Hugging Face and others make of the golden images.

Run by hand, in an environment of its own, from the root of the repository:

    python -m venv /tmp/golden
    /tmp/golden/bin/pip install torch==2.13.0 numpy pillow==13.0.0 safetensors huggingface_hub \
        pyyaml regex tokenizers packaging tqdm filelock typer
    /tmp/golden/bin/pip install --no-deps torchvision==0.29.2 timm==1.0.31 transformers==5.23.0
    PYTHONPATH=. /tmp/golden/bin/python tests/golden/make_preprocess_golden.py

Only transforms of PIL images are recorded. Where torchvision's compiled operators do not load (its
wheels are built against one torch), two of them are declared so that it can be imported; the
transforms use none.

Keras, Ultralytics and Custom Vision's sample are too heavy, or of a licence that does not fit, to
be installed for a few lines: these lines are written out below, from the sources that are named.

Normalisation maps each of the 256 levels of a channel to one number. So the file holds, for every
configuration, that number for every level (from images of one colour), and for every image the
SHA-256 of its levels, found back in that table from the library's own output: together, the output.

Transforms of tensors make other pixels; how far they are from those of PIL images is measured over
the same images, for docs/preprocessing.md.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.golden.images import SIZES, TRANSPARENT, pixels
from tests.golden.preprocess_cases import HUGGINGFACE, NESTED, TIMM, WEIGHTS
from tests.golden.preprocess_libraries import (
    PRESETS,
    WRITTEN_OUT,
    Library,
    class_attributes,
    huggingface_class,
    huggingface_library,
    tensor_paths,
    timm_library,
    torchvision_weights,
    versions,
    weights_library,
)

OUTPUT = Path(__file__).parent / "preprocess" / "golden.json"


def level_table(library: Library) -> NDArray[np.float32]:
    """float32 [3, 256]: what the library makes of each 8-bit level, by channel of its output.

    An image of one colour has that colour after any resize, and in its centre after any crop.
    """
    table = np.empty((3, 256), dtype=np.float32)
    for level in range(256):
        output = np.asarray(library(Image.new("RGB", (32, 32), (level, level, level))))
        table[:, level] = output[:, output.shape[1] // 2, output.shape[2] // 2]
    assert (np.diff(table, axis=1) > 0).all()
    return table


def to_levels(output: NDArray[np.float32], table: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The 8-bit pixels before normalisation: uint8 [height, width, 3]."""
    assert output.ndim == 3, output.shape
    assert output.shape[0] == 3, output.shape
    levels = np.empty(output.shape, dtype=np.uint8)
    for channel, values in enumerate(output):
        middles = (table[channel, 1:] + table[channel, :-1]) / 2
        levels[channel] = np.searchsorted(middles, values)
        np.testing.assert_allclose(table[channel][levels[channel]], values, rtol=0, atol=2e-6)
    return levels.transpose(1, 2, 0)


def record(library: Library, *, with_alpha: bool) -> dict[str, Any]:
    """One configuration over all images."""
    table = level_table(library)
    images = [Image.fromarray(pixels(*size)) for size in SIZES]
    transparent = Image.fromarray(pixels(*TRANSPARENT, channels=4))
    images.append(transparent if with_alpha else transparent.convert("RGB"))
    digests = []
    for image in images:
        try:
            output = to_levels(np.asarray(library(image)), table)
        except Exception as error:
            digests.append(f"{type(error).__name__}: {error}")
            continue
        height, width = output.shape[:2]
        digests.append(hashlib.sha256(output.tobytes()).hexdigest()[:32])
    levels = base64.b64encode(table.astype("<f4").tobytes()).decode()
    return {"height": height, "width": width, "levels": levels, "pixels": digests}


def entries() -> list[dict[str, Any]]:
    """Every configuration, as a test finds it, and what its library makes of the images."""
    found: list[dict[str, Any]] = []
    for name, config in TIMM.items():
        files = {"config.json": {"architecture": "resnet18", "pretrained_cfg": config}}
        found.append({"name": f"timm {name}", "files": files}
                     | record(timm_library(config), with_alpha=False))  # fmt: skip
    old = {"architecture": "resnet18", "num_classes": 1000, **TIMM["center bilinear .95"]}
    found.append({"name": "timm old file", "files": {"config.json": old}}
                 | record(timm_library(old), with_alpha=False))  # fmt: skip
    for name, document in HUGGINGFACE.items():
        # transformers' pipeline converts to RGB before a processor that does not convert itself.
        white = bool(getattr(huggingface_class(document), "do_convert_rgb", None))
        white = bool(document.get("do_convert_rgb", white))
        recorded = record(huggingface_library(document), with_alpha=white)
        found.append(
            {"name": f"hf {name}", "files": {"preprocessor_config.json": document}} | recorded
        )
        if name in NESTED:
            nested = {"processor_config.json": {"image_processor": document}}
            found.append({"name": f"hf {name} nested", "files": nested} | recorded)
    for name, library in PRESETS.items():
        found.append({"name": f"preset {name}", "preprocess": name}
                     | record(library, with_alpha=False))  # fmt: skip
    for name in WEIGHTS:
        found.append({"name": f"weights {name}", "preprocess": f"torchvision/{name}"}
                     | record(weights_library(name), with_alpha=False))  # fmt: skip
    for name, (given, library) in WRITTEN_OUT.items():
        found.append({"name": name} | given | record(library, with_alpha=False))
    return found


def main() -> None:
    """Write the golden file."""
    found = entries()
    # Most configurations share a normalisation.
    levels = {
        hashlib.sha256(entry["levels"].encode()).hexdigest()[:12]: entry["levels"]
        for entry in found
    }
    names = {table: name for name, table in levels.items()}
    for entry in found:
        entry["levels"] = names[entry["levels"]]
    document = {
        "versions": versions() | {"python": sys.version.split()[0]},
        "huggingface_classes": class_attributes(),
        "torchvision_weights": torchvision_weights(),
        "tensor_paths": tensor_paths(),
        "levels": levels,
        "entries": found,
    }
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
