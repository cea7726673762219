"""The benchmark's photographs are alike in cost, unlike in content, and the same every time."""

import io

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import get_sampling

from benchmarks.images import draw_photo, image_path, write_images


def test_photos_are_420_jpegs_of_imagenets_sizes_that_weigh_48_kb_on_average():
    photos = [draw_photo(0, index) for index in range(40)]
    sizes = []
    for photo in photos:
        with Image.open(io.BytesIO(photo)) as image:
            assert (image.format, image.mode) == ("JPEG", "RGB")
            assert get_sampling(image) == 2  # Pillow's number of 4:2:0
            sizes.append(image.size)
    assert {max(size) for size in sizes} == {500}
    assert 330 <= min(map(min, sizes)) < max(map(min, sizes)) <= 390
    assert any(width < height for width, height in sizes)
    assert 43_000 < np.mean([len(photo) for photo in photos]) < 53_000


def test_a_photo_depends_on_seed_and_index_alone():
    photos = {draw_photo(seed, index) for seed in (0, 1) for index in (0, 1)}
    assert len(photos) == 4
    assert draw_photo(1, 1) in photos


def test_processes_write_what_one_process_writes(tmp_path):
    write_images(tmp_path / "one", 20, processes=1)
    write_images(tmp_path / "two", 20, processes=2)
    for index in range(20):
        expected = image_path(tmp_path / "one", index).read_bytes()
        assert image_path(tmp_path / "two", index).read_bytes() == expected
    assert len(list((tmp_path / "two").rglob("*.jpg"))) == 20


def test_no_folder_holds_more_than_a_thousand(tmp_path):
    assert image_path(tmp_path, 999) == tmp_path / "0000" / "0000999.jpg"
    assert image_path(tmp_path, 1000) == tmp_path / "0001" / "0001000.jpg"
