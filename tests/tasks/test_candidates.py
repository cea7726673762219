"""The policy: what competes, what is compared, what serves, and what is decided only once."""

from __future__ import annotations

import json
import logging
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest

import tasks.candidates
from engines.errors import EngineBuildError, ModelError
from engines.gate import Comparison
from engines.locks import FileLock
from engines.verdict import Evidence, Thresholds, judge, read, write
from tasks.candidates import Candidates
from tasks.decision import gate_lines
from tasks.settings import Settings


def evidence(agreement, images=1000, **more):
    flips = round((1 - agreement) * images)
    comparison = Comparison(
        images=images,
        unusable=0,
        flips=flips,
        top1_agreement=1 - flips / images,
        top1_interval=(0.9, 1.0),
        top5_misses=0,
        top5_agreement=1.0,
        top5_overlap=1.0,
        worst_error=0.5,
        median_error=0.1,
        signal=2.0,
        noise=0.05,
        not_finite=0,
        constant=False,
        reference_constant=False,
        batch_difference=0.0,
        accuracy=None,
        worst_flips=(),
    )
    return Evidence(comparison=comparison, wanted=images, available=10**6, **more)


class Machine:
    """A backend and the images, whose agreement and speed are set by precision."""

    def __init__(self, folder, kind="gpu"):
        self.root = folder
        self.usual = {"gpu": "fp16", "cpu": "fp32"}[kind]
        self.wider = {"int8": "fp16" if kind == "gpu" else "fp32", "fp16": "fp32", "bf16": "fp32"}
        self.place = "a device, batches of 64"
        self.agreement = {"int8": 0.97, "fp16": 0.999, "bf16": 0.999}
        self.speed = {"int8": 300.0, "fp16": 200.0, "fp32": 100.0}
        self.errors = {}
        self.failed_before = {}
        self.opened = []
        self.measured = []
        self.compared = []
        self.wanted, self.available, self.calibrates = 1000, 10**6, False
        self.good = None  # images that can be decoded; as many as are wanted
        self.gate = SimpleNamespace(evidence=self._evidence)

    def folder(self, precision):
        folder = self.root / precision
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def failed_build(self, precision):
        return self.failed_before.get(precision)

    def open(self, precision, *, logits=False):
        self.opened.append(precision)
        if precision in self.errors:
            raise self.errors[precision]
        return SimpleNamespace(classifier=_Classifier(precision))

    def _evidence(self, classifier):
        self.compared.append(classifier.precision)
        agreement = self.agreement[classifier.precision]
        if agreement is None:
            return None
        found = evidence(agreement, self.good or self.wanted)
        return replace(found, wanted=self.wanted, available=self.available)

    def measure(self, classifier, seconds):
        self.measured.append(classifier.precision)
        return self.speed[classifier.precision]


class _Classifier:
    def __init__(self, precision):
        self.precision = precision

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        return None


@pytest.fixture
def machine(tmp_path, monkeypatch):
    def make(kind="gpu", **changes):
        made = Machine(tmp_path, kind)
        for name, value in changes.items():
            setattr(made, name, value)
        monkeypatch.setattr(tasks.candidates, "images_per_second", made.measure)
        return made

    return make


def candidates_of(machine, precision="auto", **options):
    settings = Settings(images="i", model="m", output="o", precision=precision, **options)
    return Candidates(settings, machine, machine)


def decide(machine, precision="auto", **options):
    machine.opened.clear()
    decision = candidates_of(machine, precision, **options).decide()
    assert type(decision).model_validate_json(decision.model_dump_json()) == decision
    json.dumps(decision.footer(), allow_nan=False)
    return decision


@pytest.mark.parametrize("precision", ["int8", "fp16", "bf16", "auto"])
def test_what_passes_serves_and_is_compared_once(machine, precision):
    gpu = machine()
    first = decide(gpu, precision)
    served = "fp16" if precision == "auto" else precision
    assert (first.precision, first.gate, first.why) == (served, "passed", "")
    assert gpu.compared == gpu.opened == [served]
    assert decide(gpu, precision) == first
    assert gpu.opened == []


def test_fp32_needs_no_comparison(machine):
    for device in (machine(), machine("cpu")):
        assert decide(device, "fp32").gate == "reference"
    assert decide(device, "auto").precision == "fp32"
    assert device.opened == []


