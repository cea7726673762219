"""Calibration on real images: which are used, what is refused, and what is kept."""

from __future__ import annotations

import json
import logging
import os
import threading
from pathlib import Path

import pytest

import tasks.calibration
from engines.errors import CalibrationError
from engines.locks import FileLock
from engines.model import load_model
from shards.decode import Limits
from tasks.calibration import Images, calibrated
from tasks.decode_into import DecodeInto
from tasks.errors import SettingsError
from tasks.prepare import model_request
from tasks.sample import draw, in_directory
from tasks.settings import BuildSettings

DIGITS = Path(__file__).parent.parent.parent / "examples/digits"


@pytest.fixture(scope="module")
def model():
    return load_model(model_request(BuildSettings(model=str(DIGITS / "model"))))


@pytest.fixture(scope="module")
def fill(model):
    with DecodeInto(model.spec.host, Limits(), workers=2) as fill:
        yield fill


@pytest.fixture
def run(model, fill, tmp_path):
    def call(folder=DIGITS / "images", wanted=48, method="entropy"):
        candidates = in_directory(os.fsencode(folder), extensions=[".jpg", ".png"])
        sample = draw(candidates, front=wanted, back=0)
        return calibrated(
            model,
            Images(directory=str(folder), sample=sample, wanted=wanted),
            fill,
            method=method,
            cache=tmp_path / "cache",
            workers=2,
        )

    return call


@pytest.fixture
def folder(tmp_path):
    """A folder with so many good images, and so many damaged ones that come first in the order."""

    def make(good, damaged=0):
        where = tmp_path / "images"
        where.mkdir()
        for number, path in enumerate(sorted((DIGITS / "images").rglob("*.jpg"))[:good]):
            (where / f"{number}.jpg").write_bytes(path.read_bytes())
        for number in range(damaged):
            (where / f"bad {number}.jpg").write_bytes(b"no image")
        return where

    return make


def test_the_second_time_nothing_is_decoded(run, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    first = run()
    assert (first.calibration.images, len(first.used)) == (48, 48)
    assert "calibrating on 48 images" in caplog.text
    monkeypatch.setattr(tasks.calibration, "_calibrate", None)
    assert run() == first


def test_another_method_or_other_images_are_calibrated_anew(run):
    digests = {run(method=method).calibration.digest for method in ("entropy", "minmax")}
    digests.add(run(wanted=40).calibration.digest)
    assert len(digests) == 3


def test_changed_images_are_calibrated_on_anew(run, folder):
    where = folder(60)
    first = run(where)
    for number in range(10):
        (where / f"{number}.jpg").write_bytes((where / f"{number + 20}.jpg").read_bytes())
    assert run(where).calibration.digest != first.calibration.digest


def test_damaged_images_are_passed_over_and_counted(run, folder, caplog):
    found = run(folder(60, damaged=20))
    assert found.calibration.images == 48
    assert len(found.used) > 48
    assert f"passed over damaged images: {len(found.used) - 48} not_an_image" in caplog.text


def test_a_quarter_is_left_for_the_gate_unless_too_few_would_remain(run, folder):
    assert run(folder(48), wanted=512).calibration.images == 36


def test_32_images_are_enough(run, folder):
    assert run(folder(32)).calibration.images == 32


@pytest.mark.parametrize(("good", "damaged"), [(31, 0), (20, 30)])
def test_fewer_than_32_good_images_are_refused_with_both_numbers(run, folder, good, damaged):
    with pytest.raises(SettingsError, match="needs at least 32 images that can be decoded") as e:
        run(folder(good, damaged))
    assert f"{good} of the {good + damaged} there can" in str(e.value)
    assert ("30 not_an_image" in str(e.value)) == bool(damaged)
    assert e.value.exit_code == 2


def test_copies_of_one_image_are_no_32_images(run, tmp_path):
    where = tmp_path / "copies"
    where.mkdir()
    image = next((DIGITS / "images").rglob("*.jpg")).read_bytes()
    for number in range(40):
        (where / f"{number}.jpg").write_bytes(image)
    with pytest.raises(CalibrationError, match="32 different images"):
        run(where)


@pytest.mark.parametrize("text", ["", "{}", '{"format": 1, "walked": 3, "calibration": "{}"}'])
def test_a_damaged_file_of_the_cache_is_made_again(run, tmp_path, text):
    first = run()
    (file,) = (tmp_path / "cache/calibrations").glob("*.json")
    file.write_text(text)
    assert run() == first
    assert file.read_text() != text


def test_a_file_of_the_cache_that_lacks_a_part_is_made_again(run, tmp_path):
    first = run()
    (file,) = (tmp_path / "cache/calibrations").glob("*.json")
    content = json.loads(file.read_text())
    del content["walked"]
    file.write_text(json.dumps(content))
    assert run() == first


def test_a_run_that_calibrates_the_same_is_waited_for_aloud(run, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    first = run()
    (file,) = (tmp_path / "cache/calibrations").glob("*.json")
    kept = file.read_bytes()
    file.unlink()
    lock = FileLock(file.with_suffix(".lock"))

    def finish_elsewhere():
        file.write_bytes(kept)
        lock.close()

    other = threading.Timer(0.3, finish_elsewhere)
    other.start()
    assert run() == first
    other.join()
    assert "waiting for another run that makes the same" in caplog.text
    assert caplog.text.count("calibrating on") == 1
