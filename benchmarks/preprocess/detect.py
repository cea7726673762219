"""Feed trained models in every usual way, and count which mistakes are told and which are not.

    python -m benchmarks.preprocess.detect FOLDER [--json FILE]

FOLDER is what `benchmarks.preprocess.train` wrote; the example's model joins. Each model is taken
with its own preprocessing, with each of the usual others and with its channels swapped, on images
of all classes, of two, of one, and of another task. docs/doctor.md quotes the result.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from PIL import Image

from benchmarks.machine import facts
from benchmarks.preprocess.kinds import PREPROCESSING
from engines.alternatives import CANDIDATES, Refeeding, answers_of, spread_of
from engines.check import Check
from engines.graph import inspect
from engines.model import Model, ModelRequest, load_model
from engines.onnx_runtime import OnnxRuntimeClassifier
from engines.preprocess import PreprocessSpec
from engines.sampling import synthetic_images
from engines.self_test import self_test
from engines.suitability import check_suitability
from engines.wrap import wrap

__all__ = ["main"]

EXAMPLE = Path(__file__).parents[2] / "examples/digits"
HARM = 0.1
"""Accuracy that a mistake must cost to count as one."""
DRAWS = 6
COUNT = 64

Images = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Subject:
    """A trained model and images of its task."""

    name: str
    model: Model
    path: Path
    images: Images
    labels: NDArray[np.int64]
    foreign: Images

    def fed(self, spec: PreprocessSpec) -> Model:
        """The model with another preprocessing."""
        proto = onnx.load(self.path)
        info = inspect(proto)
        classes = self.model.classes
        wrap(proto, info, spec, classes=classes, activation="softmax", top_k=5)
        return replace(self.model, spec=spec, graph=proto.SerializeToString())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    rows = [row for subject in subjects(arguments.folder) for row in study(subject, counts)]
    print(table(rows, counts))
    if arguments.json:
        counted = {what: dict(found) for what, found in sorted(counts.items())}
        document = {**facts(("numpy", "onnx", "onnxruntime", "pillow")), "rows": rows}
        arguments.json.write_text(json.dumps({**document, "counts": counted}, indent=2) + "\n")


def subjects(folder: Path) -> Iterator[Subject]:
    """The trained models, and the example's."""
    example = load_model(ModelRequest(path=EXAMPLE / "model"))
    data = np.load(folder / "images.npz")
    other = {"digits": "colours", "colours": "digits"}
    for described in sorted(folder.glob("*.json")):
        about = json.loads(described.read_text())
        task = about["task"]
        labels = data[f"{task}_labels"]
        spec = PreprocessSpec(host=example.spec.host, **PREPROCESSING[about["preprocessing"]])
        names = tuple(str(label) for label in range(int(labels.max()) + 1))
        subject = Subject(
            described.stem,
            replace(example, labels=names, spec=spec),
            described.with_suffix(".onnx"),
            data[task],
            labels,
            data[other[task]],
        )
        yield replace(subject, model=subject.fed(spec))
    files = sorted((EXAMPLE / "images").glob("*/*"))
    images = np.stack([_small(file) for file in files])
    labels = np.array([example.labels.index(file.parent.name) for file in files])
    path = EXAMPLE / "model/model.onnx"
    yield Subject("example", example, path, images, labels, data["colours"])


def _small(file: Path) -> Images:
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB").resize((32, 32), Image.Resampling.BILINEAR))


