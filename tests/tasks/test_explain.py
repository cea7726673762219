from __future__ import annotations

from pathlib import Path

from engines.model import ModelRequest, load_model
from engines.preprocess import PreprocessOverrides
from tasks.explain import explain

MODEL = Path(__file__).parent.parent.parent / "examples/digits/model"


def lines(**overrides):
    model = load_model(ModelRequest(path=MODEL, overrides=PreprocessOverrides(**overrides)))
    return model, explain(model).splitlines()


def test_every_decision_has_a_line_with_its_value_and_its_source():
    model, (first, *rest) = lines()
    assert model.model_id in first
    assert {line.split()[0] for line in rest} == set(model.sources)
    text = "\n".join(" ".join(line.split()) for line in rest)
    assert "input_size 32x32 preprocessor_config.json: size" in text
    assert "pixel_range 0 to 1 preprocessor_config.json: rescale_factor" in text
    assert "labels 10: zero, one, two, ... config.json: id2label" in text


def test_a_flag_is_named_as_the_source():
    _, rest = lines(mean=(0.1, 0.2, 0.3))
    assert any(line.split() == ["mean", "0.1", "0.2", "0.3", "--mean"] for line in rest)
