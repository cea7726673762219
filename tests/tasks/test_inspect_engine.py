"""From a build on the simulated GPU to the report on it, and what a store of files alone tells."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from engines.errors import ModelError
from engines.gate import compare
from engines.measure import Latency, Throughput
from engines.report.measured import parse_throughput, throughput_json
from engines.report.times import LayerTimes
from engines.store import EngineStore
from engines.store_entry import write_beside
from engines.verdict import Evidence, Thresholds, judge, write
from tasks.build_engine import build_engine
from tasks.engine_comparison import remarks
from tasks.errors import SettingsError
from tasks.inspect_engine import InspectSummary, inspect_engine
from tasks.inspect_settings import InspectSettings
from tasks.settings import BuildSettings
from tests.engines.manifests import manifest
from tests.simulators.records import VERSIONS

GOLDEN = Path(__file__).parent.parent / "golden/engine_report"
MODEL = Path(__file__).parent.parent.parent / "examples/digits/model"

LOG = """\
[INFO] Global timing cache in use. Profiling results in this builder pass will be stored.
[VERBOSE] Original: 40 layers
[VERBOSE] Running: ConvReluFusion on conv1
[VERBOSE] ConvReluFusion: Fusing conv1 with conv1.relu
[VERBOSE] Running: ShuffleErasure on features
[VERBOSE] Removing features
[VERBOSE] After vertical fusions: 23 layers
[VERBOSE] =============== Computing costs for
[VERBOSE] *************** Autotuning format combination: Half(1) -> Half(1) ***************
[VERBOSE] --------------- Timing Runner: conv1 + conv1.relu (CaskConvolution)
[VERBOSE] Tactic: 0x01 Time: 0.5
[VERBOSE] Tactic: 0x02 Time: 0.25
"""

THROUGHPUT = Throughput(
    batch_size=256,
    image_size=(224, 224),
    compute_only=39_500.0,
    with_transfers=38_600.0,
    latency_ms=Latency(p50=7.5, p90=8.0, p99=9.0),
    cuda_graph=False,
    batches=900,
)


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def inspect(cache):
    def run(model: str, **options) -> InspectSummary:
        return inspect_engine(InspectSettings(model=model, engine_cache=str(cache), **options))

    return run


def add_real(cache: Path, *, throughput: Throughput | None = None, **changes) -> Path:
    """Put the real engine's files into the store, under a manifest of ours."""

    def build(folder: Path) -> None:
        (folder / "engine.plan").write_bytes(b"plan")
        name = "resnet50-fp16-8.6.1"
        (folder / "layers.json").write_text((GOLDEN / f"{name}.layers.json").read_text())
        (folder / "nodes.json").write_text((GOLDEN / f"{name}.nodes.json").read_text())
        (folder / "build.log").write_text(LOG)

    with EngineStore(cache).get_or_build(manifest(**changes), build) as engine:
        folder = engine.folder
    if throughput is not None:
        write_beside(folder, "throughput.json", json.dumps(throughput_json(throughput)).encode())
    return folder


def add_profile(folder: Path) -> None:
    times = LayerTimes(
        batch_size=256,
        height=224,
        width=224,
        batches=10,
        names=("conv1 + conv1.relu", "graph_input_cast0", "not in the inspector's list"),
        milliseconds=(3.0, 0.5, 0.5),
        batch_ms=3.5,
    )
    write_beside(folder, "profile.json", json.dumps(times.to_json()).encode())


