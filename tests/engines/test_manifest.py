from __future__ import annotations

import dataclasses
import json

import pytest

from engines.manifest import Manifest, canonical_json, nearest
from tests.engines.manifests import BASE, manifest

RECORDED = {
    "model",
    "model_id",
    "gpu_memory_bytes",
    "driver_version",
    "cuda_version",
    "onnx_version",
    "onnxruntime_version",
}
KEYED = sorted({field.name for field in dataclasses.fields(Manifest)} - RECORDED)


def changed(name: str) -> Manifest:
    value = getattr(BASE, name)
    other = {bool: not value, int: 7, str: "another", type(None): 7}[type(value)]
    return manifest(**{name: "ab" if name == "calibration_digest" else other})


@pytest.mark.parametrize("name", KEYED)
def test_every_ingredient_changes_the_key_and_is_explained(name):
    other = changed(name)
    assert other.key() != BASE.key()
    assert other.differences(BASE) == [name]
    [sentence] = other.explain(BASE)
    assert sentence.startswith("built for ")


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_what_is_only_recorded_rebuilds_nothing(name):
    assert changed(name).key() == BASE.key()
    assert changed(name).explain(BASE) == []


def test_the_key_is_a_sha256_that_does_not_change_between_releases():
    assert BASE.key() == "685d0f7d738f7369bca6debb3c3606bf514d555c2fee88fb82c225569326f551"


def test_explanations_read_as_sentences():
    now = manifest(
        tensorrt_version="10.16.1", gpu_name="NVIDIA L4", tf32=True, workspace_bytes=1 << 30
    )
    assert now.explain(BASE) == [
        "built for workspace limit not set, this is 1073741824",
        "built for TF32 off, this is on",
        "built for TensorRT 8.6.1, this is 10.16.1",
        "built for the GPU NVIDIA H200, this is NVIDIA L4",
    ]


def test_a_changed_model_is_named():
    now = manifest(graph_digest="b" * 64, model_id="resnet50@ffffffffffff")
    assert now.explain(BASE) == [
        "built for model graph resnet50@0123456789ab (aaaaaaaaaaaa), "
        "this is resnet50@ffffffffffff (bbbbbbbbbbbb)"
    ]


def test_nearest_takes_the_fewest_differences_of_the_same_model():
    far = manifest(tensorrt_version="10", gpu_name="x", precision="fp32/1")
    near = manifest(tensorrt_version="10")
    stranger = manifest(model="vit")
    assert nearest(BASE, [far, near, stranger]) is near
    assert nearest(BASE, [stranger]) is None


def test_json_round_trip():
    assert Manifest.from_json(json.loads(json.dumps(BASE.to_json()))) == BASE


@pytest.mark.parametrize(
    "spoil",
    [
        lambda values: values.pop("tf32"),
        lambda values: values.update(more=1),
        lambda values: values.update(tf32=1),
        lambda values: values.update(optimization_level=True),
        lambda values: values.update(gpu_name=None),
    ],
)
def test_other_fields_or_types_are_refused(spoil):
    values = BASE.to_json()
    spoil(values)
    with pytest.raises(ValueError, match=r"fields|expected"):
        Manifest.from_json(values)


def test_canonical_json_does_not_depend_on_the_order_of_keys():
    assert canonical_json({"b": 1, "a": [True, None]}) == b'{"a":[true,null],"b":1}'
    assert canonical_json({"a": [True, None], "b": 1}) == b'{"a":[true,null],"b":1}'
