"""The Dockerfile held against the rest of the repository; no Docker is needed for that."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def instructions(stage: str) -> list[tuple[str, str]]:
    """Keyword and arguments of each instruction of a stage, comments dropped, lines joined."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    found = [(line.split()[0], line.split(None, 1)[1]) for line in lines]
    starts = [at for at, (keyword, _) in enumerate(found) if keyword == "FROM"]
    begin = next(at for at in starts if found[at][1].endswith(f" AS {stage}"))
    end = min((at for at in starts if at > begin), default=len(found))
    return found[begin:end]


def one(stage: str, keyword: str) -> str:
    """The arguments of the only instruction of this kind."""
    [value] = [arguments for found, arguments in instructions(stage) if found == keyword]
    return value


def copied() -> set[str]:
    """What is copied from the build context into any stage."""
    sources: set[str] = set()
    for stage in ("wheel", "cpu", "gpu"):
        for keyword, arguments in instructions(stage):
            if keyword == "COPY":
                sources.update(shlex.split(arguments)[:-1])
    return sources


def test_every_package_of_the_wheel_is_copied_into_the_build():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    assert (
        packages | {"pyproject.toml", "constraints.txt", project["project"]["readme"]} == copied()
    )


def test_what_is_copied_is_all_that_docker_is_sent():
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == copied()


@pytest.mark.parametrize("stage", ["cpu", "gpu"])
def test_an_image_is_the_command_with_no_rights_and_no_banner(stage):
    assert json.loads(one(stage, "ENTRYPOINT")) == ["python", "-m", "flows.classify_dir"]
    user = one(stage, "USER")
    assert re.fullmatch(r"\d+:\d+", user)
    # Ubuntu 24.04, under NVIDIA's images, has a user of its own at 1000.
    assert user not in ("0:0", "1000:1000")
    assert one(stage, "VOLUME") == "/cache"
    assert "XDG_CACHE_HOME=/cache" in one(stage, "ENV").split()


def test_the_two_images_differ_only_in_what_they_install():
    same = {"ENV", "USER", "VOLUME", "WORKDIR", "ENTRYPOINT", "CMD"}
    for keyword in same:
        assert one("cpu", keyword) == one("gpu", keyword)


def test_docker_build_alone_makes_the_gpu_image_from_nvidias_container():
    text = (ROOT / "Dockerfile").read_text()
    assert re.findall(r"^FROM \S+ AS (\w+)", text, flags=re.MULTILINE)[-1] == "gpu"
    assert re.search(r"^ARG BASE=nvcr\.io/nvidia/tensorrt:\d\d\.\d\d-py3$", text, re.MULTILINE)
    assert one("gpu", "FROM") == "${BASE} AS gpu"


def test_the_commands_in_the_guide_name_arguments_that_exist():
    guide = (ROOT / "docs" / "docker.md").read_text()
    dockerfile = (ROOT / "Dockerfile").read_text()
    named = set(re.findall(r"--build-arg (\w+)=", guide))
    assert named == {"BASE", "PYTHON", "TENSORRT_BINDINGS", "CUDA_PYTHON"}
    assert named <= set(re.findall(r"^ARG (\w+)=", dockerfile, flags=re.MULTILINE))
