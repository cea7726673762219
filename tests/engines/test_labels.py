from __future__ import annotations

import json
from pathlib import Path

import pytest

from engines.errors import ModelError
from engines.labels import find_labels

NAMES = ("cat", "dog", "owl")


def find(folder, config=None, *, classes=3, **sources):
    return find_labels(folder, config or {}, classes=classes, **sources)


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


# What is sparse, described, inside of the graph, elsewhere in the folder, or known to everybody.


def test_timms_descriptions_go_by_name_and_not_by_index(tmp_path):
    config = {
        "label_names": ["n3", "n1", "n2"],
        "label_descriptions": {"n1": "dog", "n2": "owl", "n3": "cat"},
        "pretrained_cfg": {"label_descriptions": {"n3": "of the base model"}},
    }
    labels = find(tmp_path, config)
    assert labels.names == NAMES
    assert labels.source == "config.json: label_names and label_descriptions"
    assert find(tmp_path, config, label_type="name").names == ("n3", "n1", "n2")
    assert find(tmp_path, config, label_type="detailed").names[0] == "cat (n3)"
    undescribed = {**config, "label_descriptions": {"n3": "cat"}}
    assert find(tmp_path, undescribed).names == ("cat", "n1", "n2")


@pytest.mark.parametrize("descriptions", [["cat", "dog", "owl"], {"n1": 3, "n2": "a", "n3": "b"}])
def test_descriptions_of_another_form_are_refused(tmp_path, descriptions):
    config = {"label_names": ["n1", "n2", "n3"], "label_descriptions": descriptions}
    if isinstance(descriptions, list):
        with pytest.raises(ModelError, match="label_descriptions is not an object"):
            find(tmp_path, config)
    else:
        assert find(tmp_path, config).names == ("3", "a", "b")


def test_timms_maps_may_have_gaps_which_are_named_as_timm_names_them(tmp_path):
    labels = find(tmp_path, {"label_names": {"10": "owl", "2": "cat"}}, classes=11)
    assert labels.names[2] == "cat"
    assert labels.names[10] == "owl"
    assert labels.names[3] == "<unmapped:3>"
    assert labels.source == "config.json: label_names (2 of 11 classes)"
    with pytest.raises(ModelError, match="names class 10, the model gives 10 scores"):
        find(tmp_path, {"label_names": {"10": "owl", "2": "cat"}}, classes=10)


def test_a_map_without_gaps_must_name_all_classes_even_where_it_is_timms(tmp_path):
    config = {"label_names": {"0": "cat", "1": "dog", "2": "owl"}}
    with pytest.raises(ModelError, match=r"names 3 classes, the model in .* gives 1000"):
        find(tmp_path, config, classes=1000)


@pytest.mark.parametrize("placeholder", ["LABEL_{}", "class{}", "class_{}"])
def test_names_that_only_count_name_nothing(tmp_path, placeholder):
    """Hugging Face's and Ultralytics' defaults stand for 'nobody said', and hide what is said."""
    counting = {str(index): placeholder.format(index) for index in range(3)}
    alone = find(tmp_path, {"id2label": counting})
    assert alone.names == tuple(counting.values())
    assert alone.source == "config.json: id2label, which only counts the classes"
    (tmp_path / "labels.txt").write_text("cat\ndog\nowl")
    found = find(tmp_path, {"id2label": counting})
    assert (found.names, found.source) == (NAMES, "labels.txt")
    real = {"cat": 0, "dog": 1, "owl": 2}
    found = find(tmp_path, {"id2label": counting, "label2id": real})
    assert (found.names, found.source) == (NAMES, "config.json: label2id")


def test_the_users_own_file_is_taken_as_it_is(tmp_path):
    (tmp_path / "mine.txt").write_text("class0\nclass1\nclass2")
    assert find(tmp_path, file=tmp_path / "mine.txt").source == f"--labels {tmp_path / 'mine.txt'}"


