"""The command on every kind of source: the same images give the same rows, wherever they lie."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shards.names import key_of
from tests.end_to_end.commands import DIGITS, rows
from tests.end_to_end.commands import run_digits as run
from tests.shards.sources.archives import tar


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> dict[str, tuple[bytes, str]]:
    """Name to content and label of two classes of the example, from directories themselves."""
    out = tmp_path_factory.mktemp("reference") / "out"
    code, summary, _ = run(
        *(DIGITS / "images" / name for name in ("one", "eight")), "--output", out
    )
    assert code == 0
    table = {key_of(row["uri"]).decode(): row["label"] for row in rows(out).values()}
    assert summary["images"] == len(table) >= 60
    return {
        os.path.relpath(path, DIGITS / "images"): (Path(path).read_bytes(), label)
        for path, label in table.items()
    }


def containers(folder: Path, digits: dict[str, tuple[bytes, str]]) -> dict[str, list[object]]:
    """The example's images in every form, and what to call them on the command line."""
    members = [(name, content) for name, (content, _) in digits.items()]
    half = len(members) // 2
    (folder / "d-0.tar").write_bytes(tar(members[:half]))
    (folder / "d-1.tar").write_bytes(tar(members[half:]))
    images = [{"bytes": content, "path": name} for name, content in members]
    pq.write_table(pa.table({"image": images}), folder / "images.parquet", row_group_size=7)
    with open(folder / "table.csv", "w", newline="") as file:
        csv.writer(file).writerows([["path"], *([name] for name in digits)])
    names = "\n".join(str(DIGITS / "images" / name) for name in digits)
    (folder / "list.txt").write_text(names)
    pq.write_table(pa.table({"uri": list(digits)}), folder / "paths.parquet")
    return {
        "pattern": [f"{DIGITS}/images/[oe][ni]*/**/digit-*"],
        "files": [DIGITS / "images" / name for name in digits],
        "tar": [f"{folder}/d-{{0..1}}.tar"],
        "parquet": [folder / "images.parquet"],
        "csv": [folder / "table.csv", "--root", DIGITS / "images"],
        "parquet of paths": [folder / "paths.parquet", "--root", DIGITS / "images"],
        "list": [folder / "list.txt"],
        "stdin": ["-"],
    }


KINDS = ["pattern", "files", "tar", "parquet", "csv", "parquet of paths", "list", "stdin"]


@pytest.mark.parametrize("kind", KINDS)
def test_labels_are_the_same_whatever_holds_the_images(tmp_path, digits, kind):
    arguments = containers(tmp_path, digits)[kind]
    stdin = (tmp_path / "list.txt").read_bytes() if kind == "stdin" else b""
    out = tmp_path / "out"
    code, summary, said = run(*arguments, "--output", out, "--shard-size", 20, stdin=stdin)
    assert (code, summary["images"], summary["errors"]) == (0, len(digits), 0), said
    table = rows(out)
    labels = sorted(row["label"] for row in table.values())
    assert labels == sorted(label for _, label in digits.values())
    if kind == "tar":
        assert {name.partition("!")[2]: row["label"] for name, row in table.items()} == {
            name: label for name, (_, label) in digits.items()
        }
    record = json.loads((out / "runs" / summary["run_id"] / "run.json").read_text())
    kinds = {"tar": "webdataset", "parquet": "parquet", "pattern": "files", "files": "files"}
    assert record["listed_by_source"] == {kinds.get(kind, "manifest"): len(digits)}
    if kind in ("tar", "csv"):
        code, again, _ = run(*arguments, "--output", out, "--shard-size", 20)
        assert (code, again["rows_written"], again["skipped"]) == (0, 0, len(digits))