@pytest.mark.parametrize(
    ("kind", "agreement", "served"),
    [
        ("gpu", {"int8": 0.5, "fp16": 0.999}, "fp16"),
        ("gpu", {"int8": 0.5, "fp16": 0.5}, "fp32"),
        ("cpu", {"int8": 0.5}, "fp32"),
    ],
)
def test_what_fails_gives_way_to_the_next_wider_and_says_why(
    machine, caplog, kind, agreement, served
):
    device = machine(kind, agreement=agreement)
    with caplog.at_level(logging.WARNING):
        first = decide(device, "int8")
    assert (first.requested, first.precision) == ("int8", served)
    assert first.why.startswith(f"int8 was asked for, {served} serves: int8 failed the accuracy")
    assert "500 of 1,000 images get another label than in fp32" in first.why
    assert first.why in caplog.text
    assert [trial["precision"] for trial in first.trials] == list(agreement)
    assert first.trials[0]["passed"] is False
    assert decide(device, "int8") == first
    assert device.opened == []  # what has failed is not even opened again
    lines = gate_lines(served, first.record())
    assert lines[0] == f"Precision: {first.why}"
    assert lines[1].startswith("Accuracy gate: ")


def test_of_several_that_pass_the_fastest_is_taken_with_the_figures(machine):
    gpu = machine(calibrates=True)
    first = decide(gpu)
    assert first.precision == "int8"
    assert first.why == ("auto took int8: 300 images/s, 200 with fp16 (a device, batches of 64)")
    assert gpu.measured == ["int8", "fp16"]
    assert decide(gpu) == first
    assert gpu.opened == []
    assert gpu.measured == ["int8", "fp16"]
    assert read(gpu.folder("int8")).evidence.speeds == {"int8": 300.0, "fp16": 200.0}


def test_int8_that_is_slower_is_reported_as_such_and_not_taken(machine):
    gpu = machine(calibrates=True, speed={"int8": 150.0, "fp16": 200.0})
    decision = decide(gpu)
    assert decision.precision == "fp16"
    assert decision.why.startswith("auto took fp16: 200 images/s, 150 with int8")
    assert decide(gpu, "int8").precision == "int8"  # but who asks for it gets it


def test_on_a_cpu_int8_competes_with_fp32(machine):
    cpu = machine("cpu", calibrates=True)
    assert decide(cpu).precision == "int8"
    assert cpu.measured == ["int8", "fp32"]
    assert cpu.compared == ["int8"]
    cpu.speed["int8"] = 50.0
    cpu.place = "another machine"
    decision = decide(cpu)
    assert (decision.precision, decision.gate) == ("fp32", "reference")
    assert gate_lines("fp32", decision.record())[0].startswith("Precision: auto took fp32: 100")


def test_auto_passes_over_int8_that_fails(machine):
    gpu = machine(calibrates=True, agreement={"int8": 0.2, "fp16": 1.0})
    decision = decide(gpu)
    assert (decision.precision, decision.gate) == ("fp16", "passed")
    assert decision.why.startswith("auto took fp16: int8 failed the accuracy gate: 800 of 1,000")
    assert gpu.measured == []


def test_without_the_gate_nothing_is_compared_and_everybody_is_told(machine):
    gpu = machine(wanted=0, calibrates=True)
    assert decide(gpu, "int8", gate_images=0).gate == "off"
    assert gpu.opened == []
    decision = decide(gpu, "auto", gate_images=0)
    assert (decision.precision, decision.gate, gpu.compared) == ("int8", "off", [])
    lines = gate_lines("int8", decision.footer())
    assert lines[-1] == ("Accuracy gate: off (--gate-images 0): nothing was compared with fp32.")


def test_auto_without_the_gate_passes_over_int8_that_cannot_be_built(machine):
    gpu = machine(wanted=0, calibrates=True, errors={"int8": EngineBuildError("mergeScales")})
    decision = decide(gpu, gate_images=0)
    assert (decision.precision, decision.gate) == ("fp16", "off")
    assert decision.why == "auto took fp16: the int8 engine cannot be built: mergeScales"
    gpu.errors["fp16"] = ModelError("too large")
    assert decide(gpu, gate_images=0).precision == "fp32"


def test_without_an_image_there_is_no_verdict_and_the_next_run_tries_again(machine, caplog):
    gpu = machine(agreement={"fp16": None})
    assert decide(gpu).gate == "no images"
    assert "fp16 is not compared with fp32, for want of images" in caplog.text
    gpu.gate = None
    assert decide(gpu).gate == "no images"
    gpu.gate, gpu.agreement = SimpleNamespace(evidence=gpu._evidence), {"fp16": 1.0}
    assert decide(gpu).gate == "passed"


