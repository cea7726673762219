"""Every form in which people write down what classes are called, and what is wrong with some."""

from __future__ import annotations

import json

import pytest

from engines.errors import ModelError
from engines.labels import find_labels

NAMES = ("cat", "dog", "owl")


def read(folder, name, content, *, classes=3, label_type="description"):
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / name).write_text(text, encoding="utf-8", newline="")
    return find_labels(folder, {}, classes=classes, file=folder / name, label_type=label_type).names


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.txt", "cat\ndog\nowl\n"),
        ("labels.txt", "cat;dog;owl"),  # DeepStream's nvinfer
        ("labels.txt", "cat; dog; owl;\r\n"),
        ("labels.txt", "0: cat\n1: dog\n2: owl\n"),
        ("labels.txt", "2\towl\n0\tcat\n1\tdog\n"),
        ("labels.txt", "0 cat\n1 dog\n2 owl\n"),  # Teachable Machine
        ("labels.txt", "2  owl\n0  cat\n1  dog\n"),  # Coral
        ("labels.txt", "{0: 'cat',\n 1: 'dog',\n 2: 'owl'}"),  # Python, as passed around
        ("labels.txt", '["cat", "dog", "owl"]'),
        ("synset.txt", "n01 cat\nn02 dog\nn03 owl".replace("n0", "n0000000")),
        ("imagenet_class_index.json", {"2": ["n3", "owl"], "0": ["n1", "cat"], "1": ["n2", "dog"]}),
        ("anything.json", [["n1", "cat"], ["n2", "dog"], ["n3", "owl"]]),
        ("class_to_idx.json", {"owl": 2, "cat": 0, "dog": 1}),
        ("classmap.json", {"owl": 2, "cat": 0, "dog": 1}),  # TAO
        ("label2id.json", {"owl": "2", "cat": "0", "dog": "1"}),  # Hugging Face's tutorials
        ("anything.json", {"owl": "2", "cat": "0", "dog": "1"}),
        ("id2label.json", {"2": "owl", "0": "cat", "1": "dog"}),
        ("id2label.json", {"owl": 2, "cat": 0, "dog": 1}),  # the name is wrong, the content clear
        ("class_to_idx.json", {"2": "owl", "0": "cat", "1": "dog"}),
        ("config.json", {"label2id": {"owl": 2, "cat": 0, "dog": 1}}),
        ("data.json", {"nc": 3, "names": ["cat", "dog", "owl"]}),
        ("labels.csv", "index,name\n1,dog\n0,cat\n2,owl\n"),
        ("labels.csv", "0,cat\n1,dog\n2,owl"),
        ("labels.csv", "name;id\ncat;0\ndog;1\nowl;2\n"),
        ("labels.csv", '0,"cat"\r\n1,"dog"\r\n2,"owl"\r\n'),
        ("labels.csv", "index,mid,display_name\n0,/m/1,cat\n1,/m/2,dog\n2,/m/3,owl\n"),
        ("labels.csv", "cat\ndog\nowl\n"),
        ("labels.tsv", "2\towl\n1\tdog\n0\tcat\n"),
        ("LABELS.TSV", "label\tindex\nowl\t2\ndog\t1\ncat\t0\n"),
    ],
)
def test_each_form_gives_the_same_names(tmp_path, name, content):
    assert read(tmp_path, name, content) == NAMES


def test_keys_are_ordered_by_number_and_not_by_text(tmp_path):
    texts = sorted(str(index) for index in range(12))  # 0, 1, 10, 11, 2, ...
    expected = tuple(f"class of {index}" for index in range(12))
    forward = {text: f"class of {text}" for text in texts}
    assert read(tmp_path, "names.json", forward, classes=12) == expected
    assert read(tmp_path, "n.txt", str({int(k): v for k, v in forward.items()}), classes=12) == (
        expected
    )


def test_labels_that_are_numbers_are_names_like_any_other(tmp_path):
    """torchvision sorts folders as text: of twelve folders 0 to 11, class 2 is called 10."""
    names = sorted(str(index) for index in range(12))
    inverted = {name: index for index, name in enumerate(names)}
    assert names[2] == "10"
    assert read(tmp_path, "names.json", inverted, classes=12) == tuple(names)
    assert read(tmp_path, "class_to_idx.json", inverted, classes=12) == tuple(names)
    assert read(tmp_path, "digits.json", list(range(10)), classes=10) == tuple("0123456789")
    assert read(tmp_path, "digits.txt", "\n".join("7083"), classes=4) == tuple("7083")
    assert read(tmp_path, "years.json", {"2019": 0, "2020": 1}, classes=2) == ("2019", "2020")
    assert read(tmp_path, "id2label.json", {"0": 5, "1": 7}, classes=2) == ("5", "7")
    assert read(tmp_path, "digits.csv", "index,name\n0,7\n1,3\n", classes=2) == ("7", "3")
    assert read(tmp_path, "digits.csv", "name,index\n7,0\n3,1\n", classes=2) == ("7", "3")


