"""The command export_model, as far as it goes without PyTorch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from flows.export_command import COMMAND, main

ROOT = Path(__file__).parent.parent.parent


def test_source_and_output_are_given_by_position_or_by_name():
    by_position = COMMAND.read(["timm:resnet18", "out", "--random-weights"]).settings
    by_name = COMMAND.read(
        ["--output", "out", "--source", "timm:resnet18", "--random-weights"]
    ).settings
    assert by_position == by_name
    assert (by_position.library, by_position.name) == ("timm", "resnet18")
    assert by_position.output == "out"


def test_a_name_may_hold_colons_and_slashes():
    settings = COMMAND.read(["hf:C:/models/vit", "out"]).settings
    assert (settings.library, settings.name) == ("hf", "C:/models/vit")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "source"),
        (["timm:resnet18"], "output"),
        (["resnet18", "out"], "'resnet18' given, expected timm:NAME, torchvision:NAME or hf:NAME"),
        (["keras:resnet18", "out"], "expected timm:NAME"),
        (["timm: ", "out"], "expected timm:NAME"),
        (["timm:x", "out", "--checkpoint", "w.pt", "--random-weights"], "give one"),
        (["timm:x", "out", "--classes", "3"], "classes needs checkpoint or random_weights"),
        (["timm:x", "out", "--opset", "11"], "expected an integer from 18 to 25"),
        (["timm:x", "out", "--input-size", "0"], "input_size (--input-size)"),
        (["timm:x", "out", "more"], "more"),
    ],
)
def test_what_cannot_be_is_refused_in_words(arguments, message, capsys):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("library", ["timm", "torchvision", "hf"])
def test_a_missing_library_is_named_with_the_extra_that_has_it(
    library, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "timm", None)
    assert main([f"{library}:x", str(tmp_path / "out"), "--random-weights", "--json"]) == 2
    document = json.loads(capsys.readouterr().out)
    assert "Install nightshift[export]" in document["error"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("there", ["file", "folder"])
def test_what_is_there_is_never_overwritten(there, tmp_path, capsys):
    output = tmp_path / "out"
    if there == "file":
        output.write_text("mine")
    else:
        output.mkdir()
        (output / "mine").write_text("mine")
    assert main(["timm:x", str(output), "--random-weights"]) == 2
    assert "is there already; expected a folder that is new or empty" in capsys.readouterr().err


def test_help_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from flows.export_command import main\n"
        "assert main(['--help']) == 0\n"
        "heavy = 'prefect pyarrow onnx onnxruntime PIL numpy torch timm transformers'.split()\n"
        "print([name for name in heavy if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stderr == "[]\n"
    for word in ("SOURCE", "OUTPUT", "--checkpoint", "--random-weights", "Exit codes"):
        assert word in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
