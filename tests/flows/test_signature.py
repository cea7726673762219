from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

from flows.signature import settings_signature, takes_settings
from tasks.settings import BuildSettings, Settings
from tests.flows.conftest import clean_environment

ROOT = Path(__file__).parent.parent.parent


FLOWS = {"classify_dir": Settings, "build_engine": BuildSettings}
FIELDS = [(flow, name) for flow, kind in FLOWS.items() for name in kind.model_fields]


@pytest.fixture(scope="module")
def schemas(tmp_path_factory):
    """What Prefect makes of the flows' signatures; in a process of its own, with an empty home."""
    code = (
        "import json\n"
        "from flows.build_engine import build_engine\n"
        "from flows.classify_dir import classify_dir\n"
        "flows = (build_engine, classify_dir)\n"
        "schemas = {flow.name: flow.parameters.model_dump_for_openapi() for flow in flows}\n"
        "print(json.dumps(schemas))\n"
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


@pytest.mark.parametrize(
    ("flow", "required"),
    [("classify_dir", ["images", "model", "output"]), ("build_engine", ["model"])],
)
def test_a_flow_has_the_parameters_of_its_settings_and_no_others(schemas, flow, required):
    expected = FLOWS[flow].model_json_schema()

    assert set(schemas[flow]["properties"]) == set(expected["properties"])
    assert schemas[flow]["required"] == required
    assert set(expected["required"]) == set(required)


@pytest.mark.parametrize(("flow", "name"), FIELDS)
def test_the_form_has_the_description_type_range_choices_and_default_of_the_field(
    schemas, flow, name
):
    expected = FLOWS[flow].model_json_schema()["properties"][name]

    assert resolved(schemas[flow]["properties"][name]) == resolved(expected)
    assert expected["description"].endswith(".")


@pytest.mark.parametrize("flow", FLOWS)
def test_parameters_stand_in_the_order_of_the_signature(schemas, flow):
    positions = [schema["position"] for schema in schemas[flow]["properties"].values()]

    assert positions == sorted(positions)
    assert list(schemas[flow]["properties"]) == list(settings_signature(FLOWS[flow]).parameters)


@pytest.mark.parametrize(("kind", "first"), [(Settings, "images"), (BuildSettings, "model")])
def test_only_one_parameter_is_positional(kind, first):
    kinds = {name: p.kind for name, p in settings_signature(kind).parameters.items()}

    assert next(iter(kinds)) == first
    assert kinds.pop(first) is inspect.Parameter.POSITIONAL_OR_KEYWORD
    assert set(kinds.values()) == {inspect.Parameter.KEYWORD_ONLY}


def test_the_docstring_explains_every_parameter():
    @takes_settings(Settings)
    def classify(images, **options):
        """Do it."""

    assert classify.__doc__.startswith("Do it.\n\nArgs:\n    images: ")
    assert all(f"    {name}: " in classify.__doc__ for name in Settings.model_fields)
