from __future__ import annotations

import json
import multiprocessing
import pickle
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from engines.errors import ModelError
from engines.model import ModelRequest, load_model
from engines.onnx_runtime import OnnxRuntimeClassifier
from engines.preprocess import PreprocessOverrides
from tests.models.tiny import Tiny, normalise

PROCESSOR = {
    "image_processor_type": "ViTImageProcessor",
    "size": {"height": 4, "width": 6},
    "image_mean": [0.1, 0.2, 0.3],
    "image_std": [0.4, 0.5, 0.6],
    "resample": 2,
}
NAMES = tuple("abcdefg")


def write(folder, tiny=None, *, proto=None, config=None, processor=PROCESSOR, external=False):
    """A model folder as Optimum writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    proto = proto or (tiny or Tiny()).proto()
    if external:
        location = "model.onnx_data"
        onnx.save(
            proto,
            folder / "model.onnx",
            save_as_external_data=True,
            location=location,
            size_threshold=0,
        )
    else:
        (folder / "model.onnx").write_bytes(proto.SerializeToString())
    labels = {"id2label": {str(index): name for index, name in enumerate(NAMES)}}
    if processor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    (folder / "config.json").write_text(json.dumps(labels if config is None else config))
    return folder


def load(path, **request):
    return load_model(ModelRequest(path=path, **request))


def classify(model, images):
    with OnnxRuntimeClassifier(model, batch_size=len(images), slots=1, logits=True) as classifier:
        slot = classifier.acquire()
        slot.images[:] = images
        classifier.submit(slot, len(images))
        return classifier.collect()


IMAGES = np.random.default_rng(0).integers(0, 256, (4, 4, 6, 3), np.uint8)


def test_a_model_folder_becomes_a_model(tmp_path):
    model = load(write(tmp_path / "tiny"))
    assert model.name == "tiny"
    assert model.model_id.startswith("tiny@")
    assert len(model.model_id) == len("tiny@") + 12
    assert set(model.model_id[5:]) <= set("0123456789abcdef")
    assert model.labels == NAMES
    assert (model.classes, model.k, model.input_height, model.input_width) == (7, 5, 4, 6)
    assert (model.activation, model.output_name) == ("softmax", "logits")
    expected = Tiny().logits(normalise(IMAGES, model.spec))
    np.testing.assert_allclose(classify(model, IMAGES).logits, expected, atol=1e-5)


def test_every_decision_says_where_it_came_from(tmp_path):
    folder = write(tmp_path / "tiny")
    sources = load(folder, overrides=PreprocessOverrides(mean=(0.5, 0.5, 0.5))).sources
    assert sources["mean"] == "--mean"
    assert sources["std"] == "preprocessor_config.json: image_std"
    assert sources["labels"] == "config.json: id2label"
    assert sources["activation"] == "the output is made by Gemm: logits"
    assert sources["output"] == "the graph"
    assert load(folder, output_name="logits").sources["output"] == "--output-name"


def test_a_model_can_go_to_another_process(tmp_path):
    model = load(write(tmp_path / "tiny", external=True))
    assert pickle.loads(pickle.dumps(model)) == model
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.apply(classify, (model, IMAGES))
    np.testing.assert_array_equal(there.logits, classify(model, IMAGES).logits)


def test_a_model_cannot_be_changed(tmp_path):
    model = load(write(tmp_path / "tiny"))
    with pytest.raises(FrozenInstanceError):
        model.top_k = 3
    assert len(repr(model)) < 3000


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("config.json", None),
        ("preprocessor_config.json", None),
        ("config.pbtxt", {}),
        ("labels.txt", {}),
        ("cvexport.manifest", {}),
    ],
)
def test_a_link_that_leads_nowhere_is_not_taken_for_no_file(tmp_path, name, config):
    """As in a copy of the hub's cache without its blobs: classes would be called LABEL_0."""
    processor = None if name == "cvexport.manifest" else PROCESSOR
    folder = write(tmp_path / "tiny", config=config, processor=processor)
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to("../../blobs/c0ffee")
    with pytest.raises(ModelError, match=rf"{name} is a link to \.\./\.\./blobs/c0ffee.*cp -rL"):
        load(folder)
    (folder / name).unlink()
    (folder / "real").write_text("{}")
    (folder / name).symlink_to("real")
    if name == "config.json":
        assert load(folder).labels[0] == "LABEL_0"


