from __future__ import annotations

import pytest

from engines.errors import ModelError
from engines.locate import locate


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["model.onnx", "config.json"], "model.onnx"),
        (["resnet.onnx", "resnet.onnx.data"], "resnet.onnx"),
        (["model.onnx", "model_fp16.onnx"], "model.onnx"),
        (["config.json", "onnx/model.onnx", "onnx/model_int8.onnx"], "onnx/model.onnx"),
        (["config.json", "onnx/only.onnx"], "onnx/only.onnx"),
        (["mine.onnx", "onnx/model.onnx"], "mine.onnx"),
    ],
)
def test_the_model_of_a_folder(tmp_path, names, found):
    folder = touch(tmp_path / "vit", *names)
    where = locate(folder)
    assert where.file == folder / found
    assert where.folder == folder
    assert where.name == "vit"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a.onnx", "b.onnx", "config.json"], "several ONNX files.*: a.onnx, b.onnx; give"),
        (["onnx/a.onnx", "onnx/b.onnx"], "several ONNX files.*: a.onnx, b.onnx; give"),
        (["model.safetensors", "config.json"], "holds config.json, model.safetensors; expected"),
        ([f"{i:02}.txt" for i in range(20)], r"10.txt, 11.txt, \.\.\.; expected"),
    ],
)
def test_folders_without_one_model_are_refused_with_what_they_hold(tmp_path, names, message):
    with pytest.raises(ModelError, match=message):
        locate(touch(tmp_path, *names))


def test_an_empty_folder_and_no_folder(tmp_path):
    with pytest.raises(ModelError, match=r"holds nothing; expected model\.onnx"):
        locate(tmp_path)
    with pytest.raises(ModelError, match=r"no such model: .*nowhere; expected an \.onnx file or"):
        locate(tmp_path / "nowhere")


def test_a_file_keeps_its_own_name_and_has_its_configuration_beside_it(tmp_path):
    touch(tmp_path, "r18.v2.onnx")
    where = locate(tmp_path / "r18.v2.onnx")
    assert (where.file, where.folder) == (tmp_path / "r18.v2.onnx", tmp_path)
    assert where.name == "r18.v2"


def test_a_file_in_the_hubs_folder_of_weights_has_its_configuration_one_level_up(tmp_path):
    touch(tmp_path, "config.json", "onnx/model_fp16.onnx")
    assert locate(tmp_path / "onnx" / "model_fp16.onnx").folder == tmp_path
    touch(tmp_path, "onnx/config.json")
    assert locate(tmp_path / "onnx" / "model_fp16.onnx").folder == tmp_path / "onnx"


@pytest.mark.parametrize("given", ["onnx", "onnx/model.onnx"])
@pytest.mark.parametrize("names", [["config.json"], ["labels.txt"]])
def test_the_hubs_folder_of_weights_is_as_good_as_the_one_around_it(tmp_path, names, given):
    touch(tmp_path / "vit", *names, "onnx/model.onnx")
    where = locate(tmp_path / "vit" / given)
    assert where.file == tmp_path / "vit" / "onnx" / "model.onnx"
    assert where.folder == tmp_path / "vit"
    assert where.name == ("vit" if given == "onnx" else "model")


@pytest.mark.parametrize("given", ["onnx", "onnx/model.onnx"])
@pytest.mark.parametrize("names", [["onnx/labels.txt"], ["onnx/labels.txt", "labels.txt"], []])
def test_a_folder_that_happens_to_be_called_onnx_keeps_its_labels(tmp_path, names, given):
    touch(tmp_path, *names, "onnx/model.onnx")
    assert locate(tmp_path / given).folder == tmp_path / "onnx"


@pytest.mark.parametrize("given", [".", "model.onnx"])
@pytest.mark.parametrize(
    ("names", "weights"),
    [(["config.json"], "onnx"), (["config.pbtxt", "3/labels.txt"], "3")],
)
def test_folders_around_are_found_from_within(tmp_path, monkeypatch, names, weights, given):
    touch(tmp_path / "vit", *names, f"{weights}/model.onnx")
    monkeypatch.chdir(tmp_path / "vit" / weights)
    where = locate(type(tmp_path)(given))
    assert where.folder == tmp_path / "vit"
    assert where.name == ("model" if (weights, given) == ("onnx", "model.onnx") else "vit")


@pytest.mark.parametrize("given", ["", "onnx"])
def test_a_snapshot_of_the_hubs_cache_is_called_by_its_repository(tmp_path, given):
    snapshot = tmp_path / "models--google--vit-base" / "snapshots" / ("3f49" * 10)
    touch(snapshot, "config.json", "onnx/model.onnx")
    assert locate(snapshot / given).name == "google--vit-base"
    touch(tmp_path / "snapshots" / "mine", "model.onnx")
    assert locate(tmp_path / "snapshots" / "mine").name == "mine"


def test_a_version_of_a_triton_model_may_be_given_as_a_folder(tmp_path):
    touch(tmp_path / "densenet", "config.pbtxt", "2/model.onnx", "10/model.onnx")
    where = locate(tmp_path / "densenet" / "2")
    assert where.file == tmp_path / "densenet" / "2" / "model.onnx"
    assert (where.folder, where.name) == (tmp_path / "densenet", "densenet")


def test_a_model_of_a_triton_repository_is_found_in_its_highest_version(tmp_path):
    model = tmp_path / "densenet"
    touch(model, "config.pbtxt", "2/model.onnx", "10/model.onnx", "10/notes.txt", "old/model.onnx")
    where = locate(model)
    assert (where.file, where.folder) == (model / "10" / "model.onnx", model)
    given = locate(model / "2" / "model.onnx")
    assert (given.file, given.folder, given.name) == (
        model / "2" / "model.onnx",
        model,
        "densenet",
    )


def test_the_highest_version_is_never_passed_over_for_an_older_onnx_file(tmp_path):
    touch(tmp_path, "config.pbtxt", "1/model.onnx", "2/model.plan")
    with pytest.raises(ModelError, match=r"<version>/model\.onnx"):
        locate(tmp_path)


def test_a_folder_called_by_a_number_is_a_version_beside_tritons_configuration_only(tmp_path):
    touch(tmp_path, "7/model.onnx")
    assert locate(tmp_path / "7" / "model.onnx").folder == tmp_path / "7"
    with pytest.raises(ModelError, match=r"expected model\.onnx"):
        locate(tmp_path)


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("vit base=16@x/", "vit_base_16_x"),
        ("naïve-模型", "na_ve-_"),
        ("..hidden", "hidden"),
        ("模型", "_"),
        ("x" * 200, "x" * 80),
    ],
)
def test_names_are_fit_for_a_path_segment(tmp_path, name, safe):
    assert locate(touch(tmp_path / name, "model.onnx")).name == safe


def test_relative_names_for_folders_are_resolved(tmp_path, monkeypatch):
    touch(tmp_path / "vit", "model.onnx")
    (tmp_path / "vit" / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "vit")
    path = type(tmp_path)
    assert locate(path(".")).name == "vit"
    monkeypatch.chdir(tmp_path / "vit" / "sub")
    assert locate(path("..")).name == "vit"