def test_defaults_of_another_length_give_way(tmp_path):
    """Ultralytics' engines without metadata call 999 classes class0 to class998."""
    names = str({index: f"class{index}" for index in range(999)})
    labels = find(tmp_path, metadata_props={"names": names})
    assert labels.names == ("LABEL_0", "LABEL_1", "LABEL_2")
    assert labels.source == "default: nothing names the classes"


def test_ultralytics_writes_names_into_the_onnx_file_as_python(tmp_path):
    names = str({2: "barn owl", 0: "tom's cat", 1: 'a "dog"'})
    labels = find(tmp_path, metadata_props={"names": names, "task": "classify"})
    assert labels.names == ("tom's cat", 'a "dog"', "barn owl")
    assert labels.source == "ONNX metadata: names"
    (tmp_path / "labels.txt").write_text("cat\ndog\nowl")
    assert find(tmp_path, metadata_props={"names": names}).source == "labels.txt"


def test_metadata_that_are_no_names_are_passed_over(tmp_path):
    assert find(tmp_path, metadata_props={"names": "whatever"}).names[0] == "LABEL_0"
    with pytest.raises(ModelError, match="ONNX metadata: names names 2 classes"):
        find(tmp_path, metadata_props={"names": "['cat', 'dog']"})


TRITON = """
name: "classifier"  # label_filename: "not-this.txt"
input [ { name: "data_0" dims: [ 3, 224, 224 ] } ]
output [
  {
    name: "color"
    dims: [ 2 ]
    reshape { shape: [ 1, 2, 1, 1 ] }
    label_filename: "color_labels.txt"
  },
  {
    name: "kind"
    dims: [ 3 ]
    label_filename: 'kind_labels.txt'
  }
]
"""


def test_tritons_configuration_names_the_labels_of_each_output(tmp_path):
    (tmp_path / "config.pbtxt").write_text(TRITON)
    (tmp_path / "color_labels.txt").write_text("red\ngreen")
    (tmp_path / "kind_labels.txt").write_text("cat\ndog\nowl")
    (tmp_path / "labels.txt").write_text("a\nb\nc")
    labels = find(tmp_path, output_name="kind")
    assert (labels.names, labels.source) == (NAMES, "config.pbtxt: label_filename kind_labels.txt")
    assert find(tmp_path, output_name="color", classes=2).names == ("red", "green")
    assert find(tmp_path, output_name="another").source == "labels.txt"


def test_tritons_only_labels_belong_to_the_output_whatever_it_is_called(tmp_path):
    (tmp_path / "config.pbtxt").write_text('output { label_filename: "l/names.txt" name: "prob" }')
    (tmp_path / "l").mkdir()
    (tmp_path / "l" / "names.txt").write_text("cat\ndog\nowl")
    assert find(tmp_path, output_name="logits").names == NAMES


@pytest.mark.parametrize("name", ["/etc/hostname", "../labels.txt"])
def test_tritons_labels_lie_in_the_models_folder(tmp_path, name):
    (tmp_path / "config.pbtxt").write_text(f'output [ {{ label_filename: "{name}" }} ]')
    with pytest.raises(ModelError, match="expected a file below the model's folder"):
        find(tmp_path)


def test_a_damaged_configuration_of_triton_is_no_missing_one(tmp_path):
    (tmp_path / "config.pbtxt").write_text('output [ { label_filename: "labels.txt"')
    with pytest.raises(ModelError, match=r"config\.pbtxt: cannot be read .*line 1"):
        find(tmp_path)


def test_tritons_labels_must_be_there(tmp_path):
    (tmp_path / "config.pbtxt").write_text('output [ { label_filename: "gone.txt" } ]')
    with pytest.raises(ModelError, match=r"gone\.txt: No such file"):
        find(tmp_path)