TIMM = {"architecture": "tiny", "pretrained_cfg": {"input_size": [3, 4, 6], "num_classes": 1000}}


def test_timms_config_of_another_model_is_refused(tmp_path):
    folder = write(tmp_path / "tiny", config=TIMM, processor=None)
    with pytest.raises(ModelError, match="num_classes is 1000, and the model's graph gives 7"):
        load(folder)
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    assert load(folder, labels=tmp_path / "names.txt").labels == NAMES
    assert load(folder, preprocess=str(folder / "config.json")).labels[0] == "LABEL_0"


def test_timms_config_of_a_fine_tuned_model_is_its_own(tmp_path):
    model = load(write(tmp_path / "tiny", config=TIMM | {"num_classes": 7}, processor=None))
    assert model.sources["mean"] == "timm default"


def test_external_data_is_part_of_the_digest_and_not_needed_later(tmp_path):
    folder = write(tmp_path / "tiny", external=True)
    model = load(folder)
    data = folder / "model.onnx_data"
    content = bytearray(data.read_bytes())
    content[0] ^= 1
    data.write_bytes(content)
    assert load(folder).model_id != model.model_id
    data.unlink()
    assert classify(model, IMAGES).scores.shape == (4, 5)


class TestModelId:
    @pytest.fixture
    def folder(self, tmp_path):
        return write(tmp_path / "tiny")

    def test_is_the_same_anywhere(self, folder, tmp_path):
        again = write(tmp_path / "elsewhere" / "tiny")
        assert load(folder).model_id == load(again).model_id

    @pytest.mark.parametrize(
        "request_",
        [{"top_k": 1}, {"output_name": "logits"}, {"activation": "softmax"}],
    )
    def test_does_not_depend_on_what_leaves_scores_alone(self, folder, request_):
        assert load(folder, **request_).model_id == load(folder).model_id

    def test_depends_on_all_that_changes_rows(self, folder, tmp_path):
        (tmp_path / "labels.txt").write_text("\n".join("bacdefg"))
        changed = [
            load(folder),
            load(folder, labels=tmp_path / "labels.txt"),
            load(folder, activation="sigmoid"),
            load(folder, overrides=PreprocessOverrides(mean=(0.1, 0.2, 0.4))),
            load(folder, overrides=PreprocessOverrides(interpolation="bicubic")),
            load(write(tmp_path / "weights" / "tiny", Tiny(seed=1))),
        ]
        assert len({model.model_id for model in changed}) == len(changed)

    def test_depends_on_the_input_size(self, tmp_path):
        folder = write(tmp_path / "tiny", Tiny(fixed_size=False))
        small = load(folder)
        large = load(folder, overrides=PreprocessOverrides(input_size=(8, 12)))
        assert (large.input_height, large.input_width) == (8, 12)
        assert small.model_id != large.model_id


