"""What a request may name: parameters of deployments come from whoever may start a run."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest

from flows import (
    build_command,
    classify_command,
    compact_command,
    inspect_command,
    steps,
    verify_command,
)
from flows.build_engine import build_engine
from flows.classify_dir import classify_dir
from flows.roots import VARIABLE, allowed_roots
from flows.usage import UsageError, checked
from tasks.allowed_roots import AllowedRoots
from tasks.doctor_settings import DoctorSettings
from tasks.errors import SettingsError
from tasks.export_settings import ExportSettings
from tasks.inspect_settings import InspectSettings
from tasks.locations import LOCATIONS
from tasks.settings import BuildSettings, Settings
from tasks.verify_settings import CompactSettings, VerifySettings

DIGITS = Path(__file__).parent.parent.parent / "examples" / "digits"

KINDS = (
    *(Settings, BuildSettings, DoctorSettings, ExportSettings, InspectSettings),
    *(VerifySettings, CompactSettings),
)

NO_PLACES = {
    *("output_name", "embedding_name", "model_id", "run_id", "image_column", "uri_column"),
    *("batch_size", "image_size", "input_size", "resize_size", "workspace", "max_image_memory"),
    *("extensions", "keep_columns", "target_column", "model_sha256"),
}
"""Parameters that are texts and name no file."""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An allowed root with what a run needs, and a forbidden place beside it."""
    for folder in ("allowed/images", "allowed/model", "forbidden", "allowed-not"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "allowed" / "way_out").symlink_to(tmp_path / "forbidden")
    (tmp_path / "allowed" / "loop").symlink_to("loop")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "allowed"))
    return tmp_path


def values(**others):
    return {"images": "allowed/images", "model": "allowed/model", "output": "allowed/out"} | others


def texts(annotation) -> bool:
    """Whether a parameter may be a text of any form."""
    if annotation is str:
        return True
    if get_origin(annotation) is Literal:
        return False
    return any(texts(part) for part in get_args(annotation))


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_is_known_to_name_a_file_or_not_to(kind):
    found = {name for name, field in kind.model_fields.items() if texts(field.annotation)}
    assert found <= LOCATIONS.keys() | NO_PLACES
    assert not LOCATIONS.keys() & NO_PLACES


def test_what_lies_in_a_root_is_allowed(place):
    for images in ("allowed/images", str(place / "allowed"), ["allowed/a.jpg", "allowed/*/b.jpg"]):
        checked(Settings, values(images=images))
    checked(Settings, values(labels="imagenet-1k", preprocess="torchvision-v1"))
    checked(InspectSettings, {"model": "resnet50"})
    checked(ExportSettings, {"source": "timm:resnet50.a1_in1k", "output": "allowed/model2"})


ELSEWHERE = [
    "forbidden",
    "/etc",
    "/",
    ".",
    "..",
    "allowed/../forbidden",
    "allowed/way_out",
    "allowed/way_out/deeper/new",
    "allowed/../../../../../../etc/passwd",
    "allowed-not",
    "~/photos",
]


@pytest.mark.parametrize("text", ELSEWHERE)
@pytest.mark.parametrize(
    "name",
    [
        "images",
        "model",
        "output",
        "labels",
        "preprocess",
        "calibration_images",
        "engine_cache",
        "root",
    ],
)
def test_a_place_elsewhere_is_refused_for_each_parameter(place, name, text):
    if name not in Settings.model_fields:
        pytest.skip("no such parameter in this version")
    with pytest.raises(SettingsError) as refused:
        checked(Settings, values(**{name: text}))
    assert refused.value.exit_code == 2
    assert f"--{name.replace('_', '-')}" in str(refused.value)
    assert repr(text) in str(refused.value)
    assert str(place / "allowed") in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        "allowed/*/../../forbidden/*.jpg",
        "allowed/way_out/*.jpg",
        "*/secret.jpg",
        "/{etc,allowed}/a.jpg",
        "file:///etc/passwd",
        "file://localhost/etc",
        "s3://bucket/images",
    ],
)
def test_patterns_and_uris_do_not_lead_out(place, text):
    with pytest.raises(SettingsError, match="allowed root"):
        checked(Settings, values(images=["allowed/images", text]))


@pytest.mark.parametrize(
    "text",
    [
        "http://169.254.169.254/latest/meta-data/",
        "HTTPS://example.org/a.jpg",
        "ftp://example.org/a",
        "gopher://example.org/",
        "simplecache::s3://bucket/a",
        "zip://a.jpg::http://example.org/a.zip",
        "filecache::http://169.254.169.254/",
        "memory://a",
        "github://owner:repo@main/a",
    ],
)
@pytest.mark.parametrize("name", ["images", "model", "output", "labels", "engine_cache"])
def test_addresses_and_chains_are_refused_everywhere(monkeypatch, name, text):
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(SettingsError, match=f"{name} .*expected a local path"):
        checked(Settings, {"images": "i", "model": "m", "output": "o", name: text})


@pytest.mark.parametrize("scheme", ["s3", "gs", "https", "github"])
def test_a_secret_in_an_address_is_refused_and_not_repeated(monkeypatch, scheme):
    monkeypatch.delenv(VARIABLE, raising=False)
    given = f"{scheme}://AKIAEXAMPLE:hunter2@bucket/photos"
    with pytest.raises(SettingsError, match=rf"'{scheme}://\*\*\*@bucket/photos'") as caught:
        checked(Settings, {"images": given, "model": "m", "output": "o"})
    assert "hunter2" not in str(caught.value)
    assert "AKIAEXAMPLE" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "abc", "g" * 64, "0" * 63, "0" * 65, f"sha256:{'0' * 64}"])
