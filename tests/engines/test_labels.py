from __future__ import annotations

import json

import pytest

from engines.errors import ModelError
from engines.labels import find_labels

NAMES = ("cat", "dog", "owl")


def find(folder, config=None, *, classes=3, file=None):
    return find_labels(folder, config or {}, classes=classes, file=file)


def test_id2label_is_sorted_by_number_and_not_by_text(tmp_path):
    config = {"id2label": {str(index): f"class {index}" for index in (10, 2, 0, 1, *range(3, 10))}}
    labels = find(tmp_path, config, classes=11)
    assert labels.names == tuple(f"class {index}" for index in range(11))
    assert labels.source == "config.json: id2label"


@pytest.mark.parametrize(
    "config",
    [
        {"label_names": ["cat", "dog", "owl"]},
        {"label_names": {"1": "dog", "0": "cat", "2": "owl"}},
        {"labels": ["cat", "dog", "owl"]},
        {"pretrained_cfg": {"label_names": ["cat", "dog", "owl"]}},
        {"label_names": ["cat", "dog", "owl"], "pretrained_cfg": {"label_names": ["other"]}},
        {"id2label": {}, "label_names": ["cat", "dog", "owl"]},
    ],
)
def test_the_places_where_configs_name_classes(tmp_path, config):
    assert find(tmp_path, config).names == NAMES


@pytest.mark.parametrize("name", ["labels.txt", "classes.txt", "synset.txt"])
@pytest.mark.parametrize(
    "text", ["cat\ndog\nowl", "\ufeffcat\r\ndog\r\nowl\r\n", "cat\ndog\nowl\n\n "]
)
def test_text_files_hold_one_label_on_a_line(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    labels = find(tmp_path)
    assert labels.names == NAMES
    assert labels.source == name


def test_precedence(tmp_path):
    (tmp_path / "labels.txt").write_text("a\nb\nc")
    (tmp_path / "classes.txt").write_text("d\ne\nf")
    (tmp_path / "mine.txt").write_text("x\ny\nz")
    config = {"id2label": {"0": "cat", "1": "dog", "2": "owl"}}
    mine = find(tmp_path, config, file=tmp_path / "mine.txt")
    assert (mine.names, mine.source) == (("x", "y", "z"), f"--labels {tmp_path / 'mine.txt'}")
    assert find(tmp_path, config).names == NAMES
    assert find(tmp_path).names == ("a", "b", "c")


@pytest.mark.parametrize(
    "document",
    [
        ["cat", "dog", "owl"],
        {"2": "owl", "0": "cat", "1": "dog"},
        {"owl": 2, "cat": 0, "dog": 1},
        {"id2label": {"0": "cat", "1": "dog", "2": "owl"}, "model_type": "vit"},
    ],
)
def test_a_json_file_of_the_users(tmp_path, document):
    (tmp_path / "names.JSON").write_text(json.dumps(document))
    assert find(tmp_path, file=tmp_path / "names.JSON").names == NAMES


def test_nothing_named_gives_hugging_faces_default_and_says_so(tmp_path):
    labels = find(tmp_path)
    assert labels.names == ("LABEL_0", "LABEL_1", "LABEL_2")
    assert labels.source == "default: nothing names the classes"


def test_two_classes_may_share_a_name(tmp_path):
    assert find(tmp_path, {"id2label": {"0": "crane", "1": "crane"}}, classes=2).names == (
        "crane",
        "crane",
    )


def test_another_number_of_names_than_classes_is_an_error_with_both_and_the_file(tmp_path):
    (tmp_path / "labels.txt").write_text("cat\ndog\nowl")
    with pytest.raises(
        ModelError,
        match=r"labels\.txt names 3 classes, the model in .* gives 1000 scores.*--labels",
    ):
        find(tmp_path, classes=1000)


@pytest.mark.parametrize(
    ("id2label", "message"),
    [
        ({"0": "cat", "2": "owl", "3": "yak"}, "none for class 1"),
        ({"1": "cat", "2": "dog", "3": "owl"}, "none for class 0"),
        ({"cat": "a", "dog": "b", "owl": "c"}, "expected the keys 0, 1, 2"),
        ({"0": "cat", "1": ["n1", "dog"], "2": "owl"}, "not a list of labels"),
        ("cat, dog, owl", "not a list of labels"),
        (["cat", None, "owl"], "not a list of labels"),
    ],
)
def test_incomplete_configs_are_refused(tmp_path, id2label, message):
    with pytest.raises(ModelError, match=message):
        find(tmp_path, {"id2label": id2label})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("l.txt", b"cat\n\nowl", "line 2 is empty"),
        ("l.txt", b"", "line 1 is empty"),
        ("l.txt", b"caf\xe9\ndog\nowl", "not UTF-8"),
        ("l.json", b"{'0': 'cat'}", "as JSON"),
        ("l.json", b"3", "not a list"),
        ("l.json", b"[" * 100_000, "as JSON"),
        ("missing.txt", None, "cannot read the labels in .*missing.txt: No such file"),
    ],
)
def test_files_that_hold_no_labels_are_refused(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=message):
        find(tmp_path, file=tmp_path / name)


def test_the_digest_depends_on_names_and_order_alone(tmp_path):
    first = find(tmp_path, {"id2label": {"0": "cat", "1": "dog"}}, classes=2)
    same = find(tmp_path, {"label_names": ["cat", "dog"]}, classes=2)
    turned = find(tmp_path, {"label_names": ["dog", "cat"]}, classes=2)
    joined = find(tmp_path, {"label_names": ["cat dog"]}, classes=1)
    assert first.digest == same.digest
    assert len({first.digest, turned.digest, joined.digest}) == 3