class TestActivation:
    @pytest.mark.parametrize(
        ("final", "activation", "source"),
        [
            (None, "softmax", "the output is made by Gemm: logits"),
            ("Softmax", "none", "the graph ends in Softmax"),
            ("Sigmoid", "none", "the graph ends in Sigmoid"),
            ("LogSoftmax", "softmax", "the graph ends in LogSoftmax"),
        ],
    )
    def test_follows_the_graph(self, tmp_path, final, activation, source):
        model = load(write(tmp_path / "tiny", Tiny(final=final)))
        assert model.activation == activation
        assert model.sources["activation"].startswith(source)

    def test_softmax_log_softmax_and_logits_score_alike(self, tmp_path):
        scores = [
            classify(load(write(tmp_path / str(final), Tiny(final=final))), IMAGES).scores
            for final in (None, "Softmax", "LogSoftmax")
        ]
        np.testing.assert_allclose(scores[1], scores[0], atol=1e-6)
        np.testing.assert_allclose(scores[2], scores[0], atol=1e-6)

    def test_follows_the_problem_type(self, tmp_path):
        config = {"problem_type": "multi_label_classification"}
        model = load(write(tmp_path / "tiny", config=config))
        assert model.activation == "sigmoid"
        assert model.sources["activation"] == "config.json: problem_type multi_label_classification"

    def test_of_one_score_is_sigmoid(self, tmp_path):
        model = load(write(tmp_path / "tiny", Tiny(classes=1), config={}))
        assert (model.activation, model.k, model.labels) == ("sigmoid", 1, ("LABEL_0",))

    def test_on_request(self, tmp_path):
        model = load(write(tmp_path / "tiny"), activation="sigmoid")
        assert (model.activation, model.sources["activation"]) == ("sigmoid", "--activation")

    def test_twice_is_refused(self, tmp_path):
        folder = write(tmp_path / "tiny", Tiny(final="Softmax"))
        with pytest.raises(ModelError, match="--activation softmax: the graph ends in Softmax"):
            load(folder, activation="softmax")

    def test_of_a_regression_is_refused_unless_asked_for(self, tmp_path):
        folder = write(tmp_path / "tiny", config={"problem_type": "regression"})
        with pytest.raises(ModelError, match=r"'regression'.*--activation none"):
            load(folder)
        assert load(folder, activation="none").activation == "none"


class TestBatches:
    def test_of_one_become_any_where_the_graph_allows(self, tmp_path):
        folder = write(tmp_path / "tiny", Tiny(batch=1))
        model = load(folder)
        expected = Tiny().logits(normalise(IMAGES, model.spec))
        np.testing.assert_allclose(classify(model, IMAGES).logits, expected, atol=1e-5)

    @pytest.mark.parametrize("target", [[1, 72], [1, -1]])
    def test_fixed_inside_of_the_graph_become_any(self, tmp_path, target):
        model = load(write(tmp_path / "tiny", proto=reshaping(target, batch=1)))
        assert classify(model, IMAGES).scores.shape == (4, 5)
        assert model.sources["batch"].startswith("1 in the graph's Reshape model/")

    @pytest.mark.parametrize("target", [[-1, 72], [0, 72], [0, -1]])
    def test_stated_in_the_signature_alone_become_any(self, tmp_path, target):
        folder = write(tmp_path / "tiny", proto=reshaping(target, batch=8))
        assert classify(load(folder), IMAGES).scores.shape == (4, 5)

    def test_whose_images_mix_are_refused(self, tmp_path):
        folder = write(tmp_path / "tiny", proto=mixing())
        with pytest.raises(ModelError, match=r"get other scores than one by one.*ReduceMean"):
            load(folder)