def test_a_digest_is_64_hexadecimal_digits(text):
    with pytest.raises(UsageError, match=r"model_sha256 .* expected 64 hexadecimal digits"):
        checked(Settings, {"images": "i", "model": "m", "output": "o", "model_sha256": text})


def test_a_model_of_another_digest_ends_with_exit_code_2(tmp_path, capsys):
    model = DIGITS / "model"
    digest = hashlib.sha256((model / "model.onnx").read_bytes()).hexdigest()
    asked = [str(DIGITS / "images"), "-m", str(model), "-o", str(tmp_path / "out"), "--direct"]
    assert classify_command.main([*asked, "--model-sha256", "1" * 64]) == 2
    assert f"its SHA-256 is {digest}" in capsys.readouterr().err


def test_odd_names_of_local_files_are_no_addresses(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    for text in ("a::b", "C:/photos", "data/http:/x", "2026-11-22T03:04"):
        checked(Settings, {"images": text, "model": "m", "output": "o"})


@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        (classify_command.main, ["/etc", "-m", "allowed/model", "-o", "allowed/out", "--direct"]),
        (classify_command.main, ["allowed/images", "-m", "/etc", "-o", "allowed/out"]),
        (classify_command.main, ["allowed/images", "-m", "allowed/model", "-o", "forbidden/out"]),
        (build_command.main, ["forbidden/model"]),
        (inspect_command.main, ["resnet50", "--html", "forbidden/page.html"]),
        (verify_command.main, ["forbidden"]),
        (compact_command.main, ["allowed/out", "forbidden/large"]),
        (verify_command.main, ["allowed/out", "--config", "forbidden/options.toml"]),
    ],
)
def test_commands_end_with_exit_code_2(place, main, arguments, capsys):
    (place / "forbidden" / "options.toml").write_text("quick = true\n")
    assert main(arguments) == 2
    assert "allowed root" in capsys.readouterr().err
    assert os.listdir(place / "forbidden") == ["options.toml"]


@pytest.mark.parametrize("kind", ["list", "table", "pattern", "link", "tar"])
def test_what_lists_tables_and_patterns_name_is_held_against_the_roots(
    tmp_path, kind, capsys, monkeypatch
):
    allowed, secret = tmp_path / "allowed", tmp_path / "secret"
    shutil.copytree(DIGITS / "images", allowed / "images")
    shutil.copytree(DIGITS / "images", secret)
    image = min(secret.rglob("*.png"))
    named = {"list": "images.txt", "table": "images.csv", "link": "links.txt"}
    (allowed / "images.txt").write_text(f"{allowed / 'images' / image.name}\n{image}\n")
    (allowed / "images.csv").write_text(f"path\n{image}\n")
    (allowed / "links.txt").write_text("way_out/" + image.name)
    (allowed / "way_out").symlink_to(secret)
    with tarfile.open(secret / "a.tar", "w") as archive:
        archive.add(image, "a.png")
    (allowed / "linked.tar").symlink_to(secret / "a.tar")
    images = str(allowed / named.get(kind, "linked.tar"))
    arguments = [images, "-m", str(DIGITS / "model"), "-o", str(allowed / "out"), "--direct"]

    monkeypatch.setenv(VARIABLE, f"{allowed}:{DIGITS}")
    assert classify_command.main(arguments) == 2
    assert "does not lie in an allowed root once links are followed" in capsys.readouterr().err
    assert list((allowed / "out").rglob("*.parquet")) == []


@pytest.mark.parametrize("flow", [classify_dir, build_engine])
def test_flows_refuse_like_commands(place, flow):
    given = values() if flow is classify_dir else {"model": "allowed/model"}
    with pytest.raises(SettingsError, match="allowed root"):
        checked(Settings if flow is classify_dir else BuildSettings, given | {"model": "/etc"})
    assert "checked" in flow.fn.__code__.co_names


@pytest.mark.parametrize("text", ["", ":", "relative", "/data:relative", "data:/x"])
def test_roots_that_say_nothing_allow_nothing(monkeypatch, text):
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(SettingsError, match="expected absolute directories"):
        allowed_roots()


def test_roots_are_separated_as_in_path(monkeypatch, tmp_path):
    monkeypatch.setenv(VARIABLE, f"{tmp_path}:s3://bucket/in:gs://other/:/data/")
    roots = allowed_roots()
    assert roots.roots == (str(tmp_path), "s3://bucket/in", "gs://other/", "/data")
    assert roots.cover("s3://bucket/in/a.jpg")
    assert roots.cover("gs://other/deep/a.jpg")
    assert roots.cover("/data/a.jpg")
    for text in ("s3://bucket/inside", "s3://bucket", "s3://bucket/in/../out", "gs://othe", "/dat"):
        assert not roots.cover(text)


def test_a_root_may_be_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert AllowedRoots.of([str(tmp_path / "link")]).cover(str(tmp_path / "real" / "a.jpg"))


@pytest.mark.parametrize("flow", [classify_dir, build_engine])
def test_prefect_keeps_no_results_and_would_write_json(flow):
    """Prefect's serializer is pickle by default, and what unpickles runs code."""
    assert flow.persist_result is False
    assert flow.result_serializer == "json"


def test_prefects_tasks_keep_none_either():
    assert steps.KEPT["persist_result"] is False
    for task in (steps._plan, steps._classify, steps._finish):
        assert (task.persist_result, task.result_serializer) == (False, "json")
