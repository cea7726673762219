"""The command on directories as people have them: nothing hangs, nothing is lost, no traceback."""

from __future__ import annotations

import json
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.end_to_end.commands import MODEL, rows, run


def bomb(path: Path) -> None:
    """A PNG of a few bytes whose header promises 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", pixels), chunk(b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


@pytest.fixture(scope="module")
def zoo(tmp_path_factory) -> Path:
    """Every kind of file that a directory of images holds in the end."""
    root = tmp_path_factory.mktemp("zoo")
    rng = np.random.default_rng(0)
    photo = Image.fromarray(rng.integers(0, 256, (60, 80, 3), np.uint8))
    photo.save(root / "good.jpg")
    photo.save(root / "good.png")
    whole = (root / "good.jpg").read_bytes()
    (root / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "zero.jpg").touch()
    (root / "page.jpg").write_text("<!doctype html><title>404</title>")
    photo.convert("CMYK").save(root / "cmyk.jpg")
    Image.fromarray(rng.integers(0, 65536, (40, 40), np.uint16)).save(root / "sixteen.png")
    frames = [photo.resize((30, 30)), photo.resize((30, 30)).rotate(90)]
    frames[0].save(root / "animated.webp", save_all=True, append_images=frames[1:])
    Image.new("RGB", (1, 1), "red").save(root / "one.png")
    Image.new("RGB", (20_000, 10), "blue").save(root / "long.png")
    bomb(root / "bomb.png")
    (root / "notes.txt").write_text("not an image")
    os.mkfifo(root / "pipe.jpg")
    (root / "folder.jpg").mkdir()
    (root / "folder.jpg" / "inside.JPEG").write_bytes(whole)
    (root / "loop").symlink_to(root)
    (root / "self.jpg").symlink_to(root / "self.jpg")
    (root / "dangling.png").symlink_to(root / "nowhere.png")
    (Path(os.fsdecode(os.fsencode(root) + b"/caf\xe9.png"))).write_bytes(
        (root / "good.png").read_bytes()
    )
    return root


def test_every_regular_file_with_an_image_suffix_is_a_row(zoo, tmp_path):
    code, summary, _ = run(zoo, "--model", MODEL, "--output", tmp_path / "out")
    assert code == 3
    table = rows(tmp_path / "out")
    kinds = {name: row["error_kind"] for name, row in table.items()}
    assert kinds == {
        "animated.webp": None,
        "bomb.png": "too_large",
        "caf\\xe9.png": None,
        "cmyk.jpg": None,
        "folder.jpg/inside.JPEG": None,
        "good.jpg": None,
        "good.png": None,
        "long.png": None,
        "one.png": None,
        "page.jpg": "not_an_image",
        "sixteen.png": None,
        "truncated.jpg": "truncated",
        "zero.jpg": "empty",
    }
    assert (summary["images"], summary["ok"], summary["errors"]) == (13, 9, 4)
    assert summary["rows_written"] == 13
    # notes.txt, pipe.jpg, the loop, self.jpg and dangling.png
    assert summary["ignored"] == 5
    for row in table.values():
        assert (row["label"] is None) == (row["status"] == "error") == bool(row["error"])


def test_the_same_pixels_get_the_same_row_whatever_their_neighbours(zoo, tmp_path):
    run(zoo, "--model", MODEL, "--output", tmp_path / "all")
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "good.png").write_bytes((zoo / "good.png").read_bytes())
    code, _, _ = run(alone, "--model", MODEL, "--output", tmp_path / "one")
    assert code == 0
    together = rows(tmp_path / "all")["good.png"]
    by_itself = rows(tmp_path / "one")["good.png"]
    assert together["label"] == by_itself["label"]
    assert together["score"] == pytest.approx(by_itself["score"], abs=1e-6)


def test_more_errors_than_allowed_is_a_matter_of_the_rate(zoo, tmp_path):
    code, summary, _ = run(
        zoo, "--model", MODEL, "--output", tmp_path / "out", "--max-error-rate", "0.5"
    )
    assert (code, summary["status"]) == (0, "done")


def bare_model(folder: Path) -> Path:
    (folder / "bare.onnx").write_bytes((MODEL / "model.onnx").read_bytes())
    return folder / "bare.onnx"


def short_labels(folder: Path) -> Path:
    for name in ("model.onnx", "preprocessor_config.json"):
        (folder / name).write_bytes((MODEL / name).read_bytes())
    (folder / "labels.txt").write_text("zero\none\ntwo\n")
    return folder


@pytest.mark.parametrize(
    ("images", "model", "code", "words"),
    [
        ("empty", lambda folder: MODEL, 4, ["no image in", "directory is empty"]),
        ("nowhere", lambda folder: MODEL, 2, ["no such file or directory", "nowhere"]),
        ("zoo", lambda folder: folder / "no-model", 2, ["no such model", "no-model"]),
        ("zoo", bare_model, 2, ["preprocess", "bare.onnx", "--preprocess"]),
        ("zoo", short_labels, 2, ["labels.txt", "3", "10"]),
    ],
)
def test_mistakes_are_refused_in_words(zoo, tmp_path, images, model, code, words):
    (tmp_path / "empty").mkdir()
    folder = tmp_path / "model"
    folder.mkdir()
    source = zoo if images == "zoo" else tmp_path / images
    found, answer, said = run(source, "--model", model(folder), "--output", tmp_path / "out")
    assert found == answer["exit_code"] == code
    assert answer["status"] == "failed"
    assert answer["error"] in said
    for word in words:
        assert word in answer["error"]


def test_a_second_run_does_only_what_was_added(zoo, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for name in ("a", "b", "c"):
        (images / f"{name}.png").write_bytes((zoo / "good.png").read_bytes())
    out = tmp_path / "out"
    _, first, _ = run(images, "--model", MODEL, "--output", out, "--shard-size", "2")
    assert (first["rows_written"], first["skipped"]) == (3, 0)
    (images / "aa.png").write_bytes((zoo / "one.png").read_bytes())
    _, second, _ = run(images, "--model", MODEL, "--output", out, "--shard-size", "2")
    assert (second["images"], second["rows_written"], second["skipped"]) == (4, 1, 3)
    _, third, _ = run(images, "--model", MODEL, "--output", out, "--shard-size", "2")
    assert (third["images"], third["rows_written"], third["skipped"]) == (4, 0, 4)
    assert sorted(rows(out)) == ["a.png", "aa.png", "b.png", "c.png"]
    records = [json.loads(path.read_text()) for path in out.glob("runs/*/run.json")]
    assert sorted(record["rows_written"] for record in records) == [0, 1, 3]


def test_overwrite_classifies_again_and_never_loses_a_row(zoo, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for name in ("a", "b"):
        (images / f"{name}.png").write_bytes((zoo / "good.png").read_bytes())
    out = tmp_path / "out"
    run(images, "--model", MODEL, "--output", out, "--run-id", "first")
    (images / "b.png").rename(tmp_path / "b.png")
    _, answer, _ = run(images, "--model", MODEL, "--output", out, "--overwrite")
    assert (answer["images"], answer["rows_written"]) == (1, 1)
    assert rows(out)["b.png"]["run_id"] == "first"
    (tmp_path / "b.png").rename(images / "b.png")
    again = ("--overwrite", "--run-id", "second")
    code, answer, _ = run(images, "--model", MODEL, "--output", out, *again)
    assert (code, answer["rows_written"], answer["skipped"]) == (0, 2, 0)
    assert {row["run_id"] for row in rows(out).values()} == {"second"}
