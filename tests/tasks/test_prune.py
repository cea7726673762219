"""What --prune may take out, source by source."""

import errno
import os

from shards.sources.parse import open_sources
from shards.sources.source import ListingOptions
from tasks.prune import prune_of
from tasks.settings import Settings

OPTIONS = ListingOptions(extensions=(".jpg",))


def settings(**changes):
    return Settings(images="images", model="model", output="out", **changes)


def prune(path, **changes):
    (source,) = open_sources([str(path)], OPTIONS, "auto")
    source.whole.add(os.fsencode(path) + b"/whole.tar")
    return prune_of(source, settings(prune=True, **changes))


def test_nothing_is_pruned_unasked(tmp_path):
    (source,) = open_sources([str(tmp_path)], OPTIONS, "auto")
    assert prune_of(source, settings()) is None


def test_lists_prune_nothing(tmp_path, caplog):
    (tmp_path / "list.txt").write_text("a.jpg\n")
    assert prune(tmp_path / "list.txt") is None
    assert "says nothing about other images" in caplog.text


def test_only_what_is_sure_to_be_gone_is_pruned(tmp_path, monkeypatch):
    (tmp_path / "here.jpg").touch()
    place = os.fsencode(tmp_path)
    real = os.lstat

    def lstat(path, *arguments, **options):
        if os.fsencode(path).endswith(b"unreadable.jpg"):
            raise OSError(errno.EIO, "Input/output error")
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "lstat", lstat)
    how = prune(tmp_path, prune_limit=0.2, extensions=[".jpg"])
    assert how.limit == 0.2
    answers = {
        b"/gone.jpg": True,
        b"/here.jpg": False,
        b"/here.jpg/below.jpg": True,
        b"/unreadable.jpg": False,
        b"/gone.png": True,
        b"/whole.tar\0member.jpg": True,
        b"/whole.tar\0member.jpg\0" + b"2": True,
        b"/whole.tar\0member.png": False,
        b"/whole.tar\0" + b"000000000007": True,
        b"/gone.tar\0member.jpg": True,
    }
    assert how.gone([place + name for name in answers]) == list(answers.values())
    assert how.gone([b"s3://bucket/a.jpg"]) == [False]
