"""Verdicts: what fails and why, when a kept one serves, and its file."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.gate import compare
from engines.verdict import FILE, Evidence, Thresholds, judge, read, write

CLASSES = 10
RNG = np.random.default_rng(0)
REFERENCE = (
    RNG.normal(size=(512, CLASSES)) + 4 * np.eye(CLASSES)[np.arange(512) % CLASSES]
).astype(np.float32)
"""Random logits with a clear winner in nearly every row."""


def evidence(candidate=REFERENCE, reference=REFERENCE, **more):
    comparison = compare(
        reference,
        np.asarray(candidate, np.float32),
        images=[f"{row}.jpg" for row in range(len(reference))],
        labels=[f"class {index}" for index in range(CLASSES)],
        **{key: more.pop(key) for key in ("alone", "targets") if key in more},
    )
    return Evidence(**({"comparison": comparison, "wanted": 512, "available": 10**6} | more))


def flipped(count, rows=512):
    """The reference with the best two logits exchanged in the `count` closest calls."""
    candidate = REFERENCE[:rows].copy()
    best_two = np.sort(candidate, axis=1)[:, -2:]
    closest = np.argsort(best_two[:, 1] - best_two[:, 0])[:count]
    second, best = np.argsort(candidate[closest], axis=1)[:, -2:].T
    candidate[closest, best], candidate[closest, second] = (
        candidate[closest, second],
        candidate[closest, best],
    )
    return evidence(candidate, REFERENCE[:rows])


def verdict(found, precision="fp16", agreement=None):
    return judge(precision, found, Thresholds.of(precision, agreement))


def test_what_agrees_passes_and_gives_no_reason():
    good = verdict(evidence(REFERENCE + RNG.normal(0, 1e-3, REFERENCE.shape)))
    assert good.passed
    assert (good.reasons, good.notes) == ((), ())
    assert good.line().startswith(
        "fp16 passed: top-1 agreement with fp32 100.0 % of 512 images (95 % interval 99.2 % to "
        "100.0 %), top-5 100.0 %, worst logit error 0.00"
    )


@pytest.mark.parametrize(("precision", "most"), [("fp16", 5), ("bf16", 10), ("int8", 25)])
def test_each_precision_has_its_own_limit_on_flips(precision, most):
    assert verdict(flipped(most), precision).passed
    failed = verdict(flipped(most + 1), precision)
    assert not failed.passed
    assert f"{most + 1} of 512 images get another label than in fp32" in failed.reasons[0]
    assert "95 % interval" in failed.reasons[0]


def test_one_flag_moves_the_limits_and_leaves_no_spare_flip():
    assert verdict(flipped(1, rows=50)).passed
    assert not verdict(flipped(1, rows=50), agreement=0.99).passed
    assert not verdict(flipped(1, rows=31)).passed
    assert verdict(flipped(50), agreement=0.9).passed
    assert not verdict(flipped(1), agreement=1.0).passed


@given(st.integers(1, 99), st.integers(1, 100))
def test_a_share_in_percent_allows_exactly_its_number_of_flips(percent, hundreds):
    limits = Thresholds.of("fp16", percent / 100)
    assert limits.most_flips(limits.top1, 100 * hundreds) == (100 - percent) * hundreds


def test_a_label_that_is_gone_from_the_five_best_weighs_more():
    candidate = REFERENCE.copy()
    best = REFERENCE[:4].argmax(axis=1)
    candidate[np.arange(4), best] = -99
    reasons = verdict(evidence(candidate)).reasons
    assert reasons[0].startswith("fp32's label is not among the five best of 4 of 512 images")


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_one_logit_that_is_no_number_fails(odd):
    candidate = REFERENCE.copy()
    candidate[7, 3] = odd
    failed = verdict(evidence(candidate), agreement=0.5)
    assert "1 of 512 images have NaN or infinity among their logits" in failed.reasons[0]


def test_a_constant_output_fails_even_where_the_label_is_right():
    reference = REFERENCE.copy()
    reference[:, 4] = 50
    failed = verdict(evidence(np.tile(reference.mean(axis=0), (512, 1)), reference))
    assert not failed.evidence.comparison.flips
    assert "all 512 images have the same logits, and not so in fp32" in failed.reasons
    assert any("the logits are off by 1 of what they vary" in reason for reason in failed.reasons)


def test_rows_that_depend_on_their_batch_fail():
    failed = verdict(evidence(alone=REFERENCE[[1, 0]]))
    assert "an image alone and in a full batch differ by" in failed.reasons[0]
    assert verdict(evidence(alone=REFERENCE[:8] * np.float32(1.001))).passed


def test_what_a_person_should_know_is_noted_and_fails_nobody():
    same = np.tile(REFERENCE[0], (20, 1))
    noted = verdict(evidence(same, same, shared=3))
    assert noted.passed
    text = "; ".join(noted.notes)
    assert "all 20 images have the same logits in fp32, too: the preprocessing is wrong" in text
    assert "20 images say little" in text
    assert "3 of the images were also used for calibration" in text
    broken = REFERENCE.copy()
    broken[0, 0] = np.nan
    assert "the model itself gives NaN" in verdict(evidence(reference=broken)).notes[0]


@pytest.mark.parametrize(
    ("kept", "asked", "enough"),
    [  # (wanted, compared, available), (wanted, available)
        ((512, 512, 10**6), (512, 10**7), True),
        ((512, 512, 10**6), (64, 10**7), True),
        ((512, 512, 10**6), (1000, 10**6), False),
        ((512, 512, 10**6), (1000, 400), True),
        ((512, 40, 50), (512, 99), True),
        ((512, 40, 50), (512, 100), False),
        ((512, 40, 50), (40, 10**6), True),
        ((64, 64, 100), (512, 100), False),
        ((64, 64, 100), (512, 60), True),
    ],
)
def test_a_kept_verdict_serves_unless_more_was_asked_for_or_there_is_much_more(kept, asked, enough):
    wanted, compared, available = kept
    found = replace(flipped(0, rows=compared), wanted=wanted, available=available)
    assert found.suffices(*asked) is enough


def test_a_verdict_survives_its_file(tmp_path):
    assert read(tmp_path) is None
    targets = [row % CLASSES for row in range(512)]
    written = verdict(
        replace(
            evidence(REFERENCE[:, ::-1], alone=REFERENCE[:2, ::-1], targets=targets),
            speeds={"int8": 123.4, "fp16": 99.0},
            measured_on="a GPU, batches of 8",
        )
    )
    write(tmp_path, written)
    assert read(tmp_path) == written
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    better = verdict(flipped(0))
    write(tmp_path, better)
    assert read(tmp_path) == better


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:100],
        lambda text: b"[]",
        lambda text: text.replace(b'"format": 1', b'"format": 2'),
        lambda text: text.replace(b'"flips"', b'"flops"'),
        lambda text: b"\xff" + text,
    ],
)
def test_a_file_that_is_not_understood_is_no_verdict(tmp_path, damage):
    write(tmp_path, verdict(flipped(3)))
    file = tmp_path / FILE
    file.write_bytes(damage(file.read_bytes()))
    assert read(tmp_path) is None


def test_the_file_is_plain_json_for_others_to_read(tmp_path):
    write(tmp_path, verdict(flipped(30)))
    content = json.loads((tmp_path / FILE).read_text())
    assert (content["precision"], content["passed"]) == ("fp16", False)
    assert content["evidence"]["comparison"]["worst_flips"][0].keys() == {
        "image", "reference", "candidate", "reference_margin", "candidate_margin",
    }  # fmt: skip


def test_a_summary_is_flat_and_json():
    summary = verdict(flipped(30)).summary()
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert summary["flips"] == 30
    assert summary["line"] == verdict(flipped(30)).line()
    assert (summary["passed"], summary["wanted"], summary["images"]) == (False, 512, 512)


def test_a_folder_that_is_gone_is_an_error_and_leaves_nothing(tmp_path):
    with pytest.raises(FileNotFoundError):
        write(tmp_path / "evicted", verdict(flipped(0)))


def test_of_two_comparisons_the_one_of_more_images_counts():
    few, many = flipped(10, rows=100), flipped(0, rows=300)
    offered = replace(few, wanted=600, available=900)
    assert few.renewed(many) is many
    kept = many.renewed(offered)
    assert kept.comparison is many.comparison
    assert kept.suffices(600, 900)  # not to be sought in vain every night
    blank = replace(many, comparison=replace(many.comparison, reference_constant=True))
    assert blank.renewed(offered) is offered
    assert not blank.suffices(1, 1)
