from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

from flows.signature import settings_signature, takes_settings
from tasks.settings import Settings
from tests.flows.conftest import clean_environment

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def flow_schema(tmp_path_factory):
    """What Prefect makes of the flow's signature; in a process of its own, with an empty home."""
    code = (
        "import json\n"
        "from flows.classify_dir import classify_dir\n"
        "print(json.dumps(classify_dir.parameters.model_dump_for_openapi()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=clean_environment(tmp_path_factory.mktemp("home")),
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def resolved(schema: dict, names_of_it: tuple[str, ...] = ("title", "position")) -> dict:
    return {key: value for key, value in schema.items() if key not in names_of_it}


def test_the_flow_has_the_parameters_of_settings_and_no_others(flow_schema):
    expected = Settings.model_json_schema()

    assert set(flow_schema["properties"]) == set(expected["properties"])
    assert flow_schema["required"] == ["images", "model", "output"]
    assert set(expected["required"]) == {"images", "model", "output"}


@pytest.mark.parametrize("name", Settings.model_fields)
def test_the_form_has_the_description_type_range_choices_and_default_of_the_field(
    flow_schema, name
):
    expected = Settings.model_json_schema()["properties"][name]

    assert resolved(flow_schema["properties"][name]) == resolved(expected)
    assert expected["description"].endswith(".")


def test_parameters_stand_in_the_order_of_the_signature(flow_schema):
    positions = [schema["position"] for schema in flow_schema["properties"].values()]

    assert positions == sorted(positions)


def test_only_images_is_positional():
    kinds = {name: p.kind for name, p in settings_signature(Settings).parameters.items()}

    assert kinds.pop("images") is inspect.Parameter.POSITIONAL_OR_KEYWORD
    assert set(kinds.values()) == {inspect.Parameter.KEYWORD_ONLY}


def test_the_docstring_explains_every_parameter():
    @takes_settings(Settings)
    def classify(images, **options):
        """Do it."""

    assert classify.__doc__.startswith("Do it.\n\nArgs:\n    images: ")
    assert all(f"    {name}: " in classify.__doc__ for name in Settings.model_fields)
