"""Exporting, where PyTorch and the library are installed: the extra `export`."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch")

from engines.model import ModelRequest, load_model  # noqa: E402
from tasks.errors import ExportError, SettingsError  # noqa: E402
from tasks.export_model import export_model  # noqa: E402
from tasks.export_settings import ExportSettings  # noqa: E402
from tasks.export_verify import compare  # noqa: E402
from tasks.export_weights import load_weights  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # what PyTorch's exporter deprecates in itself


def exported(source, output, **options):
    return export_model(ExportSettings(source=source, output=str(output), **options))


def config_of(folder):
    return json.loads((folder / "config.json").read_text("utf-8"))


def test_timm_with_random_weights(tmp_path):
    pytest.importorskip("timm")
    summary = exported(
        "timm:test_resnet.r160_in1k", tmp_path / "m", random_weights=True, classes=7, seed=3
    )
    assert (summary.classes, summary.height, summary.width) == (7, 160, 160)
    assert summary.agreement.top1 == summary.agreement.images == 8
    assert 0 < summary.agreement.worst_logit < 1e-5
    assert set(summary.files) == {"config.json", "model.onnx"}
    config = config_of(tmp_path / "m")
    assert config["architecture"] == "test_resnet"
    assert config["pretrained_cfg"]["crop_pct"] == 0.95
    assert "tag" not in config["pretrained_cfg"], "random weights know no data set"
    model = load_model(ModelRequest(path=tmp_path / "m"))
    assert model.model_id == summary.model_id
    assert model.sources["mean"] == "config.json: mean"
    text = (tmp_path / "m" / "model.onnx").read_bytes()
    assert b"site-packages" not in text
    assert b"/tests/" not in text


def test_the_same_seed_gives_the_same_model(tmp_path):
    pytest.importorskip("timm")
    names = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        exported(
            "timm:test_efficientnet", tmp_path / name, random_weights=True, classes=3, seed=seed
        )
        names[name] = load_model(ModelRequest(path=tmp_path / name)).digest
    assert names["a"] == names["b"] != names["c"]


def test_another_size_and_labels_of_ones_own(tmp_path):
    pytest.importorskip("timm")
    (tmp_path / "names.txt").write_text("cat\ndog")
    summary = exported(
        "timm:test_vit",
        tmp_path / "m",
        random_weights=True,
        classes=2,
        labels=str(tmp_path / "names.txt"),
        input_size="96x64",
    )
    assert (summary.height, summary.width) == (96, 64)
    assert summary.labels == "config.json: label_names"
    assert load_model(ModelRequest(path=tmp_path / "m")).labels == ("cat", "dog")


def test_torchvision_writes_its_transform_as_a_specification(tmp_path):
    torchvision = pytest.importorskip("torchvision", exc_type=Exception)
    summary = exported(
        "torchvision:shufflenet_v2_x0_5", tmp_path / "m", random_weights=True, labels="imagenet-1k"
    )
    assert summary.agreement.top1 == 8
    model = load_model(ModelRequest(path=tmp_path / "m"))
    transform = torchvision.models.get_model_weights("shufflenet_v2_x0_5").DEFAULT.transforms()
    assert [model.spec.host.resize_height] == transform.resize_size
    assert list(model.spec.mean) == transform.mean
    assert model.labels[0] == "tench"


@pytest.mark.parametrize("external_data", [False, True])
def test_transformers_in_optimums_layout(tmp_path, external_data):
    transformers = pytest.importorskip("transformers")
    source = tmp_path / "source"
    transformers.ViTConfig(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=64,
        id2label={0: "cat", 1: "dog", 2: "owl"},
    ).save_pretrained(source)
    processor = {"image_processor_type": "ViTImageProcessor", "size": {"height": 64, "width": 64}}
    (source / "preprocessor_config.json").write_text(json.dumps(processor))
    summary = exported(
        f"hf:{source}", tmp_path / "m", random_weights=True, external_data=external_data
    )
    assert ("model.onnx.data" in summary.files) == external_data
    model = load_model(ModelRequest(path=tmp_path / "m"))
    assert model.labels == ("cat", "dog", "owl")
    assert model.spec.host.interpolation == "bilinear", "ViT's default, in no file"


def test_models_that_are_not_there_are_refused_and_leave_nothing(tmp_path):
    pytest.importorskip("timm")
    for source in ("timm:resnet18000", f"hf:{tmp_path}/none"):
        with pytest.raises(SettingsError, match="cannot be had"):
            exported(source, tmp_path / "m", random_weights=True)
    assert list(tmp_path.iterdir()) == []


def linear():
    return torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 4))


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "model."])
def test_checkpoints_as_trainers_save_them(tmp_path, wrapper, prefix):
    trained, module = linear(), linear()
    weights = {prefix + name: value for name, value in trained.state_dict().items()}
    torch.save({wrapper: weights, "epoch": 3} if wrapper else weights, tmp_path / "w.pt")
    load_weights(module, tmp_path / "w.pt")
    assert torch.equal(module[1].weight, trained[1].weight)


def test_a_checkpoint_of_safetensors(tmp_path):
    save_file = pytest.importorskip("safetensors.torch").save_file
    trained, module = linear(), linear()
    save_file(trained.state_dict(), tmp_path / "w.safetensors")
    load_weights(module, tmp_path / "w.safetensors")
    assert torch.equal(module[0].bias, trained[0].bias)
    (tmp_path / "w.safetensors").write_bytes(b"no weights")
    with pytest.raises(SettingsError, match="cannot be read"):
        load_weights(module, tmp_path / "w.safetensors")


class Trap:
    def __reduce__(self):
        return print, ("executed",)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (Trap(), "holds more than tensors, and reading the rest could run any code"),
        ([1, 2], "holds list; expected names and tensors"),
        ({"other": torch.zeros(1)}, r"lacks 0\.weight, 0\.bias.*has other that"),
        ({"0.weight": torch.zeros(9, 9)}, "other shapes than the model: .*--classes"),
    ],
)
def test_checkpoints_of_something_else_are_refused(tmp_path, capsys, document, message):
    torch.save(document, tmp_path / "w.pt")
    with pytest.raises(SettingsError, match=message):
        load_weights(linear(), tmp_path / "w.pt")
    assert "executed" not in capsys.readouterr().out


def test_an_export_that_computes_something_else_is_found(tmp_path):
    timm = pytest.importorskip("timm")
    exported("timm:test_resnet", tmp_path / "m", random_weights=True, classes=5)
    model = load_model(ModelRequest(path=tmp_path / "m"))
    torch.manual_seed(1)
    other = timm.create_model("test_resnet", num_classes=5).eval()
    with pytest.raises(ExportError, match="differs from PyTorch"):
        compare(other, model)
