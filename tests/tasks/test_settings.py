from __future__ import annotations

import pytest
from pydantic import ValidationError

from engines.profile import ShapeRange, parse_batch_size
from tasks.model_settings import ModelSettings
from tasks.settings import BuildSettings, Settings

ASKED = {"images": "photos", "model": "model", "output": "out"}


def test_what_a_deployment_gives_as_json_comes_back_the_same():
    settings = Settings(**ASKED, mean=[0.5, 0.5, 0.5], batch_size="1:8:16", workers=2)

    assert Settings.model_validate_json(settings.model_dump_json()) == settings


def test_settings_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        Settings(**ASKED).top_k = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    "wrong",
    [
        {"top_k": True},
        {"top_k": "5"},
        {"top_k": 2.5},
        {"batch_size": True},
        {"batch_size": 1.5},
        {"batch_size": -1},
        {"batch_size": "1:2"},
        {"batch_size": "+1"},
        {"batch_size": "٣"},
        {"workers": False},
        {"mean": [1, 2, float("nan")]},
        {"std": [1, 1, float("inf")]},
        {"std": [1, 1, -1]},
        {"images": []},
        {"images": ["a", ""]},
        {"images": "a\0b"},
        {"extensions": []},
        {"extensions": ["*.jpg"]},
        {"extensions": [".tar.gz"]},
        {"run_id": ".."},
        {"run_id": "a/b"},
        {"run_id": ""},
        {"run_id": "x" * 101},
        {"no_such": 1},
    ],
)
def test_what_json_can_get_wrong_is_refused(wrong):
    with pytest.raises(ValidationError):
        Settings(**(ASKED | wrong))


@pytest.mark.parametrize(
    ("given", "expected"),
    [(8, (1, 8, 8)), ("8", (1, 8, 8)), ("1:8:16", (1, 8, 16)), ("4:4:4", (4, 4, 4))],
)
def test_a_batch_size_is_one_number_or_three(given, expected):
    asked = Settings(**ASKED, batch_size=given).batch_size
    assert parse_batch_size(str(asked)) == ShapeRange(*expected)


@pytest.mark.parametrize(
    ("given", "expected"),
    [(None, None), (224, (224, 224)), ("224", (224, 224)), ("160x224", (160, 224))],
)
def test_an_input_size_is_one_number_or_height_and_width(given, expected):
    assert Settings(**ASKED, input_size=given).input_hw == expected


@pytest.mark.parametrize(
    ("given", "expected"), [(None, None), (256, 256), ("256", 256), ("256x300", (256, 300))]
)
def test_a_resize_size_is_the_shortest_edge_or_height_and_width(given, expected):
    assert Settings(**ASKED, resize_size=given).resize == expected


def test_suffixes_are_lower_case_and_images_are_always_several():
    settings = Settings(**ASKED, extensions=[".JPG"])

    assert settings.extensions == [".jpg"]
    assert settings.sources == ("photos",)


def test_an_input_size_lies_inside_the_image_size():
    assert Settings(**ASKED, image_size="160:224:448", input_size="160x448").input_hw == (160, 448)
    with pytest.raises(ValidationError, match="expected sides from 160 to 448"):
        Settings(**ASKED, image_size="160:224:448", input_size="128")


def test_the_defaults_are_those_that_the_readme_promises():
    settings = Settings(**ASKED)

    assert (settings.batch_size, settings.shard_size, settings.top_k) == (64, 10_000, 5)
    assert (settings.max_error_rate, settings.retries, settings.workers) == (0.05, 2, None)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, None),
        ("1MiB", 2**20),
        ("4GiB", 2**32),
        ("4096mib", 2**32),
        ("0.5 GiB", 2**29),
        ("4096GiB", 2**42),
    ],
)
def test_a_workspace_is_a_size_with_its_unit(given, expected):
    assert Settings(**ASKED, workspace=given).workspace_bytes == expected


@pytest.mark.parametrize("wrong", ["4", "4G", "4GB", "0GiB", "4097GiB", "-1GiB", "1e3GiB", 4])
def test_a_workspace_without_a_unit_or_out_of_range_is_refused(wrong):
    with pytest.raises(ValidationError):
        Settings(**ASKED, workspace=wrong)


def test_every_command_has_what_an_engine_depends_on():
    shared = set(ModelSettings.model_fields)

    assert shared < set(Settings.model_fields)
    assert shared < set(BuildSettings.model_fields)
    assert BuildSettings(model="model").model_dump(include=shared) == Settings(**ASKED).model_dump(
        include=shared
    )