@pytest.mark.parametrize("version", VERSIONS)
def test_what_was_built_is_inspected_and_profiled(install_gpu, inspect, cache, version):
    machine = install_gpu(version)
    built = build_engine(
        BuildSettings(
            model=str(MODEL), engine_cache=str(cache), precision="fp32", batch_size=8, seconds=0.02
        )
    )
    page = Path(built.engine.report)
    assert page.name == "report.html"
    assert "Not profiled" in page.read_text()

    plain = inspect(str(MODEL))
    assert (plain.key, plain.page) == (built.engine.key, str(page))
    assert plain.tensorrt == version
    assert plain.nodes == sum(len(layer.nodes) for layer in plain.layers) + len(plain.gone)
    assert plain.missing == ()
    assert not plain.profiled
    assert plain.comparison[0].compute_only == built.throughput.compute_only
    assert plain.kernels_tried > 0
    assert {layer.group for layer in plain.layers} == {"fp32"}  # told only at a shape

    timed = inspect(str(MODEL), profile=True, seconds=0.01)
    machine.verify()
    assert machine.leaks() == []
    assert timed.profiled
    assert sum(layer.share for layer in timed.layers) == pytest.approx(1)
    assert "Most time" in page.read_text()


def test_a_real_engine_in_words(inspect, cache):
    folder = add_real(cache, throughput=THROUGHPUT)
    add_profile(folder)
    summary = inspect("resnet50")
    lines = summary.lines()
    assert lines[0] == (
        f"The fp16 engine {folder.name[:12]} of resnet50@0123456789ab: NVIDIA H200, TensorRT 8.6.1."
    )
    assert lines[1] == (
        "31 ONNX nodes became 24 layers, 19 of which run a kernel; 1 is in no layer."
    )
    assert lines[2] == "Of the time: fp16 75.0%, not told 12.5%, reformat 12.5%."
    assert lines[4].split() == ["75.0%", "3.000", "ms", "fp16", "conv1", "+", "conv1.relu"]
    assert (
        "2 kernels were timed; 0 of 1 combinations of layer and formats were answered by the "
        "timing cache." in lines
    )
    assert summary.gone == {"features": "removed (ShuffleErasure)"}
    conv = next(layer for layer in summary.layers if layer.name == "conv1 + conv1.relu")
    assert (conv.nodes, conv.kernels_tried) == (("conv1 (Conv)", "conv1.relu (Relu)"), 2)
    assert json.loads(json.dumps(asdict(summary)))["shares"][0]["group"] == "fp16"


def test_the_page_needs_nothing_else_and_says_everything(inspect, cache, tmp_path):
    add_profile(add_real(cache, throughput=THROUGHPUT))
    inspect("resnet50", html=str(tmp_path / "page.html"))
    page = " ".join((tmp_path / "page.html").read_text().split())
    assert not re.search(r"<script|src=|href=|https?://", page)
    for words in (
        "31 → 19",
        "of the time in fp16",
        "only change dtype or memory format",
        "39,500",
        "prefers-color-scheme: dark",
        "nightshift/softmax + nightshift/top_k",
        "sm90_xmma_fprop_image_first_layer_f16f16_f32_f16_nhwckrsc",
        "removed (ShuffleErasure)",
        "ConvReluFusion 1×",
        "0.250–0.500 ms",
    ):
        assert words in page, words
    assert page.count("<rect class=") == 31 + 19  # a cell for each node, a block for each kernel


def test_names_from_a_model_are_text_and_no_html(inspect, cache):
    folder = add_real(cache, model="<b>x</b>", model_id="<b>x</b>@1")
    inspect("<b>x</b>")
    page = (folder / "report.html").read_text()
    assert "&lt;b&gt;x" in page
    assert "<b>x</b>" not in page


def test_precisions_stand_side_by_side_and_a_slow_one_is_named(inspect, cache):
    add_real(cache, throughput=THROUGHPUT)
    add_real(cache, throughput=replace(THROUGHPUT, compute_only=20_400.0), precision="fp32/1")
    add_real(cache, throughput=replace(THROUGHPUT, compute_only=30_000.0), precision="int8/1")
    add_real(cache, precision="int8/1", gpu_name="NVIDIA L4")
    add_real(cache, precision="int8/1", batch="1:8:8")
    summary = inspect("resnet50", precision="int8")
    assert summary.key == add_real(cache, precision="int8/1", batch="1:8:8").name  # the newest
    summary = inspect("resnet50", precision="fp16")
    rows = [(row.precision, row.batch, row.compute_only) for row in summary.comparison]
    assert rows == [
        ("fp32", "1:256:256", 20_400.0),
        ("fp16", "1:256:256", 39_500.0),
        ("int8", "1:256:256", 30_000.0),
    ]
    assert summary.remarks == (
        "int8 is slower than fp16 on this GPU: 30,000 against 39,500 images/s.",
    )
    assert summary.remarks[0] in (Path(summary.page)).read_text()
    different = replace(summary.comparison[0], batch="1:8:8")
    failed = replace(summary.comparison[2], passed=False, compute_only=None)
    assert remarks([different, failed]) == [
        "int8 failed the comparison with fp32 and does not serve by itself.",
        "The engines serve different batch sizes: compare throughput with care.",
    ]