def test_a_model_that_cannot_be_converted_steps_up(machine):
    gpu = machine(errors={"int8": ModelError("no such scale"), "fp16": ModelError("too large")})
    decision = decide(gpu, "int8")
    assert decision.precision == "fp32"
    assert "the model cannot compute in int8: no such scale; the model cannot" in decision.why
    assert decision.trials == ()


def test_an_engine_that_cannot_be_built_steps_up_only_where_auto_tried_int8(machine):
    gpu = machine(errors={"int8": EngineBuildError("mergeScales")}, calibrates=True)
    assert decide(gpu).precision == "fp16"
    with pytest.raises(EngineBuildError):
        decide(gpu, "int8")
    gpu.errors["fp16"], gpu.wanted = EngineBuildError("out of disk"), 5000
    with pytest.raises(EngineBuildError):
        decide(gpu)


@pytest.mark.parametrize("wanted", [1000, 0])
def test_int8_that_could_not_be_built_of_late_is_not_tried_again_by_auto(machine, wanted, caplog):
    gpu = machine(wanted=wanted, calibrates=True, failed_before={"int8": "mergeScales"})
    decision = decide(gpu, gate_images=wanted)
    assert decision.precision == "fp16"
    assert decision.why.startswith("auto took fp16: the int8 engine could not be built, and is ")
    assert decision.why.endswith("mergeScales")
    assert decision.why in caplog.text
    assert "int8" not in gpu.opened
    # Who asks for it gets it, and nothing else than int8 is held against it.
    assert decide(gpu, "int8", gate_images=wanted).precision == "int8"
    gpu.failed_before = {"fp16": "out of disk"}
    assert decide(gpu, gate_images=wanted).why.startswith("auto took int8: 300 images/s")


def test_other_thresholds_are_held_against_the_same_evidence(machine):
    gpu = machine(agreement={"int8": 0.97, "fp16": 0.999})
    assert decide(gpu, "int8").precision == "int8"
    assert decide(gpu, "int8", gate_agreement=0.98).precision == "fp16"
    assert gpu.opened == ["fp16"]
    assert decide(gpu, "int8", gate_agreement=0.97).precision == "int8"
    assert gpu.compared == ["int8", "fp16"]


def test_more_images_are_compared_where_more_are_asked_for(machine):
    gpu = machine()
    decide(gpu)
    gpu.wanted = 2000
    decide(gpu)
    assert gpu.compared == ["fp16", "fp16"]
    assert read(gpu.folder("fp16")).evidence.wanted == 2000


def test_what_an_overlapping_run_decides_meanwhile_holds(machine):
    gpu = machine(agreement={"fp16": 1.0})
    other = judge("fp16", evidence(0.5), Thresholds.of("fp16"))
    plain_open = gpu.open

    def slow_open(precision, **options):
        write(gpu.folder(precision), other)
        return plain_open(precision, **options)

    gpu.open = slow_open
    assert decide(gpu).precision == "fp32"
    assert gpu.compared == []


def test_an_overlapping_run_is_waited_for_and_its_verdict_taken(machine, caplog):
    caplog.set_level(logging.INFO)
    gpu = machine()
    lock = FileLock(gpu.folder("fp16") / "gate.lock")

    def finish_elsewhere():
        write(gpu.folder("fp16"), judge("fp16", evidence(0.5), Thresholds.of("fp16")))
        lock.close()

    other = threading.Timer(0.3, finish_elsewhere)
    other.start()
    assert decide(gpu).precision == "fp32"
    other.join()
    assert "waiting for another run that compares the same" in caplog.text
    assert gpu.compared == []


def test_speeds_that_an_overlapping_run_measures_meanwhile_are_taken(machine):
    gpu = machine(calibrates=True)
    lock = FileLock(gpu.folder("int8") / "gate.lock")
    passed = {
        precision: judge(precision, evidence(1.0), Thresholds.of(precision))
        for precision in ("int8", "fp16")
    }
    for precision, verdict in passed.items():
        write(gpu.folder(precision), verdict)

    def finish_elsewhere():
        found = evidence(1.0, speeds={"int8": 1.0, "fp16": 2.0}, measured_on=gpu.place)
        write(gpu.folder("int8"), judge("int8", found, Thresholds.of("int8")))
        lock.close()

    other = threading.Timer(0.3, finish_elsewhere)
    other.start()
    assert decide(gpu).why.startswith("auto took fp16: 2 images/s, 1 with int8")
    other.join()
    assert gpu.measured == []