def reshaping(target, batch):
    """A linear classifier that flattens with a Reshape to a constant shape."""
    nodes = [
        helper.make_node("Reshape", ["x", "target"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["logits"]),
    ]
    weight = np.random.default_rng(0).standard_normal((72, 7)).astype(np.float32)
    return model_of(nodes, batch, target=np.array(target, np.int64), weight=weight)


def mixing():
    """A classifier that subtracts the mean of its batch: right for one image alone."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("ReduceMean", ["flat"], ["mean"], axes=[0]),
        helper.make_node("Add", ["flat", "mean"], ["sum"]),
        helper.make_node("MatMul", ["sum", "weight"], ["logits"]),
    ]
    return model_of(nodes, 1, weight=np.ones((3, 7), np.float32) * np.arange(7, dtype=np.float32))


def model_of(nodes, batch, **constants):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 4, 6])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, 7])],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_classes_that_the_graph_does_not_state_are_counted(tmp_path):
    proto = Tiny(fixed_size=False, layout="nhwc").proto()
    proto.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "classes"
    model = load(write(tmp_path / "tiny", proto=proto))
    assert model.classes == 7


def test_a_model_that_cannot_be_run_to_count_its_classes_is_refused(tmp_path):
    proto = reshaping([1, 71], batch=1)
    proto.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "classes"
    with pytest.raises(
        ModelError, match=r"does not accept the model|does not run on an image of 4x6"
    ):
        load(write(tmp_path / "tiny", proto=proto))


def test_a_uint8_model_normalises_by_itself_and_the_sources_say_so(tmp_path):
    tiny = Tiny(dtype="uint8", layout="nhwc")
    model = load(write(tmp_path / "tiny", tiny))
    assert model.sources["mean"] == "not applied: the graph takes uint8"
    expected = tiny.logits(IMAGES.transpose(0, 3, 1, 2).astype(np.float64))
    np.testing.assert_allclose(classify(model, IMAGES).logits, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}, "--mean, --std: .*uint8"),
        ({"pixel_range": "0-1"}, "--pixel-range: .*uint8"),
        ({"pixel_range": "0-255"}, None),
        ({"channel_order": "bgr"}, None),
    ],
)
def test_flags_that_a_uint8_model_cannot_honour_are_refused(tmp_path, flags, named):
    folder = write(tmp_path / "tiny", Tiny(dtype="uint8"))
    if named is None:
        assert load(folder, overrides=PreprocessOverrides(**flags)).classes == 7
    else:
        with pytest.raises(ModelError, match=named):
            load(folder, overrides=PreprocessOverrides(**flags))


def test_a_graph_that_goes_in_a_circle_is_refused_and_not_followed(tmp_path):
    proto = Tiny(output_name="y").proto()
    proto.graph.node[-1].output[0] = "rows"
    proto.graph.node.append(onnx.helper.make_node("Identity", ["again"], ["y"]))
    proto.graph.node.append(onnx.helper.make_node("Identity", ["y"], ["again"]))
    with pytest.raises(ModelError, match="the graph is not acyclic"):
        load(write(tmp_path / "tiny", proto=proto))


def test_a_graph_that_is_no_valid_model_is_refused(tmp_path):
    proto = Tiny().proto()
    proto.graph.node[1].input[0] = "nowhere"
    with pytest.raises(ModelError, match="not a valid ONNX model"):
        load(write(tmp_path / "tiny", proto=proto))


@pytest.mark.parametrize("content", ["{", "[]", "\xff", ""])
def test_a_damaged_config_is_named(tmp_path, content):
    folder = write(tmp_path / "tiny")
    (folder / "config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(ModelError, match=r"config\.json"):
        load(folder)


def test_missing_preprocessing_is_refused_and_a_preset_accepted(tmp_path):
    folder = write(tmp_path / "tiny", processor=None)
    with pytest.raises(ModelError, match="--preprocess"):
        load(folder)
    size = PreprocessOverrides(input_size=(4, 6))
    assert load(folder, preprocess="torchvision-v1", overrides=size).spec.mean[0] == 0.485


def test_labels_of_the_wrong_length_are_refused(tmp_path):
    folder = write(tmp_path / "tiny", Tiny(classes=9))
    with pytest.raises(ModelError, match=r"names 7 classes, the model in .*tiny gives 9 scores"):
        load(folder)


def test_a_bare_file_takes_its_name_and_configuration_from_where_it_lies(tmp_path):
    folder = write(tmp_path / "tiny")
    (folder / "model.onnx").rename(folder / "mine.onnx")
    model = load(folder / "mine.onnx")
    assert (model.name, model.labels) == ("mine", NAMES)


def test_the_hubs_layout(tmp_path):
    folder = write(tmp_path / "vit")
    (folder / "onnx").mkdir()
    (folder / "model.onnx").rename(folder / "onnx" / "model.onnx")
    by_folder, by_file = load(folder), load(folder / "onnx" / "model.onnx")
    assert (by_folder.name, by_folder.labels) == ("vit", NAMES)
    assert replace(by_file, name="", model_id="") == replace(by_folder, name="", model_id="")


def test_a_request_for_no_label_is_a_programming_error():
    with pytest.raises(ValueError, match="top_k is 0"):
        ModelRequest(path=Path("x"), top_k=0)