def test_speeds_that_auto_measured_are_shown_where_nothing_else_is(inspect, cache):
    add_real(cache)
    folder = add_real(cache, precision="int8/1")
    logits = np.eye(4, dtype=np.float32)
    same = compare(logits, logits, images=["a", "b", "c", "d"], labels=["e", "f", "g", "h"])
    speeds = {"int8": 30_000.0, "fp16": 39_000.0}
    measured = Evidence(comparison=same, wanted=4, available=4, speeds=speeds)
    write(folder, judge("int8", measured, Thresholds.of("int8")))
    summary = inspect("resnet50", precision="fp16")
    rows = [(row.precision, row.compute_only, row.with_transfers) for row in summary.comparison]
    assert rows == [("fp16", None, 39_000.0), ("int8", None, 30_000.0)]
    assert summary.remarks == (
        "int8 is slower than fp16 on this GPU: 30,000 against 39,000 images/s.",
    )
    add_real(cache, precision="fp32/1", batch="1:8:8")
    measured = replace(measured, speeds=speeds | {"fp32": 9.0})
    write(folder, judge("int8", measured, Thresholds.of("int8")))
    assert inspect("resnet50", precision="fp16").comparison[0].with_transfers is None


def test_an_engine_is_found_by_the_beginning_of_its_key(inspect, cache):
    folder = add_real(cache)
    assert inspect(folder.name[:8]).key == folder.name
    with pytest.raises(SettingsError, match=r"no int8 engine of .*; it has resnet50 fp16 \("):
        inspect(folder.name[:8], precision="int8")


def test_what_is_not_there_is_said_with_what_is(inspect, cache, tmp_path):
    with pytest.raises(SettingsError, match="no engine of resnet50; it has no engine at all"):
        inspect("resnet50")
    add_real(cache)
    with pytest.raises(SettingsError, match=r"no engine of vgg; it has resnet50 fp16"):
        inspect("vgg")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError):
        inspect(str(tmp_path / "empty"))


def test_old_and_damaged_entries_are_shown_as_far_as_they_go(inspect, cache):
    folder = add_real(cache)
    (folder / "nodes.json").unlink()
    (folder / "build.log").write_text("damaged")
    (folder / "profile.json").write_text("{")
    summary = inspect("resnet50")
    assert summary.nodes is None
    assert summary.kernels_tried is None
    assert len(summary.layers) == 23
    said = "\n".join(summary.missing)
    assert re.search(r"build\.log cannot be used: .* does not have the sha256", said)
    assert re.search(r"profile\.json cannot be used", said)
    assert "There is no nodes.json: built before nodes were listed" in said
    assert summary.lines()[1] == "It has 23 layers, 18 of which run a kernel."


def test_a_page_that_cannot_be_written_where_it_was_asked_for_is_an_error(inspect, cache, tmp_path):
    add_real(cache)
    with pytest.raises(SettingsError, match=r"html \(--html\): .* cannot be written"):
        inspect("resnet50", html=str(tmp_path / "missing" / "page.html"))


def test_throughput_is_kept_as_json():
    content = json.loads(json.dumps(throughput_json(THROUGHPUT)))
    assert parse_throughput(content) == THROUGHPUT
    for change in ({"format": 2}, {"image_size": [1]}, {"latency_ms": {}}):
        with pytest.raises(ValueError, match=r"."):
            parse_throughput(content | change)
