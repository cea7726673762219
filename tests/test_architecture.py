"""The arrows of docs/architecture.md, held against every import of every module."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("flows", "tasks", "engines", "shards")

MAY_IMPORT = {
    "flows": {"flows", "tasks"},
    "tasks": {"tasks", "engines", "shards"},
    "engines": {"engines"},
    "shards": {"shards"},
}
ONLY_IN = {
    "prefect": {"flows", "tasks"},
    "cyclopts": {"flows"},
    "tensorrt": {"engines"},
    "cuda": {"engines"},
    "onnx": {"engines"},
    "onnxruntime": {"engines"},
    "nvidia": {"engines"},
    "pyarrow": {"shards"},
    "PIL": {"shards"},
}
# Data are never executed: nothing that unpickles.
NOWHERE = {"pickle", "cloudpickle", "joblib", "dill", "pandas"}
# The frameworks that models come from serve export_model, which imports them when it runs.
FRAMEWORKS = {"torch", "torchvision", "timm", "transformers", "onnxscript", "safetensors"}


def modules(package: str) -> Iterator[Path]:
    yield from sorted((ROOT / package).rglob("*.py"))


def imported(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            yield node.module or "", node.lineno


def is_exporter(path: Path) -> bool:
    return path.parent == ROOT / "tasks" and path.name.startswith("export_")


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_follow_the_arrows(package):
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in modules(package)
        for name, line in imported(path)
        if (top := name.split(".")[0])
        and (
            (top in PACKAGES and top not in MAY_IMPORT[package])
            or (top in ONLY_IN and package not in ONLY_IN[top])
            or top in NOWHERE
            or (top in FRAMEWORKS and not is_exporter(path))
            or top in {"tests", "benchmarks", "examples"}
        )
    ]
    assert wrong == []


@pytest.mark.parametrize("package", PACKAGES)
def test_only_flows_reads_the_environment(package):
    if package == "flows":
        pytest.skip("flows hands the environment on")
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in modules(package)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"}
    ]
    assert wrong == []


def test_importing_flows_and_tasks_needs_no_gpu_and_no_framework():
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for package in ("flows", "tasks")
        for path in modules(package)
        if path.name != "__init__.py"
    ]
    code = (
        "import importlib, sys\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        f"late = {sorted({'tensorrt', 'cuda', *FRAMEWORKS})!r}\n"
        "assert not set(late) & set(sys.modules), 'imported too early'\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)


@pytest.mark.parametrize("package", PACKAGES)
def test_modules_and_functions_stay_small(package):
    wrong = []
    for path in modules(package):
        text = path.read_text()
        if text.count("\n") > 400:
            wrong.append(f"{path.relative_to(ROOT)} has {text.count(chr(10))} lines")
        wrong += [
            f"{path.relative_to(ROOT)}:{node.lineno} {node.name} has {length} lines"
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.FunctionDef)
            and (length := (node.end_lineno or 0) - node.lineno + 1) > 60
        ]
    assert wrong == []


@pytest.mark.parametrize("name", ["utils", "util", "common", "helpers", "manager", "misc", "base"])
def test_no_module_is_named_for_nothing(name):
    assert [
        str(path) for package in PACKAGES for path in (ROOT / package).rglob(f"{name}.py")
    ] == []
