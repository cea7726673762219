"""README.md against the code: what a newcomer copies must be true."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from flows.signature import settings_signature
from tasks.settings import Settings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def section(title: str) -> str:
    return README.split(f"\n{title}\n", 1)[1].split("\n## ", 1)[0]


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_quick_start_is_two_commands_that_set_everything_up_below_the_clone():
    assert blocks("sh") == blocks("sh", section("## Quick start"))
    run, test = blocks("sh")
    for block in (run, test):
        lines = block.splitlines()
        assert lines[0] == "python3 -m venv .venv"
        assert all(line.startswith(".venv/bin/") for line in lines[1:])
        assert "-c constraints.txt" in block
    assert "flows.classify_dir examples/digits/images" in run
    assert "pytest" in test


def test_the_options_are_listed_with_their_defaults():
    rows = re.findall(
        r"^\| `--([a-z0-9-]+)` \| (.*?) \| (.*?) \|$", section("## Reference"), re.MULTILINE
    )
    listed = {name.replace("-", "_"): default.strip("`") for name, default, _ in rows}
    fields = Settings.model_fields
    own = {"images", "model", "output"}
    assert [name for name in listed if name in fields] == [
        name for name in settings_signature(Settings).parameters if name not in own
    ]
    assert set(listed) - {"config", "direct", "json"} == set(fields) - own
    for name in set(fields) - own:
        default = fields[name].default
        shown = (
            {None: "", True: "yes", False: "no"}.get(default)
            if not isinstance(default, list | float | int | str) or isinstance(default, bool)
            else default
        )
        if isinstance(shown, list):
            shown = " ".join(shown)
        assert listed[name] == str(shown), name


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(((?!http)[^)#]+)\)", README))))
def test_links_lead_somewhere(path):
    assert (ROOT / path).exists()


def test_the_example_and_its_queries_work_as_shown(tmp_path, monkeypatch, capsys):
    command = blocks("sh")[0].splitlines()[-1].split()
    assert command[-1] == "out/digits"
    arguments = [sys.executable, *command[1:-1], str(tmp_path / "out/digits"), "--direct"]
    done = subprocess.run(arguments, cwd=ROOT, check=True, capture_output=True, text=True)
    assert "Classified 450 images" in done.stdout
    again = subprocess.run(arguments, cwd=ROOT, check=True, capture_output=True, text=True)
    assert "Nothing to do: all 450 images have their rows already." in again.stdout
    monkeypatch.chdir(tmp_path)
    first, accuracy = blocks("python")
    exec(first, namespace := {})
    exec(accuracy, namespace)
    shown = capsys.readouterr().out
    query = re.search(r'"(SELECT .*)"\)', accuracy)[1]
    ((images, percent),) = duckdb.sql(query).fetchall()
    assert images == 450
    assert percent >= 97
    assert f"({percent} %)" in section("## The table")
    assert str(percent) in shown