def test_few_good_images_among_many_do_not_overrule_what_was_found_on_more(machine):
    gpu = machine(agreement={"fp16": 0.5})
    small = replace(evidence(0.5, 400), wanted=1000, available=400)
    write(gpu.folder("fp16"), judge("fp16", small, Thresholds.of("fp16")))
    gpu.available, gpu.agreement, gpu.good = 5000, {"fp16": 1.0}, 5
    assert decide(gpu).precision == "fp32"
    assert decide(gpu).precision == "fp32"
    assert gpu.compared == ["fp16"]
    assert read(gpu.folder("fp16")).evidence.comparison.images == 400
    gpu.available, gpu.agreement = 10**5, {"fp16": None}
    assert decide(gpu).precision == "fp32"  # no good image at all: what is known still holds


def test_a_first_try_on_blank_pictures_does_not_speak_for_those_that_follow(machine):
    gpu = machine()
    blank = evidence(1.0)
    blank = replace(blank, comparison=replace(blank.comparison, reference_constant=True))
    write(gpu.folder("fp16"), judge("fp16", blank, Thresholds.of("fp16")))
    gpu.agreement, gpu.good = {"fp16": 0.5, "int8": 0.5}, 500
    assert decide(gpu).precision == "fp32"
    assert gpu.compared == ["fp16"]


def test_what_was_noted_is_told_again(machine, caplog):
    caplog.set_level(logging.INFO)
    gpu = machine()
    write(gpu.folder("fp16"), judge("fp16", evidence(1.0, shared=75), Thresholds.of("fp16")))
    decision = decide(gpu)
    note = "75 of the images were also used for calibration, for want of others"
    assert f"gate, decided before: {note}" in caplog.text
    assert f"  {note}" in gate_lines("fp16", decision.record())


def test_a_verdict_of_another_precision_or_of_nobody_is_none(machine):
    gpu = machine()
    write(gpu.folder("fp16"), judge("int8", evidence(0.1), Thresholds.of("int8")))
    assert decide(gpu).precision == "fp16"
    assert gpu.compared == ["fp16"]


def test_an_engine_for_smaller_batches_is_compared_and_keeps_the_precision_if_it_passes(machine):
    gpu = machine(calibrates=True)
    first = decide(gpu)
    assert (first.precision, gpu.compared) == ("int8", ["int8", "fp16"])
    smaller = machine(calibrates=True, root=gpu.root / "smaller")
    smaller.root.mkdir()
    confirmed = candidates_of(smaller).confirm(first)
    assert (confirmed.precision, confirmed.gate, confirmed.why) == ("int8", "passed", first.why)
    assert (smaller.compared, smaller.measured) == (["int8"], [])
    again = candidates_of(smaller).confirm(first)  # of a process that crashed meanwhile
    assert again == confirmed
    assert smaller.compared == ["int8"]


def test_an_engine_for_smaller_batches_that_fails_gives_way_and_says_so(machine, caplog):
    gpu = machine()
    first = decide(gpu)
    smaller = machine(agreement={"fp16": 0.5}, root=gpu.root / "smaller")
    smaller.root.mkdir()
    confirmed = candidates_of(smaller).confirm(first)
    assert (confirmed.precision, confirmed.gate) == ("fp32", "reference")
    assert confirmed.why.startswith("auto took fp32: fp16 failed the accuracy gate: 500 of 1,000")
    assert confirmed.why in caplog.text


@pytest.mark.parametrize("options", [{"wanted": 0}, {"agreement": {"fp16": None}}])
def test_what_was_never_compared_is_not_compared_for_smaller_batches_either(machine, options):
    gpu = machine(**options)
    first = decide(gpu, gate_images=gpu.wanted)
    compared = list(gpu.compared)
    assert candidates_of(gpu).confirm(first) == first
    assert gpu.compared == compared


def test_a_verdict_that_cannot_be_kept_is_decided_again_next_time(machine, caplog, monkeypatch):
    def full(folder, verdict):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tasks.candidates, "write", full)
    gpu = machine()
    assert decide(gpu).gate == decide(gpu).gate == "passed"
    assert gpu.compared == ["fp16", "fp16"]
    assert "the verdict on fp16 cannot be kept: [Errno 28]" in caplog.text