def test_a_map_that_reads_differently_both_ways_is_refused_until_its_name_tells(tmp_path):
    map_ = {"0": "1", "1": "2", "2": "0"}
    with pytest.raises(ModelError, match=r"both|from name to index, with different results"):
        read(tmp_path, "names.json", map_)
    assert read(tmp_path, "id2label.json", map_) == ("1", "2", "0")
    assert read(tmp_path, "label2id.json", map_) == ("2", "0", "1")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("beagle; a dog\ntabby; a cat", ("beagle; a dog", "tabby; a cat")),
        ("1: one\n2: two", ("1: one", "2: two")),  # not 0 and 1: the numbers are part of it
        ("10:30\n11:00", ("10:30", "11:00")),
        ("12:00\n9:00", ("12:00", "9:00")),
        ("1,5 l\n0,5 l", ("1,5 l", "0,5 l")),
        ("2 pair\n1 ace", ("2 pair", "1 ace")),
        ("0 degrees\n90 degrees", ("0 degrees", "90 degrees")),
        ("n01440764\nn01443537", ("n01440764", "n01443537")),
        ("[unknown]\ncat", ("[unknown]", "cat")),
        ("crane\ncrane", ("crane", "crane")),
        ("tench, Tinca tinca\ngoldfish", ("tench, Tinca tinca", "goldfish")),
    ],
)
def test_text_that_only_looks_like_another_form_is_one_label_on_a_line(tmp_path, text, names):
    assert read(tmp_path, "labels.txt", text, classes=2) == names


def test_a_semicolon_in_the_one_label_of_a_model_with_one_class_separates_nothing(tmp_path):
    assert read(tmp_path, "labels.txt", "cracked; any size", classes=1) == ("cracked; any size",)


@pytest.mark.parametrize(
    ("label_type", "expected"),
    [
        ("name", ("n01440764", "n01443537")),
        ("description", ("tench, Tinca tinca", "goldfish")),
        ("detailed", ("tench, Tinca tinca (n01440764)", "goldfish (n01443537)")),
    ],
)
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("synset.txt", "n01440764 tench, Tinca tinca\nn01443537 goldfish"),
        ("index.json", {"0": ["n01440764", "tench, Tinca tinca"], "1": ["n01443537", "goldfish"]}),
        ("t.csv", 'index,name,text\n1,n01443537,goldfish\n0,n01440764,"tench, Tinca tinca"\n'),
    ],
)
def test_label_types_of_files_with_identifiers(tmp_path, name, content, label_type, expected):
    assert read(tmp_path, name, content, classes=2, label_type=label_type) == expected


@pytest.mark.parametrize("label_type", ["name", "description", "detailed"])
def test_label_types_are_one_where_classes_only_have_names(tmp_path, label_type):
    assert read(tmp_path, "l.txt", "cat\ndog\nowl", label_type=label_type) == NAMES


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("l.json", '{"0": "cat", "1": "dog", "1": "owl"}', "has the key '1' twice"),
        ("l.json", {"0": "cat", "1": "dog", "01": "owl"}, "two labels for class 1"),
        ("l.json", {"1": "cat", "2": "dog", "3": "owl"}, "none for class 0.*counts from 1"),
        ("class_to_idx.json", {"cat": 1, "dog": 2, "owl": 3}, "none for class 0.*counts from 1"),
        ("class_to_idx.json", {"cat": 0, "crane": 2}, "none for class 1.*two classes of one name"),
        ("class_to_idx.json", {"cat": 0, "dog": 0, "owl": 1}, "'cat' and 'dog' both"),
        ("class_to_idx.json", {"cat": 0, "dog": True, "owl": 2}, "'dog' has the index True"),
        ("id2label.json", {"cat": "a", "dog": "b"}, "key 'cat'; expected the keys 0, 1, 2"),
        ("l.json", {"-1": "cat", "0": "dog", "1": "owl"}, "key '-1'"),
        ("l.json", {"0": "cat", "1": "", "2": "owl"}, "label of class 1 is empty"),
        ("l.json", '["cat", "\\ud800", "owl"]', "label of class 1 is no valid text"),
        ("l.json", ["cat", 1.5, "owl"], "class 1 is 1.5; expected a text"),
        ("l.json", [["n1", "cat"], "dog", "owl"], "not a list of labels"),
        ("l.json", [], "names no class"),
        ("l.json", [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}], "not a list of labels"),
        ("l.csv", "index,name\n0,cat\n0,dog\n2,owl\n", "two labels for class 0"),
        ("l.csv", "index,name\n1,cat\n2,dog\n3,owl\n", "none for class 0.*counts from 1"),
        ("l.csv", "0,cat\n1,dog,brown\n2,owl\n", "not a table"),
        ("l.csv", "cat,feline\ndog,canine\n", "no column of indices"),
        ("l.csv", "", "not a table"),
        ("l.txt", "a;;c", "label of class 1 is empty"),
        ("l.txt", "{0: 'cat', 2: 'owl', 3: 'dog'}", "none for class 1"),
        ("l.txt", "3: owl\n1: cat\n2: dog", "lines are numbered, and not from 0 to 2"),
        ("l.txt", "0\tcat\n1\tdog\n3\towl", "lines are numbered, and not from 0 to 2"),
        ("l.txt", "0: cat\n1: dog\n1: owl", "lines are numbered, and not from 0 to 2"),
    ],
)
def test_what_would_shift_or_lose_labels_is_refused(tmp_path, name, content, message):
    with pytest.raises(ModelError, match=message):
        read(tmp_path, name, content)


@pytest.mark.parametrize("text", ["[" * 100_000, "{0: __import__('os').getcwd()}", "{0: cat}"])
def test_text_is_never_executed(tmp_path, text):
    assert read(tmp_path, "labels.txt", text, classes=1) == (text,)