def study(subject: Subject, counts: dict[str, Counter[str]]) -> Iterator[dict[str, object]]:
    """One row for each way to feed the model."""
    right = subject.model.spec
    swapped = "rgb" if right.channel_order == "bgr" else "bgr"
    ways = {"its own": right, "channels swapped": replace(right, channel_order=swapped)}
    ways |= {candidate.name: candidate.applied_to(right) for candidate in CANDIDATES}
    best = _accuracy(subject, right)
    rng = np.random.default_rng(0)
    for name, spec in ways.items():
        if name != "its own" and _same(spec, right):
            continue
        accuracy = _accuracy(subject, spec)
        model = subject.model if spec == right else subject.fed(spec)
        kind = "right" if name == "its own" else "swapped" if "swapped" in name else "range"
        if kind != "right":
            kind += " harmful" if accuracy <= best - HARM else " harmless"
        tested = _self_test(model)
        counts[f"{kind}: self-test"][_worst(tested)] += 1
        for images, labels, what in _sets(subject, rng, right=spec == right):
            unlabelled = check_suitability(model, images, [None] * len(images))
            counts[f"{kind}: {what}"][_status(unlabelled, "pixel range")] += 1
            if what == "all classes":
                labelled = check_suitability(model, images, labels)
                counts[f"{kind}: {what}, labelled"][_status(labelled, "accuracy")] += 1
        logits = Refeeding(model).logits(subject.images[:: len(subject.images) // COUNT][:COUNT])
        answers = answers_of(logits, "softmax")
        drawn = Refeeding(model).logits(synthetic_images(4, 32, 32))
        yield {
            "model": subject.name,
            "fed": name,
            "accuracy": round(accuracy, 3),
            "bits": round(answers.information, 2),
            "possible": round(answers.possible, 2),
            "size": round(answers.size, 1),
            "spread": round(spread_of(drawn), 4),
            "self_test": _worst(tested),
        }


def _accuracy(subject: Subject, spec: PreprocessSpec) -> float:
    found = Refeeding(subject.model).logits(subject.images, spec).argmax(axis=1)
    return float((found == subject.labels).mean())


def _same(first: PreprocessSpec, second: PreprocessSpec) -> bool:
    return bool(
        first.channel_order == second.channel_order
        and np.allclose(first.affine(), second.affine(), rtol=1e-3, atol=1e-6)
    )


def _sets(
    subject: Subject, rng: np.random.Generator, *, right: bool
) -> Iterator[tuple[Images, list[int], str]]:
    """Images to ask about; of one class, of two and of another task for the right feeding alone."""
    labels = subject.labels
    for _ in range(DRAWS):
        chosen = rng.permutation(len(labels))[:COUNT]
        yield subject.images[chosen], labels[chosen].tolist(), "all classes"
    if not right:
        return
    for label in range(subject.model.classes):
        chosen = rng.permutation(np.flatnonzero(labels == label))[:COUNT]
        yield subject.images[chosen], labels[chosen].tolist(), "one class"
    for _ in range(DRAWS):
        pair = rng.choice(subject.model.classes, 2, replace=False)
        chosen = rng.permutation(np.flatnonzero(np.isin(labels, pair)))[:COUNT]
        yield subject.images[chosen], labels[chosen].tolist(), "two classes"
    for _ in range(DRAWS):
        chosen = rng.permutation(len(subject.foreign))[:COUNT]
        yield subject.foreign[chosen], [0] * COUNT, "another task"


def _self_test(model: Model) -> tuple[Check, ...]:
    with OnnxRuntimeClassifier(model, batch_size=8, slots=1, logits=True) as classifier:
        return self_test(classifier, model)


def _worst(checks: tuple[Check, ...]) -> str:
    statuses = {check.status for check in checks}
    return next(status for status in ("failed", "warning", "passed") if status in statuses)


def _status(checks: tuple[Check, ...], name: str) -> str:
    return next(check.status for check in checks if check.name == name)


def table(rows: list[dict[str, object]], counts: dict[str, Counter[str]]) -> str:
    """Both results, in Markdown."""
    heads = list(rows[0])
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    lines += [f"| {' | '.join(str(row[head]) for head in heads)} |" for row in rows]
    lines += ["", "| fed, images | told of | not told of |", "| --- | --- | --- |"]
    for what, found in sorted(counts.items()):
        told = found["failed"] + found["warning"]
        lines.append(f"| {what} | {told} | {found.total() - told} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