def test_imagenets_list_is_shipped_with_synsets(tmp_path):
    labels = find(tmp_path, classes=1000, file=Path("imagenet-1k"))
    assert len(set(labels.names)) == 1000
    assert labels.source == "--labels imagenet-1k"
    assert [labels.names[index] for index in (0, 134, 517, 999)] == [
        *("tench", "crane bird", "crane", "toilet tissue"),
    ]
    names = find(tmp_path, classes=1000, file=Path("imagenet-1k"), label_type="name").names
    assert names[0] == "n01440764"
    assert list(names) == sorted(names)


def test_a_class_more_than_imagenet_has_is_the_background_at_0(tmp_path):
    labels = find(tmp_path, classes=1001, file=Path("imagenet-1k"))
    assert labels.names[:2] == ("background", "tench")
    assert len(labels.names) == 1001


@pytest.mark.parametrize("classes", [2, 999, 1002, 21843])
def test_imagenets_list_fits_no_other_model(tmp_path, classes):
    with pytest.raises(ModelError, match=f"names 1000 classes, the model gives {classes}"):
        find(tmp_path, classes=classes, file=Path("imagenet-1k"))


@pytest.mark.parametrize(
    ("config", "preprocess", "source"),
    [
        ({"pretrained_cfg": {"tag": "a1_in1k"}}, "auto", "config.json: tag a1_in1k"),
        ({"tag": "augreg_in21k_ft_in1k_384"}, "auto", "config.json: tag augreg_in21k_ft_in1k_384"),
        ({}, "ResNet50_Weights.DEFAULT", "--preprocess ResNet50_Weights.DEFAULT"),
        (
            {},
            "torchvision/ResNet18_QuantizedWeights.IMAGENET1K_FBGEMM_V1",
            "--preprocess torchvision/ResNet18_QuantizedWeights.IMAGENET1K_FBGEMM_V1",
        ),
    ],
)
def test_a_model_that_says_imagenet_takes_the_list(tmp_path, config, preprocess, source):
    labels = find(tmp_path, config, classes=1000, preprocess=preprocess)
    assert labels.names[0] == "tench"
    assert labels.source == f"imagenet-1k, as {source}"
    (tmp_path / "labels.txt").write_text("\n".join(f"mine {index}" for index in range(1000)))
    own = find(tmp_path, config, classes=1000, preprocess=preprocess)
    assert (own.names[0], own.source) == ("mine 0", "labels.txt")


@pytest.mark.parametrize(
    ("config", "classes", "preprocess"),
    [
        ({"num_classes": 1000, "pretrained_cfg": {"num_classes": 1000}}, 1000, "auto"),
        ({"pretrained_cfg": {"tag": "a1_in1k"}}, 10, "auto"),  # fine-tuned; the tag is the base's
        ({"pretrained_cfg": {"tag": "a1_in1k"}}, 1001, "auto"),
        ({"pretrained_cfg": {"tag": "augreg_in21k"}}, 1000, "auto"),
        ({"pretrained_cfg": {"tag": "in1k_ft_in12k"}}, 1000, "auto"),
        ({"pretrained_cfg": {"tag": "cabin1k"}}, 1000, "auto"),
        ({}, 1000, "imagenet"),
        ({}, 1000, "torchvision-v2"),
    ],
)
def test_a_thousand_classes_alone_are_not_imagenet(tmp_path, config, classes, preprocess):
    labels = find(tmp_path, config, classes=classes, preprocess=preprocess)
    assert labels.names[0] == "LABEL_0"
    assert labels.source == "default: nothing names the classes"


def test_a_label_too_few_or_too_many_says_what_the_background_is(tmp_path):
    """The most common shift: 1,001 scores of TensorFlow's models, and a list of 1,000."""
    (tmp_path / "labels.txt").write_text("cat\ndog\nowl")
    with pytest.raises(ModelError, match=r"names 3 classes.* gives 4 .*'background' comes first"):
        find(tmp_path, classes=4)
    (tmp_path / "labels.txt").write_text("Background\ndog\nowl")
    with pytest.raises(ModelError, match="first label is 'Background', which this model may not"):
        find(tmp_path, classes=2)
