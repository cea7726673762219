"""Labels on the way from a model's own files to the model that is run."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from engines.errors import ModelError
from engines.model import ModelRequest, load_model
from tests.models.tiny import Tiny, build


def saved(folder, *, classes, metadata=None):
    proto = build(Tiny(classes=classes))
    onnx.helper.set_model_props(proto, metadata or {})
    onnx.save(proto, folder / "model.onnx")
    return folder / "model.onnx"


def loaded(path, **request):
    return load_model(ModelRequest(path=path, preprocess="raw-0-255", **request))


def test_names_in_the_onnx_file_are_found_without_any_other_file(tmp_path):
    path = saved(tmp_path, classes=2, metadata={"names": "{1: 'dog', 0: \"tom's cat\"}"})
    model = loaded(path)
    assert model.labels == ("tom's cat", "dog")
    assert model.sources["labels"] == "ONNX metadata: names"


def test_a_model_of_1001_classes_takes_imagenets_list_behind_the_background(tmp_path):
    model = loaded(saved(tmp_path, classes=1001), labels=Path("imagenet-1k"))
    assert model.labels[:2] == ("background", "tench")
    assert model.labels[1000] == "toilet tissue"


def test_a_model_of_1000_classes_is_not_imagenets_for_that(tmp_path):
    model = loaded(saved(tmp_path, classes=1000))
    assert model.labels[0] == "LABEL_0"
    assert model.sources["labels"] == "default: nothing names the classes"


def test_other_words_for_the_classes_make_another_model_id(tmp_path):
    path = saved(tmp_path, classes=2)
    (tmp_path / "synset.txt").write_text("n01440764 tench\nn01443537 goldfish")
    described, named = loaded(path), loaded(path, label_type="name")
    assert (described.labels, named.labels) == (("tench", "goldfish"), ("n01440764", "n01443537"))
    assert described.model_id != named.model_id


def test_tritons_labels_belong_to_the_output_that_is_taken(tmp_path):
    (tmp_path / "config.pbtxt").write_text(
        'output [ { name: "logits" dims: [ 2 ] label_filename: "mine.txt" },'
        ' { name: "boxes" dims: [ 4 ] label_filename: "boxes.txt" } ]'
    )
    (tmp_path / "mine.txt").write_text("cat\ndog")
    model = loaded(saved(tmp_path, classes=2))
    assert model.labels == ("cat", "dog")


def test_labels_of_another_length_stop_the_model_from_loading(tmp_path):
    (tmp_path / "labels.txt").write_text("cat\ndog\nowl")
    with pytest.raises(ModelError, match=r"labels\.txt names 3 classes.*gives 2 scores"):
        loaded(saved(tmp_path, classes=2))


def zipped(folder, keys):
    proto = build(Tiny(classes=3, final="Softmax"))
    node = onnx.helper.make_node("ZipMap", ["logits"], ["loss"], domain="ai.onnx.ml")
    kind = "strings" if isinstance(keys[0], str) else "int64s"
    node.attribute.append(onnx.helper.make_attribute(f"classlabels_{kind}", keys))
    proto.graph.node.append(node)
    proto.opset_import.append(onnx.helper.make_opsetid("ai.onnx.ml", 3))
    key = onnx.TensorProto.STRING if kind == "strings" else onnx.TensorProto.INT64
    scores = onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, [])
    kinds = onnx.helper.make_sequence_type_proto(onnx.helper.make_map_type_proto(key, scores))
    proto.graph.output[0].CopyFrom(onnx.helper.make_value_info("loss", kinds))
    onnx.save(proto, folder / "model.onnx")
    return folder / "model.onnx"


def test_names_that_the_graph_gives_with_the_scores_win_over_files_in_another_order(tmp_path):
    (tmp_path / "labels.txt").write_text("cat\ndog\nowl")
    model = loaded(zipped(tmp_path, ["owl", "cat", "dog"]))
    assert model.labels == ("owl", "cat", "dog")
    assert model.sources["labels"] == "the graph: ZipMap"
    (tmp_path / "mine.txt").write_text("Eule\nKatze\nHund")
    assert loaded(tmp_path / "model.onnx", labels=tmp_path / "mine.txt").labels[0] == "Eule"


@pytest.mark.parametrize(
    ("keys", "labels"),
    [([0, 1, 2], ("LABEL_0", "LABEL_1", "LABEL_2")), ([8, 3, 5], ("8", "3", "5"))],
)
def test_numbers_that_the_graph_gives_are_names_where_nothing_else_is(tmp_path, keys, labels):
    path = zipped(tmp_path, keys)
    assert loaded(path).labels == labels
    (tmp_path / "labels.txt").write_text("cat\ndog\nowl")
    assert loaded(path).labels == ("cat", "dog", "owl")