def test_a_damaged_archive_is_an_exit_code_and_the_others_are_done(tmp_path, digits):
    members = [(name, content) for name, (content, _) in digits.items()]
    whole = tar(members)
    (tmp_path / "good.tar").write_bytes(whole)
    (tmp_path / "cut.tar").write_bytes(whole[: len(whole) // 2 // 512 * 512])
    out = tmp_path / "out"
    code, summary, said = run(tmp_path / "good.tar", tmp_path / "cut.tar", "--output", out)
    assert (code, summary["status"], summary["images"]) == (1, "damaged_archives", len(digits))
    [damage] = summary["damaged"]
    assert "cut.tar, offset" in damage
    assert damage in said
    assert {name.partition("!")[0] for name in rows(out)} == {"good.tar"}
    (tmp_path / "cut.tar").write_bytes(whole)
    code, summary, _ = run(tmp_path / "good.tar", tmp_path / "cut.tar", "--output", out)
    assert (code, summary["images"], summary["rows_written"]) == (0, 2 * len(digits), len(digits))
    # Packed again with the first image replaced and the last left out.
    members = [(members[0][0], members[1][1]), *members[1:-1]]
    (tmp_path / "cut.tar").write_bytes(tar(members))
    code, summary, _ = run(tmp_path / "good.tar", tmp_path / "cut.tar", "--output", out, "--prune")
    assert (code, summary["images"]) == (0, 2 * len(digits) - 1)
    table = rows(out)
    assert len(table) == 2 * len(digits) - 1
    assert table[f"cut.tar!{members[0][0]}"]["label"] == digits[members[1][0]][1]


def test_a_damaged_archive_alone_fails(tmp_path):
    (tmp_path / "cut.tar").write_bytes(tar([("a.jpg", b"x" * 2000)])[:1024])
    code, summary, said = run(tmp_path / "cut.tar", "--output", tmp_path / "out")
    assert (code, summary["status"]) == (1, "failed")
    assert "cut.tar, offset 512 of 1024: a member of 2000 bytes begins here" in said


def test_what_a_manifest_names_and_is_not_there_is_a_row(tmp_path, digits):
    name = next(iter(digits))
    (tmp_path / "m.jsonl").write_text(
        "".join(json.dumps({"path": path}) + "\n" for path in (name, "gone.png", name))
    )
    out = tmp_path / "out"
    code, summary, _ = run(
        tmp_path / "m.jsonl", "--root", DIGITS / "images", "--output", out, "--max-error-rate", 1
    )
    assert (code, summary["images"], summary["ok"], summary["errors"]) == (0, 2, 1, 1)
    assert rows(out)["gone.png"]["error_kind"] == "not_found"
    assert summary["ignored"] == 1


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nowhere"], 2, "no such file or directory: nowhere"),
        (["shard-{000000..000009}.tar"], 2, "shard-000000.tar of shard-{000000..000009}.tar"),
    ],
)
def test_mistakes_are_explained(tmp_path, arguments, code, words):
    found, summary, said = run(*arguments, "--output", tmp_path / "out")
    assert (found, summary["status"]) == (code, "failed")
    assert words in said


def test_columns_of_the_input_come_into_the_table(tmp_path, digits):
    """From a manifest, from WebDataset and from nothing: one table, with nulls."""
    names = list(digits)[:6]
    table = {"path": names, "label": ["x"] * 6, "score": [1.5] * 6, "n": list(range(6))}
    pq.write_table(pa.table(table), tmp_path / "m.parquet")
    manifest = [tmp_path / "m.parquet", "--root", DIGITS / "images"]
    sidecars = {"cls": b"seven", "json": b'{"n": 70, "x": 1}'}
    members = [
        (f"{number}.{end}", content)
        for number, name in enumerate(names)
        for end, content in {**sidecars, "png": digits[name][0]}.items()
    ]
    (tmp_path / "w.tar").write_bytes(tar(members))
    out = tmp_path / "out"
    keep = ("--keep-columns", "n", "score")
    assert run(*manifest, "--output", out, *keep)[0] == 0
    assert run(tmp_path / "w.tar", "--output", out)[0] == 0
    assert run(DIGITS / "images" / "one", "--output", out)[0] == 0
    found = pq.read_table(out / "predictions").to_pylist()
    kept = {(row["target"], row["input_score"], row["n"]) for row in found}
    assert kept == {(None, None, None), ("seven", None, 70), *(("x", 1.5, n) for n in range(6))}
    code, summary, _ = run(*manifest, "--output", out, "--keep-columns", "path", "label")
    assert code == 2
    assert "begun without the columns path, input_label" in summary["error"]
